"""Links between identifiers to customers, current and as known then."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import steps

_TABLES = {
    "nodes": "One row per identifier.",
    "edges": "One row per observed link between two identifiers.",
    "memberships": "One row per identifier: the customer it belongs to now.",
    "membership_history": "One row per identifier and interval: the customer as known then.",
    "restated_session_keys": "What the models after it must re-state: session keys, and from when.",
    "restated_events": "What the models after it must re-state: events without a session.",
    "restated_orders": "What the models after it must re-state: orders.",
    "restated_customers": "What the models after it must re-state: customers, old and new.",
    "restated_nodes": "What the models after it must re-state: daily activity of identifiers.",
    "restated_feature_customers": "What the models after it must re-state: features of customers as known at any time.",
    "over_shared_since": "One row per identifier that merges nobody any more.",
    "finished_clock": "data_now of the last finished run.",
}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(["identity", name], group_name="identity", kinds={"duckdb"}, deps=[["intermediate", "int_events"]], description=text)
        for name, text in _TABLES.items()
    ]
)
def identity(project: ProjectResource) -> Iterator[dg.MaterializeResult[Any]]:
    metadata = steps.resolve(project.run).as_metadata()
    for name in _TABLES:
        yield dg.MaterializeResult(asset_key=["identity", name], metadata=metadata if name == "memberships" else None)
