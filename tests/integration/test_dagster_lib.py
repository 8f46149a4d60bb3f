"""The adapters between Waymark and Dagster by themselves: no project, no run of the pipeline."""

from __future__ import annotations

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from dagster_project.lib import figures
from dagster_project.lib.column_lineage import column_lineage
from dagster_project.lib.instance import PROCESS_TAG, end_abandoned_runs, instance_folder, process_tag
from dagster_project.lib.notices import notice_of, post
from dagster_project.lib.plots import bars_markdown, bars_png
from dagster_project.lib.project_resource import WHAT_IS_NEW, ProjectResource, asked_days, named_days
from dagster_project.lib.sql_columns import columns_read
from waymark.core.errors import AuditError, LockHeldError, StorageError
from waymark.core.home import Home
from waymark.core.settings import OrchestrationSettings
from waymark.core.warehouse import Connection, connect


@contextmanager
def _instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(instance_folder(Home(folder))) as instance:
        yield instance


@contextmanager
def _webhook(answer: int, wait: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """A server on loopback; its address, and the bodies that it got."""
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(wait)
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook?token=hush", got
    finally:
        server.shutdown()
        server.server_close()


def _broken_job(error: Exception) -> dg.JobDefinition:
    @dg.op(name="breaks")
    def breaks() -> None:
        raise error

    @dg.job(name="broken")
    def broken() -> None:
        breaks()

    return broken


def _unprepared_job(error: Exception) -> dg.JobDefinition:
    """A job that fails before its first step."""

    @dg.resource
    def project() -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as cause:
            raise error from cause

    @dg.op(required_resource_keys={"project"})
    def never() -> None:
        pass

    @dg.job(name="unprepared", resource_defs={"project": project})
    def unprepared() -> None:
        never()

    return unprepared


def _notice(instance: dg.DagsterInstance, job: dg.JobDefinition) -> tuple[str, dict[str, str]]:
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    event = next(event for event in result.all_events if event.event_type_value == "PIPELINE_FAILURE")
    context = dg.build_run_status_sensor_context("failure_notice", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run)
    return result.run_id, notice_of(context.for_run_failure())


def test_a_notice_names_run_job_step_and_the_first_line_and_no_address(tmp_path: Path) -> None:
    with _instance(tmp_path) as instance:
        said = "shop.csv, row 2: no column for ada.lovelace@example.org.\n  The mapping looks for client_id."
        run_id, notice = _notice(instance, _broken_job(dg.Failure(said, allow_retries=False)))
        assert notice["run_id"] == run_id and notice["job"] == "broken" and notice["failed_step"] == "breaks"
        assert notice["error"].startswith("shop.csv, row 2: no column for") and "ada" not in notice["error"] and "mapping looks" not in notice["error"]
        assert _notice(instance, _broken_job(ValueError("broken on purpose\nsecond line")))[1]["error"] == "ValueError: broken on purpose"


def test_a_notice_of_a_run_that_failed_before_its_first_step_says_why_in_the_words_of_the_error(tmp_path: Path) -> None:
    held = LockHeldError("an erasure writes to this home", where="/shop/.waymark", remedy="Wait for it.")
    with _instance(tmp_path) as instance:
        notice = _notice(instance, _unprepared_job(held))[1]
        assert (notice["job"], notice["failed_step"], notice["error"]) == ("unprepared", "", "/shop/.waymark: an erasure writes to this home")
        job = _broken_job(ValueError("no"))
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        event = instance.report_run_failed(run, message="The process of this run was killed.")
        context = dg.build_run_status_sensor_context("failure_notice", dagster_event=event, dagster_instance=instance, dagster_run=run)
        assert notice_of(context.for_run_failure())["error"] == "The process of this run was killed."


def test_a_webhook_gets_json_and_one_that_fails_fails_nothing_and_shows_no_token(caplog: pytest.LogCaptureFixture) -> None:
    notice = {"run_id": "r", "job": "refresh", "failed_step": "events", "error": "boom"}
    assert post(OrchestrationSettings(), notice) is False
    with _webhook(200) as (address, got):
        assert post(OrchestrationSettings(webhook_url=address), notice) is True
        assert json.loads(got[0]) == notice
    logging.getLogger("dagster").propagate = True
    with caplog.at_level(logging.WARNING), _webhook(500) as (address, _):
        assert post(OrchestrationSettings(webhook_url=address), notice) is False
    assert post(OrchestrationSettings(webhook_url="http://127.0.0.1:9/hook?token=hush"), notice) is False
    began = time.monotonic()
    with _webhook(200, wait=3) as (address, _):
        assert post(OrchestrationSettings(webhook_url=address, webhook_timeout_seconds=1), notice) is False
        assert time.monotonic() - began < 2.5
    assert "hush" not in caplog.text


def test_events_that_are_stored_together_are_found_as_if_each_were_stored_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    days = dg.DailyPartitionsDefinition("2025-01-01")

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def by_day(context):  # type: ignore[no-untyped-def]
        return dg.MaterializeResult(metadata={"rows": len(context.partition_keys)}, tags={"kept": "yes"})

    key, found = by_day.key, {}
    for name in ("batched", "single"):
        with _instance(tmp_path / name) as instance:
            if name == "single":
                monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
            tags = {"dagster/asset_partition_range_start": "2025-01-01", "dagster/asset_partition_range_end": "2025-02-09"}
            assert dg.materialize([by_day], instance=instance, tags=tags, selection=[by_day]).success
            latest = instance.get_latest_materialization_event(key)
            assert latest and latest.asset_materialization
            run = instance.get_runs()[0]
            found[name] = (
                sorted(instance.get_materialized_partitions(key)), latest.asset_materialization.partition, latest.asset_materialization.metadata,
                len(instance.all_logs(run.run_id)), len(instance.fetch_materializations(key, limit=100).records), run.status,
                len(instance.event_log_storage.get_event_tags_for_asset(key, filter_tags={"kept": "yes"})),
            )  # fmt: skip
    assert found["batched"] == found["single"]
    assert len(found["batched"][0]) == 40


@pytest.mark.prove
def test_the_event_log_keeps_few_files_open(tmp_path: Path) -> None:
    with _instance(tmp_path) as instance:
        for _ in range(12):
            _broken_job(ValueError("no")).execute_in_process(instance=instance, raise_on_error=False)
        assert len(instance.event_log_storage._engines) <= 8
        assert len(instance.get_runs()) == 12
        assert all(instance.all_logs(run.run_id) for run in instance.get_runs())


def test_a_run_whose_process_was_killed_is_ended_and_a_living_one_is_not(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout.strip()
    with _instance(tmp_path) as instance:
        job = _broken_job(ValueError("no"))
        made = {}
        for name, tags in {"gone": {PROCESS_TAG: json.dumps({"id": int(gone), "started": "1"})}, "here": process_tag(), "elsewhere": {}}.items():
            made[name] = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED).run_id
        reused = {PROCESS_TAG: json.dumps({"id": os.getpid(), "started": "1"})}
        made["reused"] = instance.create_run_for_job(job, tags=reused, status=dg.DagsterRunStatus.STARTED).run_id
        assert set(end_abandoned_runs(instance)) == {made["gone"], made["reused"]}
        assert instance.get_run_by_id(made["gone"]).status == dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
        assert instance.get_run_by_id(made["here"]).status == dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]
        assert end_abandoned_runs(instance) == []


