"""Files to raw events: an asset a source, named as the table that it fills."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.project_resource import ProjectResource, project_directory
from waymark.core.settings import load_project
from waymark.pipeline import steps


def _raw_events(source: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=["raw", f"{source}_events"], group_name="ingestion", kinds={"duckdb", "parquet"},
        description=f"Accepted events of source {source}: privacy applied at the door, every row accounted for.",
    )  # fmt: skip
    def raw_events(project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata=steps.ingest(project.run, source).as_metadata())

    return raw_events


SOURCES = sorted(load_project(project_directory()).settings.sources)
raw_events = [_raw_events(source) for source in SOURCES]


_RECORDS = {
    "ingestion_log": "One row per file: rows read = accepted + duplicates + quarantined.",
    "event_conflicts": "All contents of each event id that came with more than one.",
    "run_clock": "data_now: the greatest accepted received_at.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["raw", name], group_name="ingestion", kinds={"duckdb"}, deps=[["raw", f"{source}_events"] for source in SOURCES], description=text)
        for name, text in _RECORDS.items()
    ]
)
def ingestion_records(project: ProjectResource) -> Iterator[dg.MaterializeResult[Any]]:
    with project.run.open_warehouse() as connection:
        accepted = steps.audit_ingestion(connection, project.run.mappings)
    for name in _RECORDS:
        yield dg.MaterializeResult(asset_key=["raw", name], metadata={f"rows accepted from {source}": count for source, count in accepted.items()})
