"""What holds of the models beside the golden cases: their unit tests, their docs, brute force, and what a failed increment leaves."""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import yaml

from tests.golden.harness import TinyWarehouse
from waymark.core.errors import WaymarkError
from waymark.core.people_settings import ConsentSettings

DBT = Path(__file__).resolve().parents[2] / "dbt"
GAP = timedelta(minutes=30)
LEAST_GROUP = ConsentSettings().least_group
Event = tuple[str, datetime]


@pytest.fixture(scope="module")
def logs() -> dict[str, list[Event]]:
    """A hundred visitors' random logs: label -> events (name, instant). Gaps around the limit, ties, and visits over midnight are likely."""
    random = Random(20250301)
    tick = timedelta(microseconds=1)
    gaps = [timedelta(0), timedelta(seconds=20), timedelta(minutes=12), GAP - tick, GAP, GAP + tick, timedelta(hours=7)]
    found: dict[str, list[Event]] = {}
    for visitor in range(100):
        at = datetime(2025, 3, 1) + timedelta(seconds=random.randrange(5 * 86400), microseconds=random.randrange(1_000_000))
        found[f"v{visitor}"] = events = []
        for number in range(random.randrange(1, 30)):
            events.append((f"v{visitor}_{number}", at))
            at += random.choice(gaps)
    return found


def _brute_force(events: list[tuple[datetime, str]]) -> list[list[str]]:
    """Sessions of one visitor: an event joins the running session unless more than the gap has passed since the event before it."""
    sessions: list[list[str]] = []
    before: datetime | None = None
    for at, event_id in sorted(events):
        if before is None or at - before > GAP:
            sessions.append([])
        sessions[-1].append(event_id)
        before = at
    return sessions


