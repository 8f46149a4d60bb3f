"""Links between identifiers to customers, current and as known then."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.day_events import record_days
from dagster_project.lib.figures import figures
from dagster_project.lib.policies import DAILY
from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import stated, steps

_TABLES = {
    "nodes": "One row per identifier.",
    "edges": "One row per link between two identifiers and kind of evidence.",
    "negative_edges": "One row per pair of identifiers that must not be one person's.",
    "memberships": "One row per identifier: the customer it belongs to now.",
    "membership_history": "One row per identifier and interval: the customer as known then.",
    "restatements": "One row per run and customers between which identifiers moved, and why.",
    "restated_session_keys": "What the models after it must re-state: session keys, and from when.",
    "restated_events": "What the models after it must re-state: events without a session.",
    "restated_placements": "What the models after it must re-state: events whose session or customer may be another.",
    "restated_orders": "What the models after it must re-state: orders.",
    "restated_customers": "What the models after it must re-state: customers, old and new.",
    "restated_nodes": "What the models after it must re-state: daily activity of identifiers.",
    "restated_feature_customers": "What the models after it must re-state: features of customers as known at any time.",
    "over_shared_since": "One row per identifier that merges nobody any more.",
    "finished_clock": "data_now of the last finished run.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["identity", name], group_name="identity", kinds={"duckdb"}, deps=[["intermediate", "int_events"]], description=text, skippable=True)
        for name, text in _TABLES.items()
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
