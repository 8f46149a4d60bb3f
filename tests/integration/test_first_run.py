"""What a newcomer meets: the demo runs, says what it did, can be asked, traced, verified, and run again."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.integration.conftest import Ran, demo_project, run_project, sql_json, waymark
from waymark.core.settings import load_project
from waymark.core.warehouse import OUTPUTS_FILE, connect

MARTS = [
    *("dim_customer_aliases", "dim_customers", "dim_identity_clusters"),
    *("fct_conversions", "fct_events", "fct_journey_steps", "fct_journeys", "fct_sessions", "fct_touchpoints"),
]
NOW = "dim_consent_now"  # a view of the ledger, of which no digest is made
LEDGER = "fct_consent_intervals"  # the demo's world has no consent events; tests/integration/test_consent.py looks at it


def test_every_mart_is_published_and_holds_rows(demo: Ran) -> None:
    for table in MARTS:
        assert demo.value(f"select count(*) from marts.{table}") > 100, table  # type: ignore[operator]
    assert demo.rows("select count(*), count(data_now) from main.snapshot_info") == [(1, 1)]
    assert demo.home.published.stat().st_mode & 0o777 == 0o444


def test_rows_read_are_accepted_duplicate_or_quarantined(demo: Ran) -> None:
    assert demo.rows("select file from raw.ingestion_log where rows_read <> rows_accepted + rows_duplicate + rows_quarantined") == []
    assert demo.value("select sum(rows_quarantined) from raw.ingestion_log") > 0  # type: ignore[operator]
    assert demo.value("select sum(rows_duplicate) from raw.ingestion_log") > 0  # type: ignore[operator]
    assert demo.value("select sum(rows_accepted) from raw.ingestion_log") == demo.value("select count(*) from marts.fct_events")


def test_the_second_run_says_that_nothing_is_new(demo: Ran) -> None:
    before = demo.home.published.stat().st_mtime_ns
    again = run_project(demo.directory)
    assert (again.code, again.output.startswith("Nothing new")) == (0, True)
    assert demo.home.published.stat().st_mtime_ns == before


def test_sql_prints_a_table_csv_and_json_that_agree(demo: Ran) -> None:
    query = "select status, count(*) as journeys, sum(conversion_value) as value from marts.fct_journeys group by all order by status"
    as_json = sql_json(demo.directory, query)
    as_csv = list(csv.DictReader(io.StringIO(waymark("sql", "--project", demo.directory, "--format", "csv", query).stdout)))
    as_table = waymark("sql", "--project", demo.directory, query).stdout
    assert [row["journeys"] for row in as_json] == [int(row["journeys"]) for row in as_csv]
    assert [row["status"] for row in as_json] == [row["status"] for row in as_csv]
    assert all(str(row["journeys"]) in as_table for row in as_json)


def test_a_query_that_fails_and_one_that_writes_are_refused_in_words(demo: Ran) -> None:
    unknown = waymark("sql", "--project", demo.directory, "select * from marts.no_such_table")
    assert unknown.returncode == 1 and "no_such_table" in unknown.stderr and "Traceback" not in unknown.stderr
    writing = waymark("sql", "--project", demo.directory, "delete from marts.fct_sessions")
    assert writing.returncode == 1 and "read-only" in writing.stderr


def test_path_prints_where_things_are(demo: Ran) -> None:
    for place in ("published", "warehouse", "lake"):
        assert Path(waymark("path", place, "--project", demo.directory).stdout.strip()).exists()


KEYS = {
    "fct_events": "event_id",
    "fct_sessions": "session_id",
    "fct_conversions": "conversion_id",
    "fct_touchpoints": "touchpoint_id",
    "fct_journeys": "journey_id",
    "fct_journey_steps": "journey_id || '/' || step_number",
    "dim_customers": "customer_id",
    "dim_customer_aliases": "alias_customer_id",
    "dim_identity_clusters": "membership_id",
}


@pytest.mark.parametrize("table", ["fct_sessions", "fct_conversions", "fct_journeys", "fct_journey_steps"])
def test_trace_follows_a_row_to_lines_that_hold_its_events(demo: Ran, table: str) -> None:
    key = str(demo.value(f"select {KEYS[table]} from marts.{table} where customer_id is not null order by 1 limit 1"))
    traced = json.loads(waymark("trace", table, key, "--project", demo.directory, "--format", "json").stdout)
    assert traced
    for event in traced:
        source_id = demo.value(f"select source_event_id from marts.fct_events where event_id = '{event['event_id']}'")
        assert str(source_id) in _line(demo.directory / event["file"], event["line"])


def _line(path: Path, number: int) -> str:
    import gzip

    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as handle:
        return handle.read().split(b"\n")[number - 1].decode("utf-8", "replace")


def test_trace_knows_every_mart(demo: Ran) -> None:
    from waymark.pipeline.trace import EVENTS_BEHIND, trace_row

    assert sorted(EVENTS_BEHIND) == sorted([*MARTS, LEDGER, NOW]) and sorted(KEYS) == MARTS
    for table in MARTS:
        key = str(demo.value(f"select {KEYS[table]} from marts.{table} order by 1 limit 1"))
        assert trace_row(load_project(demo.directory), table, key), table


@pytest.mark.prove
def test_verify_finds_the_altered_table_and_every_other_equal(demo: Ran) -> None:
    refused = sorted(demo.home.quarantine.rglob("*.parquet"))
    with connect(demo.home.warehouse) as connection:
        connection.execute("update marts.fct_sessions set event_count = event_count + 1 where session_id = (select min(session_id) from marts.fct_sessions)")
    bad = waymark("verify", "--project", demo.directory)
    with connect(demo.home.warehouse) as connection:
        connection.execute("update marts.fct_sessions set event_count = event_count - 1 where session_id = (select min(session_id) from marts.fct_sessions)")
    assert bad.returncode == 1
    assert "1 tables differ" in bad.stderr and "marts.fct_sessions" in bad.stderr  # all others are as raw gives them
    assert bad.stdout.count("DIFFERENT") == 1 and bad.stdout.count("equal") > 15, bad.stdout
    assert refused and sorted(demo.home.quarantine.rglob("*.parquet")) == refused  # it looks, and touches nothing
    assert not demo.home.unpublished.exists()


def test_every_run_stands_in_dagster_with_its_assets(demo: Ran) -> None:
    import dagster as dg

    from dagster_project.run import instance_folder

    with dg.DagsterInstance.from_config(instance_folder(demo.home)) as instance:
        runs = instance.get_runs()
        assert len(runs) == 1 and runs[0].is_success
        assert demo.value("select run_id from main.snapshot_info") == runs[0].run_id
        assert instance.get_latest_materialization_event(dg.AssetKey(["raw", "waymark_world_events"])) is not None
        assert instance.get_latest_materialization_event(dg.AssetKey(["marts", "fct_journeys"])) is not None


def test_the_true_linkage_is_recovered_exactly(demo: Ran) -> None:
    with connect() as connection:
        truth = str(demo.directory / "truth" / "truth_devices.parquet")
        connection.execute(f"attach '{demo.home.published}' as p (read_only)")
        wrong = connection.execute(f"""
            with seen as (
                select distinct d.anonymous_id, d.component_id, e.customer_id
                from read_parquet('{truth}') d join p.marts.fct_events e on e.anonymous_id = d.anonymous_id
                where e.is_counted
            )
            select (select count(*) from (select component_id from seen group by component_id having count(distinct customer_id) <> 1)),
                   (select count(*) from (select customer_id from seen group by customer_id having count(distinct component_id) <> 1)),
                   (select count(*) from seen), (select count(*) from seen where customer_id is null)
        """).fetchall()[0]
    assert wrong[:2] == (0, 0) and wrong[3] == 0
    assert wrong[2] > 400


def test_true_sessions_are_recovered_exactly(demo: Ran) -> None:
    with connect() as connection:
        truth = str(demo.directory / "truth" / "truth_sessions.parquet")
        connection.execute(f"attach '{demo.home.published}' as p (read_only)")
        only_true, only_found, both = connection.execute(f"""
            with t as (select anonymous_id, started_at, ended_at, event_count from read_parquet('{truth}')),
                 f as (select anonymous_id, started_at, ended_at, event_count from p.marts.fct_sessions)
            select (select count(*) from (from t except from f)), (select count(*) from (from f except from t)),
                   (select count(*) from (from t intersect from f))
        """).fetchall()[0]
    assert (only_true, only_found) == (0, 0)
    assert both > 1_000


@pytest.mark.prove
def test_no_plain_email_or_phone_outside_landing_and_quarantine(demo: Ran) -> None:
    with connect() as connection:
        people = connection.execute(f"select email, phone from read_parquet('{demo.directory / 'truth' / 'truth_persons.parquet'}')").fetchall()
    emails = {email.lower() for email, _ in people if email}
    phones = {re.sub(r"\D", "", phone) for _, phone in people if phone}
    assert len(emails) > 300 and len(phones) > 100
    apart = (demo.home.landing, demo.home.quarantine)
    scanned = 0
    for path in sorted(path for path in demo.home.root.rglob("*") if path.is_file() and not any(folder in path.parents for folder in apart)):
        for text in _texts(path):
            scanned += 1
            lowered = text.lower()
            for at in re.finditer("@|%40", lowered):
                before = re.search(r"[a-z0-9._+-]*$", lowered[max(0, at.start() - 64) : at.start()])
                after = re.match(r"[a-z0-9.-]*", lowered[at.end() : at.end() + 64])
                assert before and after and f"{before.group()}@{after.group()}" not in emails, path
            for found in re.finditer(r"\+?\d[\d ().-]{6,18}\d", lowered):
                assert re.sub(r"\D", "", found.group()) not in phones, path
    assert scanned > 10_000


def _texts(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        with connect() as connection:
            return [str(row[0]) for row in connection.execute(f"select cast(to_json(t) as varchar) from read_parquet('{path}') t").fetchall()]
    texts = [path.read_bytes().decode("latin-1")]
    if path.suffix == ".duckdb" and path.name != OUTPUTS_FILE:  # whose tables are those of the snapshot, too
        with connect(path, read_only=True) as connection:
            tables = connection.execute(
                "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE' and table_catalog = current_database()"
            ).fetchall()
            for schema, table in tables:
                texts += [str(row[0]) for row in connection.execute(f'select cast(to_json(t) as varchar) from {schema}."{table}" t').fetchall()]
    return texts


@pytest.mark.prove
def test_two_runs_in_other_folders_with_other_threads_give_equal_digests(demo: Ran, tmp_path: Path) -> None:
    directory = demo_project(tmp_path / "other" / "project")
    (directory / "waymark.yml").write_text((directory / "waymark.yml").read_text().replace("memory_limit: 1GB", "memory_limit: 1GB\n  threads: 1"))
    assert "threads: 1" in (directory / "waymark.yml").read_text()
    assert waymark("world", "--project", directory, "--customers", "1000").returncode == 0
    ran = run_project(directory)
    assert ran.code == 0, ran.errors
    first, second = (json.loads(home.manifest.read_text()) for home in (demo.home, ran.home))
    assert first["digests"] == second["digests"]
    assert sorted(first["digests"]) == sorted(f"marts.{name}" for name in [*MARTS, LEDGER])


def test_the_readme_shows_what_a_first_run_says(demo: Ran) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    shown = readme.split("<!-- transcript -->")[1].split("```")[1].split("\n", 1)[1]

    def shape(text: str) -> list[str]:
        text = re.sub(r"\b[0-9a-f]{12}\b", "#", text.replace(str(demo.directory), "examples/demo"))
        return [re.sub(r"\s+", " ", re.sub(r"[\d,.]+", "#", line)).strip() for line in text.splitlines() if line.strip()]

    said = shape(demo.errors) + shape(demo.output)
    missing = [line for line in shape(shown) if line not in said]
    assert missing == []
    assert len(shape(shown)) > 15
