"""Files to raw events: an asset a source, named as the table that it fills."""

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


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["raw", name], group_name="ingestion", kinds={"duckdb"}, deps=[["raw", f"{source}_events"] for source in SOURCES], description=text)
        for name, text in {
            "ingestion_log": "One row per file: rows read = accepted + duplicates + quarantined.",
            "event_conflicts": "All contents of each event id that came with more than one.",
            "run_clock": "data_now: the greatest accepted received_at.",
        }.items()
    ]
)
def ingestion_records(project: ProjectResource) -> None:
    with project.run.open_warehouse() as connection:
        steps.audit_ingestion(connection, project.run.mappings)