@pytest.fixture(scope="module")
def built(golden: TinyWarehouse, logs: dict[str, list[Event]], tmp_path_factory: pytest.TempPathFactory) -> TinyWarehouse:
    """The hundred logs in one full run; some visitors log in, so that customers have several identifiers."""
    folder = tmp_path_factory.mktemp("random") / "random"
    folder.mkdir()
    with open(folder / "events.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["event", "at", "type", "anonymous_id", "user_id"])
        for visitor, events in logs.items():
            writer.writerows([name, at.isoformat(sep=" "), "page_viewed", visitor, f"u{visitor}" if name.endswith("_0") else ""] for name, at in events)
    golden.reset([folder / "events.csv"])
    golden.arrive(3)
    golden.run(full_refresh=True, checks=False)
    return golden


def _grouped(sessions: list[tuple[str, str, str, str, str, bool, int]], least: int) -> set[tuple[object, ...]]:
    """The aggregate by its rule: what is of too few persons loses its country, then its device type, then its channel; what is so even then is left out.

    sessions: week, channel, device type, country, customer, is engaged, conversions.
    """
    cells: dict[tuple[str, ...], list[tuple[str, bool, int]]] = {}
    for week, channel, device, country, customer, is_engaged, count in sessions:
        cells.setdefault((week, channel, device, country), []).append((customer, is_engaged, count))

    def persons(cell: list[tuple[str, bool, int]]) -> int:
        return len({customer for customer, _, _ in cell})

    for place in (3, 2, 1):
        left: dict[tuple[str, ...], list[tuple[str, bool, int]]] = {}
        for key, cell in cells.items():
            named = key if persons(cell) >= least else (*key[:place], "(other)", *key[place + 1 :])
            left.setdefault(named, []).extend(cell)
        cells = left
    return {
        (*key, persons(cell), len(cell), sum(engaged for _, engaged, _ in cell), sum(count for _, _, count in cell))
        for key, cell in cells.items() if persons(cell) >= least
    }  # fmt: skip


def test_no_row_of_weekly_visits_is_of_few_persons_and_no_session_counts_twice(built: TinyWarehouse) -> None:
    """The view's own SQL over random sessions, among which nearly every group is about as large as it must be."""
    random = Random(20250302)
    names = "week, channel, device_type, country, customer_count, session_count, engaged_session_count, conversion_count"
    with built.open() as connection:
        ((view,),) = connection.execute("select sql from duckdb_views() where view_name = 'agg_weekly_visits'").fetchall()
        query = re.sub(r'[\w".]*\bfct_sessions\b"?', "random_sessions", str(view).partition(" AS ")[2].rstrip("; \n"))
        kept = 0
        for draw in range(40):
            weeks, persons = ["2025-01-06", "2025-01-13"], random.randrange(8, 60)
            sessions = [
                (
                    random.choice(weeks), random.choice("ab"), random.choice("cd"), random.choice("eefg"), f"r{random.randrange(persons)}",
                    draw % 3 == 0, draw % 2,
                )
                for _ in range(random.choice([30, 120, 300]))
            ]  # fmt: skip
            connection.execute("create or replace temp table random_sessions as select * from marts.fct_sessions where false")
            columns = "reporting_date, channel, device_type, country, customer_id, is_engaged, conversion_count"
            values = [list(column) for column in zip(*sessions, strict=True)]
            connection.execute(f"insert into random_sessions ({columns}) select {', '.join(['unnest(?)'] * len(values))}", values)
            found = connection.execute(f"select cast(week as varchar), {names.partition(', ')[2]} from ({query})").fetchall()
            assert len(set(found)) == len(found) and set(found) == _grouped(sessions, LEAST_GROUP), draw
            assert all(row[4] >= LEAST_GROUP for row in found) and sum(row[5] for row in found) <= len(sessions)
            kept += len(found)
        assert kept > 100


@pytest.mark.prove
def test_sessions_equal_brute_force_on_a_hundred_random_logs(built: TinyWarehouse, logs: dict[str, list[Event]]) -> None:
    ids = dict(built.read("select label, event_id from tiny.labels"))
    expected = {tuple(session) for events in logs.values() for session in _brute_force([(at, ids[f"random/{name}"]) for name, at in events])}
    found = built.read("select list(event_id order by event_number) from intermediate.int_events_sessionized group by session_id")
    assert {tuple(session) for (session,) in found} == expected
    assert len(expected) > 300, "too few sessions for a comparison that shows something"
    facts = built.read("select first_event_id, last_event_id, event_count from marts.fct_sessions")
    assert set(facts) == {(session[0], session[-1], len(session)) for session in expected}


def test_every_unit_test_of_the_models_passes(built: TinyWarehouse) -> None:
    outcomes = built.unit_test()
    assert {name: message for name, status, message in outcomes if status != "pass"} == {}
    declared = [test["model"] for path in DBT.glob("models/**/*.yml") for test in yaml.safe_load(path.read_text()).get("unit_tests", [])]
    assert len(outcomes) == len(declared) and len(set(declared)) >= 12


def test_every_column_of_every_model_is_documented_and_none_that_is_not_there(built: TinyWarehouse) -> None:
    documented = {
        model["name"]: [column["name"] for column in model["columns"]]
        for path in DBT.glob("models/**/*.yml")
        for model in yaml.safe_load(path.read_text()).get("models", [])
    }
    found: dict[str, list[str]] = {}
    for table, column in built.read(
        """
        select table_name, column_name from information_schema.columns
        where table_schema in ('staging', 'intermediate', 'marts', 'features') order by table_name, ordinal_position
        """
    ):
        found.setdefault(table, []).append(column)
    assert found == documented


def test_an_increment_that_fails_leaves_the_table_as_it_was(built: TinyWarehouse) -> None:
    """The insert of one alias fails on a row that is not in scope; the deletes before it must not stand."""
    customer, aliases = built.read(
        "select customer_id, list(alias_customer_id order by alias_customer_id) from marts.dim_customer_aliases group by 1 having count(*) > 1 order by 1"
    )[0]
    with built.open() as connection:
        connection.execute("insert into identity.restated_customers values (?)", [customer])
        connection.execute("update marts.dim_customer_aliases set customer_id = 'c_elsewhere' where alias_customer_id = ?", [aliases[0]])
        connection.execute("create unique index stops_the_insert on marts.dim_customer_aliases (alias_customer_id)")
    before = built.read("select * from marts.dim_customer_aliases order by all")
    with pytest.raises(WaymarkError, match="dim_customer_aliases"):
        built.dbt.build(select="dim_customer_aliases", full_refresh=False)
    assert built.read("select * from marts.dim_customer_aliases order by all") == before
    assert (aliases[1], customer) in before, "nothing of the customer was there to be deleted: the test would show nothing"
    with built.open() as connection:
        connection.execute("drop index marts.stops_the_insert")
        connection.execute("insert into identity.restated_customers values ('c_elsewhere')")
    built.dbt.build(select="dim_customer_aliases", full_refresh=False)
    assert (aliases[1], customer) in built.read("select * from marts.dim_customer_aliases")


def test_a_value_without_a_rate_stops_the_run_and_is_named(golden: TinyWarehouse, tmp_path: Path) -> None:
    case = tmp_path / "rateless"
    case.mkdir()
    (case / "events.csv").write_text("event,at,type,anonymous_id,value,currency\ne1,2025-03-01 10:00:00,order_completed,v1,10,XAU\n")
    golden.reset([case / "events.csv"])
    golden.arrive(3)
    with pytest.raises(WaymarkError, match="assert_every_value_has_a_rate"):
        golden.run(full_refresh=True)
    assert golden.read("select currency, value, value_reporting is null from intermediate.int_events") == [("XAU", 10, True)]
