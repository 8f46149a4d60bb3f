"""Links between identifiers to customers, current and as known then."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.day_events import record_days
from dagster_project.lib.figures import figures
from dagster_project.lib.policies import DAILY
from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import stated, steps
from waymark.pipeline.dbt_sources import IDENTITY_LOGS, IDENTITY_TABLES, RESTATEMENT_TABLES


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["identity", name], group_name=group, kinds={"duckdb", "python"}, deps=[["intermediate", "int_events"]], description=text, skippable=True)
        for group, tables in (("identity", IDENTITY_TABLES | IDENTITY_LOGS), ("restatement", RESTATEMENT_TABLES))
        for name, text in tables.items()
    ],
    can_subset=True,
    **DAILY,
)
def identity(context: dg.AssetExecutionContext, project: ProjectResource) -> Iterator[dg.MaterializeResult[Any]]:
    with project.step() as run:
        stated.require_parents(run, [stated.IDENTITY])
        metadata = steps.resolve(run).as_metadata()
        stated.note(run, [stated.IDENTITY])
        found = figures(run, context.selected_asset_keys)
        record_days(context, run, context.selected_asset_keys)
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key, metadata={**found[key], **metadata} if key.path[-1] == "memberships" else found[key])
