"""Hand-written journeys: every case in one load, and the same tables whatever the way in which its events arrived."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.golden.conftest import CASES, HERE
from tests.golden.harness import TinyWarehouse
from waymark.core.warehouse import connect

Tables = dict[str, list[tuple[object, ...]]]
_CASE_COLUMN = {"events": "event", "sessions": "session", "touchpoints": "touchpoint", "conversions": "conversion", "customers": "customer"}


@pytest.fixture(scope="module")
def at_once(golden: TinyWarehouse, files: list[Path]) -> Path:
    """A copy of the warehouse after one full run over everything."""
    golden.reset(files)
    golden.arrive(3)
    golden.run(full_refresh=True)
    return golden.keep("at_once")


@pytest.fixture(scope="module")
def in_batches(golden: TinyWarehouse, files: list[Path], at_once: Path) -> Path:
    """A copy of the warehouse after three runs over a batch each; the second one died before its end and was run again."""
    golden.reset(files)
    golden.arrive(1)
    golden.run(full_refresh=True, checks=False)
    golden.arrive(2)
    golden.run(full_refresh=False, finish=False, checks=False)
    golden.run(full_refresh=False, checks=False)
    golden.arrive(3)
    golden.run(full_refresh=False)
    return golden.keep("in_batches")


def _rows(warehouse: Path, case: str, table: str, columns: list[str]) -> list[tuple[str, ...]]:
    """A labelled view's rows of one case, as text; without a goal column, those of the goal `purchase`."""
    picked = ", ".join(f"coalesce(replace(replace(cast({column} as varchar), '{case}/', ''), '{case}:', ''), '')" for column in columns)
    goal = "and goal = 'purchase'" if table in ("journeys", "steps", "conversions") and "goal" not in columns else ""
    connection = connect(warehouse, read_only=True)
    try:
        return sorted(
            connection.execute(f"select {picked} from tiny.labelled_{table} where {_CASE_COLUMN.get(table, 'journey')} like '{case}/%' {goal}").fetchall()
        )
    finally:
        connection.close()


# No case has an act of consent: tests/integration/test_consent.py compares these.
WITHOUT_ACTS = {
    *("intermediate.int_consent_denials", "intermediate.int_consent_denied_today", "intermediate.int_consent_events"),
    *("intermediate.int_event_jurisdictions", "marts.fct_consent_intervals"),
}
EXPECTED = [(case, path.stem.removeprefix("expected_")) for case in CASES for path in sorted((HERE / case).glob("expected_*.csv"))]


def _assert_as_written(warehouse: Path, case: str, table: str) -> None:
    with open(HERE / case / f"expected_{table}.csv", newline="") as handle:
        columns, *expected = list(csv.reader(handle))
    assert _rows(warehouse, case, table, columns) == sorted(tuple(row) for row in expected)


@pytest.mark.parametrize(("case", "table"), EXPECTED)
def test_all_at_once_gives_what_is_written(at_once: Path, case: str, table: str) -> None:
    _assert_as_written(at_once, case, table)


@pytest.mark.parametrize(("case", "table"), EXPECTED)
def test_batches_give_what_is_written(in_batches: Path, case: str, table: str) -> None:
    _assert_as_written(in_batches, case, table)


def test_every_case_says_why_it_exists_and_expects_something() -> None:
    assert len(CASES) >= 8
    for case in CASES:
        assert len((HERE / case / "README.md").read_text().split()) > 20, case
        assert any(name == case for name, _ in EXPECTED), case


def _pure_tables(golden: TinyWarehouse, copy: Path) -> Tables:
    golden.put_back(copy)
    return golden.pure_tables()


def test_batches_equal_all_at_once_in_every_row_of_every_table(golden: TinyWarehouse, at_once: Path, in_batches: Path) -> None:
    once, batched = _pure_tables(golden, at_once), _pure_tables(golden, in_batches)
    assert once.keys() == batched.keys() and len(once) >= 12
    for name, rows in once.items():
        assert rows or name in WITHOUT_ACTS, f"{name} is empty: the comparison would show nothing"
        assert batched[name] == rows, name


def test_a_run_with_nothing_new_changes_nothing(golden: TinyWarehouse, in_batches: Path) -> None:
    before = _pure_tables(golden, in_batches)
    golden.run(full_refresh=False, checks=False)
    assert golden.pure_tables() == before


@pytest.mark.prove
def test_a_journey_lapses_when_only_the_clock_moves(golden: TinyWarehouse, in_batches: Path) -> None:
    _pure_tables(golden, in_batches)
    before = dict(golden.read("select journey, status from tiny.labelled_journeys where goal = 'purchase'"))
    golden.set_clock("2025-03-31 00:00:00.000001")
    golden.run(full_refresh=False)
    after = dict(golden.read("select journey, status from tiny.labelled_journeys where goal = 'purchase'"))
    assert {journey for journey in before if before[journey] != after[journey]} == {"journey_timeout/k1"}
    assert after["journey_timeout/k1"] == "lapsed"


def test_no_data_gives_empty_tables(golden: TinyWarehouse) -> None:
    """As in a new home, whose clock stands nowhere: the models' own tests have nothing to say either."""
    golden.reset([], clock=None)
    golden.run(full_refresh=True)
    _assert_empty(golden, clocks=0)


@pytest.mark.prove
def test_no_data_twice_gives_empty_tables(golden: TinyWarehouse) -> None:
    golden.reset([])
    golden.run(full_refresh=True)
    golden.run(full_refresh=False)
    _assert_empty(golden)


def _assert_empty(golden: TinyWarehouse, *, clocks: int = 1) -> None:
    tables = golden.pure_tables()
    assert len(tables.pop("intermediate.int_run_clock")) == clocks, "the one row there is says when, not what"
    assert len(tables) >= 12 and not any(tables.values())
