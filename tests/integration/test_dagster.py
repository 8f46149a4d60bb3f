"""The asset graph as Dagster sees it: a change of it is a visible diff of dagster_snapshot.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, served
from waymark.core.services import MLFLOW_PAGE, TABLES_PAGE, claim
from waymark.core.warehouse import rows

SNAPSHOT: dict[str, Any] = json.loads(Path(__file__).with_name("dagster_snapshot.json").read_text(encoding="utf-8"))


@pytest.fixture
def definitions(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    return served(demo, monkeypatch)


def snapshot_of(definitions: dg.Definitions) -> dict[str, Any]:
    """What stands in dagster_snapshot.json: of an asset whether it is external, whole or daily, the others by name."""
    graph, repository = definitions.resolve_asset_graph(), definitions.get_repository_def()
    kinds = {}
    for node in sorted((graph.get(key) for key in graph.get_all_asset_keys()), key=lambda node: node.key):
        kinds[node.key.to_user_string()] = "external" if not node.is_materializable else "daily" if node.partitions_def else "whole"
    return {
        "assets": kinds,
        "jobs": sorted(job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    }


def test_assets_jobs_schedules_and_sensors_are_these(definitions: dg.Definitions) -> None:
    assert snapshot_of(definitions) == SNAPSHOT


def test_every_asset_is_described_owned_and_placed(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for node in (graph.get(key) for key in graph.get_all_asset_keys()):
        named = node.key.to_user_string()
        assert node.description and len(node.description) > 10, named
        assert len(node.owners) == 1 and node.owners[0] in ("team:data-engineering", "team:data-science"), named
        assert node.kinds and node.group_name != "default" and node.tags["waymark/stage"] == node.group_name, named
        if node.is_materializable:
            assert node.pools == {"warehouse"}, named
    assert graph.get(dg.AssetKey(["marts", "fct_journeys"])).owners == ["team:data-engineering"]  # as dbt's documentation says
    assert graph.get(dg.AssetKey(["features", "label_conversion"])).owners == ["team:data-science"]
    assert {graph.get(key).group_name for key in graph.get_all_asset_keys()} == {
        "landing", "ingestion", "identity", "restatement", "staging", "intermediate", "marts", "features", "training", "scoring", "quality", "publishing",
        "privacy",
    }  # fmt: skip


def test_links_to_the_other_pages_are_where_those_are(demo: Ran, definitions: dg.Definitions) -> None:
    from dagster_project.lib.links import model_link, table_link

    graph, sessions = definitions.resolve_asset_graph(), dg.AssetKey(["marts", "fct_sessions"])
    assert str(graph.get(sessions).metadata["dbt docs"].value) == "http://127.0.0.1:8080/#!/model/model.waymark.fct_sessions"
    assert str(graph.get(dg.AssetKey(["models", "propensity"])).metadata["MLflow"].value).startswith("http://127.0.0.1:5000/#/experiments/")
    with claim(demo.home, "dev", "mark") as note:
        note.note([], {TABLES_PAGE: "http://127.0.0.1:8181", MLFLOW_PAGE: "http://127.0.0.1:5151/#/experiments/1/runs"})
        assert str(table_link(demo.home, "model.waymark.fct_sessions")["dbt docs"].value) == "http://127.0.0.1:8181/#!/model/model.waymark.fct_sessions"
        assert str(model_link(demo.home, "propensity")["MLflow"].value).startswith("http://127.0.0.1:5151/#/experiments/")
    assert ":8080/" in str(table_link(demo.home, "model.waymark.fct_sessions")["dbt docs"].value)


def test_lineage_reaches_from_the_files_to_the_snapshot_and_nothing_leads_nowhere(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    reached, todo = set(), [dg.AssetKey(["landing", "waymark_world"])]
    while todo:
        key = todo.pop()
        if key not in reached:
            reached.add(key)
            todo += list(graph.get(key).child_keys)
    assert sorted(key.to_user_string() for key in set(graph.get_all_asset_keys()) - reached) == []
    assert {key.to_user_string() for key in graph.get(dg.AssetKey(["published", "snapshot"])).parent_keys} >= {
        "marts/fct_events", "features/label_conversion", "marts/fct_propensity_scores", "quality/check_results", "raw/ingestion_log",
    }  # fmt: skip


def test_every_dbt_test_and_every_rule_of_a_suite_is_a_check(definitions: dg.Definitions) -> None:
    from dagster_project.lib.dbt_results import manifest
    from dagster_project.lib.suite_checks import suite_selection

    checks = {key.to_user_string() for key in definitions.resolve_asset_graph().asset_check_keys}
    rules = {key.to_user_string() for key in suite_selection().resolve_checks(definitions.resolve_asset_graph())}
    tests = [node for node in manifest()["nodes"].values() if node["resource_type"] == "test"]
    assert len(rules) > 50 and rules <= checks
    promises = {key for key in checks if key.startswith("privacy/erasures:") or key.endswith("_events:no_file_is_refused")}
    assert len(promises) == 3 and len(checks) == len(rules) + len(tests) + len(promises)
    graph = definitions.resolve_asset_graph()
    described = {key.to_user_string(): graph.get_check_spec(key).description or "" for key in graph.asset_check_keys}
    assert [key for key, text in described.items() if len(text) < 15 or not text.rstrip().endswith(".")] == []


def test_the_full_audit_checks_everything_whole_and_makes_nothing(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("full_audit")
    assert job.asset_layer.executable_asset_keys == set()
    assert {node.name for node in job.nodes} == {"raw_checks", "journeys_checks", "features_checks", "scores_checks"}
    assert all(op["config"] == {"full": True} for op in job.run_config["ops"].values())


def test_what_an_asset_shows_is_worth_a_look_and_holds_no_identifier(demo: Ran, definitions: dg.Definitions) -> None:
    world = Orchestrated(demo.directory, definitions)
    with world.instance() as instance:
        made = [name for name, kind in SNAPSHOT["assets"].items() if kind != "external"]
        latest = {name: instance.get_latest_materialization_event(dg.AssetKey(name.split("/"))) for name in made}
    shown = {name: entry.asset_materialization.metadata for name, entry in latest.items() if entry and entry.asset_materialization}
    assert sorted(shown) == sorted(latest)
    for name in ("marts/fct_sessions", "marts/fct_journeys", "identity/nodes", "intermediate/int_events"):
        assert "| ---" in str(shown[name]["preview"].value) and "data:image/png;base64," in str(shown[name]["rows a day"].value), name
    assert shown["marts/fct_sessions"]["dagster/row_count"].value == demo.value("select count(*) from marts.fct_sessions")
    training = str(shown["models/propensity"]["training"].value)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/experiments/\d+/runs/[0-9a-f]{32}\?workflowType=machine_learning", training)
    assert shown["raw/waymark_world_events"]["dagster/size_bytes"].value > 10_000
    for name in ("raw/waymark_world_events", "identity/nodes", "intermediate/int_events", "staging/stg_events", "marts/fct_propensity_scores"):
        assert all(column.type not in ("", "?") for column in shown[name]["dagster/column_schema"].value.columns), name
    for name, found in shown.items():
        # Dagster's UI would show a button in its place.
        assert [label for label, value in found.items() if isinstance(value, dg.MarkdownMetadataValue) and len(str(value.value)) > 1000] == [], name
    columns = shown["marts/fct_journeys"]["dagster/column_lineage"].value.deps_by_column
    assert [dep.asset_key.to_user_string() for dep in columns["conversion_value"]] == ["intermediate/int_conversions_deduplicated"]
    assert {dep.column_name for dep in columns["first_channel"]} >= {"channel"}
    text = json.dumps({name: {key: str(value.value) for key, value in found.items()} for name, found in shown.items()})
    with world.warehouse() as connection:
        identifiers = {str(value) for (value,) in rows(connection, "select identifier_value from identity.nodes where len(identifier_value) > 6")}
        customers = {str(value) for (value,) in rows(connection, "select distinct customer_id from identity.memberships")}
    assert [value for value in identifiers | customers if value in text] == []
