"""What checks and runs say in Dagster: a failed one is seen on its asset, with what to do, and nothing that a person should know is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, failures, parse_once, served
from waymark.ingestion import Refusal
from waymark.pipeline import steps
from waymark.pipeline.progress import Notice, listening, notice
from waymark.pipeline.steps import Run


@pytest.fixture
def world(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrated]:
    parse_once(monkeypatch)
    yield copied(demo, tmp_path, served(demo, monkeypatch))


@pytest.mark.prove
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


def _refusals(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    return next(found for found in result.get_asset_check_evaluations() if found.check_name == "no_file_is_refused")


@pytest.mark.prove
def test_a_refused_file_is_a_warning_on_its_source_and_in_the_log_of_a_run_that_goes_on(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(run: Run, *, full_refresh: bool) -> bool:
        notice("The models or the sources changed.")
        return steps.prepare(run, full_refresh=full_refresh)

    monkeypatch.setattr("dagster_project.lib.project_resource.prepare", prepare)
    (world.project.home.landing / "waymark_world" / "torn.csv.gz").write_bytes(b"this is no gzip file")
    heard: list[object] = []
    with listening(heard.append):  # as the command line does
        result = world.run("raw/waymark_world_events")
    check = _refusals(result)
    assert result.success and not check.passed and check.severity == dg.AssetCheckSeverity.WARN and "torn.csv.gz" in str(check.metadata["files"].value)
    with world.instance() as instance:
        warned = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.WARNING]
    assert warned[0] == "The models or the sources changed." and len(warned) == 2 and "torn.csv.gz" in warned[1]
    assert Notice("The models or the sources changed.") in heard and any("torn.csv.gz" in str(news) for news in heard if isinstance(news, Refusal))
    (world.project.home.landing / "waymark_world" / "torn.csv.gz").unlink()
    check = _refusals(world.run("raw/waymark_world_events"))
    assert check.passed and check.metadata["files"].value == "none"
