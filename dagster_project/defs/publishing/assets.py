"""Publishing: the pending list is cleared, the marts are audited, and a snapshot is swapped in."""

import dagster as dg

from dagster_project.lib.dbt_results import TRANSLATOR, manifest
from dagster_project.lib.project_resource import ProjectResource
from waymark.core.warehouse import OUTPUT_SCHEMAS
from waymark.pipeline import steps
from waymark.pipeline.publish import publish

_PUBLISHED = [
    *(TRANSLATOR.get_asset_key(node) for node in manifest()["nodes"].values() if node["resource_type"] == "model" and node["schema"] in OUTPUT_SCHEMAS),
    dg.AssetKey(["marts", "fct_propensity_scores"]),
]


@dg.asset(
    key=["published", "snapshot"],
    group_name="publishing",
    kinds={"duckdb"},
    deps=_PUBLISHED,
    description="What analysts read: the marts of the last run whose every blocking check passed.",
)
def snapshot(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    steps.finish(project.run)
    published = publish(project.run, run_id=context.run_id)
    return dg.MaterializeResult(
        metadata={"snapshot_id": published.snapshot_id, "bytes": published.bytes, **{f"rows {name}": count for name, count in published.tables.items()}}
    )
