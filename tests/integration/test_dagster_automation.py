"""What starts runs by itself: the sensor of the landing files, schedules, and the conditions under which assets follow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.lib.project_resource import FAILED_FOR_GOOD
from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, served
from waymark.core.clock import wall_now
from waymark.core.errors import AuditError, LockHeldError, SettingsError, StorageError


@pytest.fixture
def world(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrated]:
    definitions = served(demo, monkeypatch)
    made = copied(demo, tmp_path, definitions)
    monkeypatch.setattr("dagster_project.lib.landing.served_project", lambda: made.project)
    yield made


def _known(world: Orchestrated) -> None:
    """What the copied home knows are the files of the home that it was copied from: says the same of its own."""
    from waymark.ingestion.files import save_known, source_files, stamp

    project = world.project
    watched = [project.mapping_path("waymark_world"), *source_files(project, "waymark_world")]
    save_known(project.home, "waymark_world", {str(path): stamp(path) for path in watched})


def _tick(world: Orchestrated, cursor: str | None) -> Any:
    sensor = world.definitions.get_repository_def().get_sensor_def("landing_files")
    with world.instance() as instance:
        return sensor(dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=world.definitions.get_repository_def()))


def _drop(world: Orchestrated, name: str, *, age: float = 60.0) -> Path:
    path = world.project.home.landing / "waymark_world" / name
    path.write_bytes(b"not yet read by anybody")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def _ended(world: Orchestrated, status: str, tags: dict[str, str] | None = None) -> None:
    """A run of `refresh` that has just ended so, without having done anything."""
    job = world.definitions.resolve_job_def("refresh")
    with world.instance() as instance:
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        if status == "failed":
            instance.report_run_failed(run)
        elif status == "stopped":
            instance.report_run_canceled(run)
        else:
            instance.handle_run_event(run.run_id, dg.DagsterEvent("PIPELINE_SUCCESS", job.name))


def _later(monkeypatch: pytest.MonkeyPatch, minutes: float) -> None:
    monkeypatch.setattr("dagster_project.lib.landing.wall_now", lambda: wall_now() + timedelta(minutes=minutes))


def test_the_sensor_asks_once_for_each_state_of_the_files_and_says_what_it_saw(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_project.lib.landing.SETTLE_SECONDS", 30.0)  # however slow the test is
    _known(world)
    quiet = _tick(world, None)
    assert isinstance(quiet, dg.SkipReason) and "no new files" in str(quiet.skip_message) and any(sign.isdigit() for sign in str(quiet.skip_message))
    fresh = _drop(world, "late.csv.gz", age=0.0)
    assert "may still be written: late.csv.gz" in str(_tick(world, None).skip_message)
    os.utime(fresh, (time.time() - 60, time.time() - 60))
    asked = _tick(world, None)
    (request,) = asked.run_requests
    from dagster_project.lib.policies import today

    assert request.partition_key == today() and request.tags["waymark/states"] == "what is new" and request.run_key is None
    (observed,) = asked.asset_events
    assert observed.asset_key == dg.AssetKey(["landing", "waymark_world"]) and observed.metadata["new files"].value == 1
    _ended(world, "done")
    refused = str(_tick(world, asked.cursor).skip_message)
    assert "refused them" in refused and "late.csv.gz" in refused
    _drop(world, "later.csv.gz")
    again = _tick(world, asked.cursor)
    assert again.run_requests and again.cursor != asked.cursor
    with world.instance() as instance:
        job = world.definitions.resolve_job_def("refresh")
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
    assert "queued" in str(_tick(world, asked.cursor).skip_message)


def test_a_file_that_is_being_written_keeps_no_other_waiting(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_project.lib.landing.SETTLE_SECONDS", 30.0)  # however slow the test is
    _known(world)
    _drop(world, "hot.log", age=0.0)
    _drop(world, "whole.csv.gz")
    asked = _tick(world, None)
    assert asked.run_requests[0].tags["waymark/new_files"] == "1" and asked.asset_events[0].metadata["names"].value == "whole.csv.gz"
    _drop(world, "hot.log", age=0.0)
    _ended(world, "done")
    assert "refused them" in str(_tick(world, asked.cursor).skip_message), "the settled files are those that were asked for"


def test_what_a_killed_run_took_in_and_did_not_publish_is_asked_for(world: Orchestrated) -> None:
    _known(world)
    world.project.home.mark_unpublished()
    with world.instance() as instance:
        job = world.definitions.resolve_job_def("retrain")
        running = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert "under way" in str(_tick(world, None).skip_message)
        instance.report_run_failed(running)
    _ended(world, "failed")
    asked = _tick(world, None)
    assert len(asked.run_requests) == 1 and asked.asset_events == []
    world.project.home.unpublished.unlink()
    assert "no new files" in str(_tick(world, asked.cursor).skip_message)


@pytest.mark.prove
def test_a_run_that_failed_by_a_passing_fault_is_asked_for_again_and_not_for_ever(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    _known(world)
    _drop(world, "late.csv.gz")
    asked, waits = _tick(world, None), []
    for _ in range(4):  # the lock was held, say: nothing was begun
        _ended(world, "failed")
        waits.append(next(minutes for minutes in (1, 4, 16, 64) if f"asked for {minutes} min after" in str(_tick(world, asked.cursor).skip_message)))
        _later(monkeypatch, waits[-1] + 0.1)
        asked = _tick(world, asked.cursor)
        assert len(asked.run_requests) == 1 and asked.asset_events == []
        _later(monkeypatch, 0)
    _ended(world, "failed")
    _later(monkeypatch, 10_000)
    assert waits == [1, 4, 16, 64] and "5 runs were asked for already" in str(_tick(world, asked.cursor).skip_message)
    _drop(world, "later.csv.gz")
    assert _tick(world, asked.cursor).run_requests, "other files"


def test_no_run_is_asked_for_again_that_would_fail_again_or_that_somebody_stopped(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    _known(world)
    _drop(world, "late.csv.gz")
    asked = _tick(world, None)
    _later(monkeypatch, 10_000)
    _ended(world, "failed", FAILED_FOR_GOOD)
    assert "would again" in str(_tick(world, asked.cursor).skip_message)
    _ended(world, "stopped")
    assert "stopped by hand" in str(_tick(world, asked.cursor).skip_message)


def test_a_run_says_whether_it_failed_for_good(world: Orchestrated, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception, at: str) -> bool:
        def raises(*_: object, **__: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(at, raises)
            assert not world.run("raw/run_clock").success
        with world.instance() as instance:
            return FAILED_FOR_GOOD.items() <= instance.get_runs(limit=1)[0].tags.items()

    assert not fails(StorageError("the disk is full"), "waymark.pipeline.steps.audit_ingestion")
    assert fails(AuditError("a row too many"), "waymark.pipeline.steps.audit_ingestion")
    assert not fails(LockHeldError("an erasure writes to it"), "dagster_project.lib.project_resource.prepare")
    assert fails(SettingsError("a setting changed"), "dagster_project.lib.project_resource.prepare")


def test_nothing_starts_by_itself_unless_the_settings_say_so_and_a_failure_is_always_told(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = served(demo, monkeypatch).get_repository_def()
    assert {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs} == {
        "landing_files": "STOPPED", "keep_up": "STOPPED", "failure_notice": "RUNNING", "abandoned_runs": "RUNNING",
    }  # fmt: skip
    assert {schedule.name: (schedule.cron_schedule, schedule.default_status.value) for schedule in repository.schedule_defs} == {
        "hourly_refresh": ("0 * * * *", "STOPPED"), "weekly_full_audit": ("0 4 * * 0", "STOPPED"),
    }  # fmt: skip


def test_new_raw_events_are_followed_by_the_tables_of_today_and_these_by_scores_and_snapshot(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = served(demo, monkeypatch)
    from dagster_project.lib.policies import today

    with dg.DagsterInstance.ephemeral() as instance:
        first = dg.evaluate_automation_conditions(definitions, instance)
        instance.report_runless_asset_event(dg.AssetMaterialization(["raw", "waymark_world_events"]))
        second = dg.evaluate_automation_conditions(definitions, instance, cursor=first.cursor)
        for table in ("staging/stg_events", "identity/memberships", "marts/fct_sessions", "features/label_conversion"):
            assert second.get_requested_partitions(dg.AssetKey(table.split("/"))) == {today()}, table
        assert second.get_num_requested(dg.AssetKey(["raw", "waymark_world_events"])) == 0
        graph = definitions.resolve_asset_graph()
        for key in graph.get_all_asset_keys():
            if graph.get(key).partitions_def:
                instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=today()))
        third = dg.evaluate_automation_conditions(definitions, instance, cursor=second.cursor)
        for table in ("models/propensity", "marts/fct_propensity_scores", "published/snapshot", "privacy/erasures"):
            assert third.get_num_requested(dg.AssetKey(table.split("/"))) == 1, table
        assert third.total_requested == 4
        assert dg.evaluate_automation_conditions(definitions, instance, cursor=third.cursor).total_requested == 0


def test_what_failed_a_blocking_check_is_not_followed_until_it_passes(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions, raw, staged = served(demo, monkeypatch), dg.AssetKey(["raw", "waymark_world_events"]), dg.AssetKey(["staging", "stg_events"])

    def checked(instance: dg.DagsterInstance, rule: str, *, passed: bool) -> None:
        severity = dg.AssetCheckSeverity.ERROR
        instance.report_runless_asset_event(dg.AssetCheckEvaluation(asset_key=raw, check_name=rule, passed=passed, metadata={}, severity=severity))

    with dg.DagsterInstance.ephemeral() as instance:
        cursor = dg.evaluate_automation_conditions(definitions, instance).cursor
        instance.report_runless_asset_event(dg.AssetMaterialization(raw))
        checked(instance, "values_are_plausible", passed=False)
        refused = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        assert refused.get_num_requested(staged) == 0
        checked(instance, "values_are_plausible", passed=True)
        checked(instance, "weekly_volume_is_usual", passed=False)  # which warns, and stops nothing
        assert dg.evaluate_automation_conditions(definitions, instance, cursor=refused.cursor).get_num_requested(staged) == 1
