"""The asset graph as Dagster sees it: a change of it is a visible diff here."""

from __future__ import annotations

import dagster as dg
import pytest

from tests.integration.conftest import Ran

ASSETS = [
    "features/feat_customer_behavior",
    "features/feat_customer_channels",
    "features/feat_customer_value",
    "features/label_conversion",
    "identity/edges",
    "identity/finished_clock",
    "identity/membership_history",
    "identity/memberships",
    "identity/nodes",
    "identity/over_shared_since",
    "identity/restated_customers",
    "identity/restated_events",
    "identity/restated_feature_customers",
    "identity/restated_nodes",
    "identity/restated_orders",
    "identity/restated_session_keys",
    "intermediate/int_conversions_deduplicated",
    "intermediate/int_customer_activity",
    "intermediate/int_events",
    "intermediate/int_events_sessionized",
    "intermediate/int_node_days",
    "intermediate/int_session_steps",
    "marts/dim_customer_aliases",
    "marts/dim_customers",
    "marts/fct_conversions",
    "marts/fct_events",
    "marts/fct_journey_steps",
    "marts/fct_journeys",
    "marts/fct_propensity_scores",
    "marts/fct_sessions",
    "marts/fct_touchpoints",
    "models/propensity",
    "published/snapshot",
    "raw/event_conflicts",
    "raw/ingestion_log",
    "raw/run_clock",
    "raw/waymark_world_events",
    "staging/stg_events",
    "staging/stg_pending_events",
]


@pytest.fixture
def definitions(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("WAYMARK_PROJECT", str(demo.directory))
    from dagster_project.definitions import defs

    return defs()


def test_the_asset_keys_are_these(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert sorted(key.to_user_string() for key in graph.get_all_asset_keys()) == ASSETS


def test_every_asset_is_described_grouped_and_can_be_materialized(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
    assert [node.key.to_user_string() for node in nodes if not node.description] == []
    assert [node.key.to_user_string() for node in nodes if not node.is_materializable] == []
    assert {node.group_name for node in nodes} == {"ingestion", "identity", "staging", "intermediate", "marts", "features", "training", "scoring", "publishing"}


def test_lineage_reaches_from_a_source_to_the_snapshot(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    reached, todo = set(), [dg.AssetKey(["raw", "waymark_world_events"])]
    while todo:
        key = todo.pop()
        if key not in reached:
            reached.add(key)
            todo += list(graph.get(key).child_keys)
    for key in (["intermediate", "int_events"], ["identity", "memberships"], ["marts", "fct_journeys"], ["published", "snapshot"]):
        assert dg.AssetKey(key) in reached


def test_dbt_tests_are_asset_checks(definitions: dg.Definitions) -> None:
    checks = [key.to_user_string() for key in definitions.resolve_asset_graph().asset_check_keys]
    assert len(checks) > 40
    assert any("marts/fct_sessions" in check for check in checks)
