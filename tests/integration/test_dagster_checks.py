"""What checks and runs say in Dagster: a failed one is seen on its asset, with what to do, and nothing that a person should know is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, failures, parse_once, served


@pytest.fixture
def world(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrated]:
    parse_once(monkeypatch)
    yield copied(demo, tmp_path, served(demo, monkeypatch))


def test_a_failed_dbt_test_is_red_on_its_asset_and_stops_what_follows(world: Orchestrated) -> None:
    from dagster_project.lib.policies import today

    with world.warehouse() as connection:
        connection.execute("insert into marts.fct_sessions select * from marts.fct_sessions order by session_id limit 1")
    result = world.run("marts/fct_sessions", "published/snapshot", first=today(), last=today())
    assert not result.success and "blocking checks failed: unique_fct_sessions_session_id (1 rows)" in failures(result)[0]
    found = {found.check_name: found for found in result.get_asset_check_evaluations() if found.asset_key == dg.AssetKey(["marts", "fct_sessions"])}
    unique, others = found.pop("unique_fct_sessions_session_id"), found
    assert not unique.passed and unique.severity == dg.AssetCheckSeverity.ERROR and unique.metadata["failing_rows"].value == 1
    assert others and all(check.passed for check in others.values())
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [dg.AssetKey(["marts", "fct_sessions"])]


def test_a_test_that_only_warns_is_a_warning_in_dagster_and_one_that_stops_the_run_an_error(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    served(demo, monkeypatch)
    from dagster_project.lib.dbt_results import manifest, severity

    tests = {node["name"]: severity(unique_id) for unique_id, node in manifest()["nodes"].items() if node["resource_type"] == "test"}
    warnings = {name for name, level in tests.items() if level == dg.AssetCheckSeverity.WARN}
    assert warnings == {"assert_every_consent_scope_is_declared", "assert_every_told_jurisdiction_is_declared"} and len(tests) > 50
