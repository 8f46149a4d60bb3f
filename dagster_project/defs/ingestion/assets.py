"""Files to raw events: an asset a source, named as the table that it fills, after the files that it takes in."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.dbt_results import described_columns
from dagster_project.lib.figures import figures, source_figures
from dagster_project.lib.instance import POOL
from dagster_project.lib.policies import RETRIES, STEP, days_before
from dagster_project.lib.project_resource import ProjectResource, served_project
from dagster_project.lib.refusals import no_file_is_refused, refused_files
from waymark.pipeline import steps

SOURCES = sorted(served_project().settings.sources)


def _landing(source: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        ["landing", source], group_name="landing", kinds={"file"}, metadata={"files": "\n".join(served_project().file_globs(source))},
        description=f"The files of source {source}, as they arrive. Nothing of ours writes them; the sensor `landing_files` watches them.",
    )  # fmt: skip


def _raw_events(source: str) -> dg.AssetsDefinition:
    key = dg.AssetKey(["raw", f"{source}_events"])

    @dg.asset(
        key=key, group_name="ingestion", kinds={"duckdb", "parquet"}, deps=[["landing", source]], pool=POOL, retry_policy=RETRIES,
        description=f"Accepted events of source {source}: privacy applied at the door, every row accounted for.",
        metadata=described_columns("stg_events"), check_specs=[no_file_is_refused(key)],
    )  # fmt: skip
    def raw_events(project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with project.step() as run:
            report = steps.ingest(run, source)
            return dg.MaterializeResult(metadata={**report.as_metadata(), **source_figures(run, source)}, check_results=[refused_files(report)])

    return raw_events


landing = [_landing(source) for source in SOURCES]
raw_events = [_raw_events(source) for source in SOURCES]


_RECORDS = {
    "ingestion_log": "One row per file: rows read = accepted + duplicates + quarantined.",
    "event_conflicts": "All contents of each event id that came with more than one.",
    "run_clock": "data_now: the greatest accepted received_at.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            ["raw", name], group_name="ingestion", kinds={"duckdb"}, deps=[["raw", f"{source}_events"] for source in SOURCES], description=text, skippable=True
        )
        for name, text in _RECORDS.items()
    ],
    can_subset=True,
    **STEP,
)
def ingestion_records(context: dg.AssetExecutionContext, project: ProjectResource) -> Iterator[dg.MaterializeResult[Any]]:
    if said := days_before():
        context.log.warning(said)
    with project.step() as run:
        with run.open_warehouse() as connection:
            accepted = steps.audit_ingestion(connection, run.mappings)
        for key, found in figures(run, context.selected_asset_keys).items():
            yield dg.MaterializeResult(asset_key=key, metadata={**found, **{f"rows accepted from {source}": count for source, count in accepted.items()}})
