"""Publishing: the pending list is cleared, the marts are audited, and a snapshot is swapped in."""

import dagster as dg

from dagster_project.lib.dbt_results import TRANSLATOR, manifest
from dagster_project.lib.figures import markdown_table
from dagster_project.lib.instance import POOL
from dagster_project.lib.policies import RETRIES
from dagster_project.lib.project_resource import ProjectResource
from expectations.rules import STAGES
from waymark.core.warehouse import OUTPUT_SCHEMAS
from waymark.pipeline import quality, stated, steps
from waymark.pipeline.publish import publish

_PUBLISHED = [
    *(TRANSLATOR.get_asset_key(node) for node in manifest()["nodes"].values() if node["resource_type"] == "model" and node["schema"] in OUTPUT_SCHEMAS),
    dg.AssetKey(["marts", "fct_propensity_scores"]),
    dg.AssetKey(["quality", "check_results"]),
    dg.AssetKey(["raw", "ingestion_log"]),
]


@dg.asset(
    key=["published", "snapshot"], group_name="publishing", kinds={"duckdb"}, deps=_PUBLISHED, pool=POOL, retry_policy=RETRIES,
    description="What analysts read: the marts of the last run whose every blocking check passed.",
)  # fmt: skip
def snapshot(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    with project.step() as run:
        stated.require_all(run)
        quality.require_passed(run, STAGES, of="the snapshot")
        steps.finish(run)
        published = publish(run, run_id=context.run_id)
        tables = dg.MetadataValue.md(markdown_table(("table", "rows"), list(published.tables.items())))
        return dg.MaterializeResult(metadata={"snapshot_id": published.snapshot_id, "dagster/size_bytes": published.bytes, "tables": tables})
