"""Days: what is materialized for them is stated anew, and only where it was wrong does it change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, failures, parse_once, served
from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.warehouse import rows

BUSIEST = "select cast(started_at as date) as day, count(*) from marts.fct_sessions group by day order by 2 desc, 1 limit 1"


@pytest.fixture
def world(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrated]:
    parse_once(monkeypatch)
    yield copied(demo, tmp_path, served(demo, monkeypatch))


def busiest(world: Orchestrated) -> date:
    """The day on which most sessions began."""
    with world.warehouse() as connection:
        return date.fromisoformat(str(rows(connection, BUSIEST)[0][0]))


def _changed(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> list[str]:
    return [table for table in before if before[table] != after[table]]


@pytest.mark.prove
def test_thirty_days_of_a_damaged_warehouse_are_mended_in_one_run_and_nothing_else_changes(world: Orchestrated) -> None:
    sound, day = world.digests(), busiest(world)
    on = f"= date '{day}'"
    with world.warehouse() as connection:
        for statement in (
            f"delete from marts.fct_sessions where cast(started_at as date) {on}",
            f"update marts.fct_journeys set conversion_value = 1, channel_path = 'x' where cast(started_at as date) {on}",
            f"update marts.fct_conversions set value = 0 where cast(occurred_at as date) {on}",
            f"delete from intermediate.int_events_sessionized where cast(occurred_at as date) {on}",
            f"delete from intermediate.int_events where cast(occurred_at as date) {on} and event_type = 'page_viewed'",
        ):
            connection.execute(statement)
    assert len(_changed(sound, world.digests())) == 5
    result = world.run(job="refresh", first=str(day - timedelta(days=20)), last=str(day + timedelta(days=9)))
    assert failures(result) == [] and result.success
    assert _changed(sound, world.digests()) == []
    made = [event for event in result.all_events if event.is_step_materialization and event.asset_key == dg.AssetKey(["marts", "fct_sessions"])]
    assert len({event.partition for event in made}) == 30
    with world.warehouse() as connection:
        assert rows(connection, "select count(*) from raw.lake_files where is_pending") == [(0,)]
        assert rows(connection, "select count(*) from identity.restated_days") == [(0,)]


@pytest.mark.prove
def test_a_day_of_one_mart_is_mended_alone_and_the_snapshot_waits_for_the_others(world: Orchestrated) -> None:
    sound, day = world.digests(), busiest(world)
    with world.warehouse() as connection:
        connection.execute(f"delete from marts.fct_sessions where cast(started_at as date) = date '{day}'")
    result = world.run("marts/fct_sessions", first=str(day), last=str(day))
    assert failures(result) == []
    assert _changed(sound, world.digests()) == []
    alone = world.run("published/snapshot")
    assert not alone.success
    assert "do not hold what is pending yet" in failures(alone)[0] and "job `refresh`" in failures(alone)[0]


def test_a_run_for_what_is_new_asks_for_no_day_and_records_the_days_that_it_took_in(demo: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Orchestrated(demo.directory, served(demo, monkeypatch))
    with world.warehouse() as connection:
        days = {str(day) for (day,) in rows(connection, "select distinct cast(occurred_at as date) from marts.fct_events")}
    with world.instance() as instance:
        run = instance.get_runs()[-1]
        day_of_run = run.tags["dagster/partition"]  # not today's, where midnight lies between
        for table in ("intermediate/int_events", "identity/memberships", "marts/fct_sessions", "features/label_conversion"):
            key = dg.AssetKey(table.split("/"))
            assert instance.get_materialized_partitions(key) == days | {day_of_run}, table
            latest = instance.get_latest_materialization_event(key)
            assert latest and latest.asset_materialization and latest.asset_materialization.partition == day_of_run
        assert run.tags["waymark/states"] == "what is new"


def test_days_that_come_to_an_empty_home_can_be_chosen_and_of_others_that_are_too_early_the_run_says_so(
    demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(demo, monkeypatch)
    from dagster_project.lib import policies

    home, days = Home(tmp_path), policies.days.__wrapped__
    monkeypatch.setattr(policies, "served_project", lambda: SimpleNamespace(home=home))

    def loaded() -> dg.DailyPartitionsDefinition:
        """The days as they are when Dagster loads the code now."""
        found = days()
        monkeypatch.setattr(policies, "days", lambda: found)
        return found

    def stored(day: str) -> None:
        (home.raw_lake / "shop_events" / f"event_date={day}").mkdir(parents=True)

    empty = loaded()
    assert empty.start.date() == wall_now().date() - policies.LONGEST_HISTORY and empty.get_last_partition_key() == policies.today()
    stored("2026-03-01")
    assert policies.days_before() == "" and "2026-03-01" in empty.get_partition_keys()
    assert loaded().start.date() == date(2026, 3, 1) and policies.days_before() == ""
    stored("2026-02-01")
    assert "from 2026-02-01 on" in policies.days_before() and "2026-03-01: to choose earlier ones, reload" in policies.days_before()