def test_one_writing_run_at_a_time_leaves_the_queue(tmp_path: Path) -> None:
    with _instance(tmp_path) as instance:
        config = instance.event_log_storage.get_pool_config()
        assert config.default_pool_limit == 1 and config.pool_granularity and config.pool_granularity.value == "run"
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        assert type(instance.event_log_storage).__name__ == "HomeEventLogStorage"
        assert not instance.telemetry_enabled


def test_only_a_fault_of_the_disk_is_tried_again_and_never_on_the_command_line() -> None:
    def failed(error: Exception, *, tries_again: bool = True) -> dg.Failure:
        project = ProjectResource(directory=".", tries_again=tries_again)
        project._run = object()  # type: ignore[assignment]
        with pytest.raises(dg.Failure) as raised, project.step():
            raise error
        assert raised.value.__cause__ is error
        return raised.value

    assert failed(StorageError("the disk is full", remedy="Free space.")).allow_retries
    assert failed(OSError(5, "I/O")).allow_retries
    assert not failed(AuditError("two rows too many", remedy="Mend it.")).allow_retries
    assert not failed(ValueError("a fault of ours")).allow_retries
    assert not failed(StorageError("the disk is full", remedy="Free space."), tries_again=False).allow_retries
    assert "Free space." in str(failed(StorageError("the disk is full", remedy="Free space.")).description)


def test_days_are_asked_for_by_name_unless_the_run_is_for_what_is_new() -> None:
    one, many = {"dagster/partition": "2025-03-04"}, {"dagster/asset_partition_range_start": "2025-03-04", "dagster/asset_partition_range_end": "2025-04-02"}
    assert str(asked_days(one)) == str(named_days(one)) and asked_days(one)[0] == asked_days(one)[1]  # type: ignore[index]
    assert [str(day) for day in asked_days(many) or ()] == ["2025-03-04", "2025-04-02"]
    assert asked_days({**one, **WHAT_IS_NEW}) is None and named_days({**one, **WHAT_IS_NEW}) is not None
    assert asked_days({}) is None


def test_a_chart_is_a_png_whose_bars_are_as_high_as_their_values() -> None:
    picture = bars_png([0, 5, 10], width=30, height=20)
    size = int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])
    content = zlib.decompress(picture[picture.index(b"IDAT") + 4 : -16])
    line, lines = bytes(4), []
    for y in range(20):
        assert content[y * 5] == 2  # as the difference from the line above
        line = bytes((byte + above) % 256 for byte, above in zip(content[y * 5 + 1 : y * 5 + 5], line, strict=True))
        lines.append(f"{int.from_bytes(line):032b}")
    heights = [sum(line[x] == "1" for line in lines) for x in (2, 12, 22)]
    assert picture.startswith(b"\x89PNG") and size == (30, 20) and heights == [0, 10, 20]
    assert bars_markdown("events a day", [], []) == "events a day: nothing yet"


def test_a_chart_of_any_length_is_short_enough_to_be_shown_at_once() -> None:
    for count in (1, 7, 119, 120, 121, 365, 5000):
        uneven = [(day * 7919) % 1009 * 1000 for day in range(count)]
        said = bars_markdown("new events a day", ["2025-01-01"] * count, uneven)
        assert len(said) < 1000 and (", 4 to a bar" in said) == (count == 365) and ("to a bar" in said) == (count > 120), (count, len(said))


def test_a_column_is_followed_through_steps_unions_lists_and_itself() -> None:
    tables = {"a.events": ["id", "at", "nodes", "kind"], "a.map": ["node", "who"], "a.own": ["id", "who", "n"]}
    sql = """
        with events as (select * from a.events),
        listed as (select events.id, n.node from events, unnest(events.nodes) as n(node)),
        named as (
            select listed.id, m.who, row_number() over (partition by m.who order by listed.id) as n from listed left join a.map m on m.node = listed.node
        ),
        merged as (select * from named union all select id, who, n from a.own)
        select id, who, n, cast(1 as integer) as fixed, (select max(at) from a.events) as latest from merged
    """
    read = {column: sorted(found) for column, found in columns_read(sql, tables).items()}
    assert read["id"] == [("a.events", "id"), ("a.own", "id")]
    assert read["who"] == [("a.map", "who"), ("a.own", "who")]
    assert set(read["n"]) == {("a.map", "who"), ("a.events", "id"), ("a.own", "n")}
    assert read["fixed"] == [] and read["latest"] == [("a.events", "at")]
    assert columns_read("select from where", tables) == {}


def test_column_lineage_is_read_from_what_the_step_built_and_not_from_what_an_earlier_run_compiled(tmp_path: Path) -> None:
    def node(name: str, *parents: str) -> dict[str, Any]:
        place = {"package_name": "waymark", "original_file_path": f"{name}.sql", "schema": "marts", "name": name}
        return {**place, "resource_type": "model", "depends_on": {"nodes": list(parents)}}

    def compiled(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / "target" / "compiled" / "waymark").mkdir(parents=True, exist_ok=True)
            (tmp_path / "target" / "compiled" / "waymark" / f"{name}.sql").write_text(text)

    @contextmanager
    def warehouse() -> Iterator[Connection]:
        with connect() as connection:
            connection.execute("create schema raw; create schema marts; create table raw.events as select 1 as a, 2 as b")
            connection.execute("create table marts.first as select 1 as x; create table marts.second as select 1 as x")
            yield connection

    def lineage(built: list[str], version: int) -> dict[str, list[str]]:
        run: Any = SimpleNamespace(dbt=SimpleNamespace(folder=tmp_path, target=tmp_path / "target", vars={"version": version}), open_warehouse=warehouse)
        found = column_lineage(run, manifest, lambda node: dg.AssetKey([node["schema"], node["name"]]), built)
        return {
            key.path[-1]: [dep.column_name for dep in metadata["dagster/column_lineage"].deps_by_column.get("x", [])] for key, metadata in found.items()
        }  # fmt: skip

    source = {"schema": "raw", "name": "events"}
    manifest: Any = {"sources": {"s": source}, "nodes": {"m.first": node("first", "s"), "m.second": node("second", "s")}}
    compiled(first="select a as x from raw.events", second="select a as x from raw.events")
    assert lineage(["m.first", "m.second"], 1) == {"first": ["a"], "second": ["a"]}
    compiled(first="select b as x from raw.events")  # the models changed; the second is compiled by a later step
    assert lineage(["m.first"], 2) == {"first": ["b"]}
    compiled(second="select b as x from raw.events")
    assert lineage(["m.second"], 2) == {"first": ["b"], "second": ["b"]}


def test_a_table_of_very_many_rows_is_counted_and_not_read_for_a_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect() as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.fct_touchpoints as select 'email' as channel, timestamp '2026-01-05' as occurred_at from range(2)")
        assert {"preview", "rows a day"} <= set(figures.table_figures(connection, "marts.fct_touchpoints"))
        monkeypatch.setattr(figures, "_MOST_ROWS", 1)
        found = figures.table_figures(connection, "marts.fct_touchpoints")
    assert (found["dagster/row_count"], set(found)) == (2, {"dagster/row_count", "preview"}) and found["preview"].startswith("left out")
