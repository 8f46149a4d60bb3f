"""Whatever changes says so before it does, and what only looks says nothing: else nobody could tell whether readers see what the warehouse holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from waymark.core.settings import load_project
from waymark.core.warehouse import rows
from waymark.ingestion import batch
from waymark.pipeline import learning, retention, steps
from waymark.pipeline.steps import Run

SETTINGS = "name: tiny\nsources: {shop: {mapping: shop.yml, files: ['data/*']}}\nretention: {page_viewed: 30 days}\n"
MAPPING = "source: shop\nformat: csv\ncolumns: {event_id: id, occurred_at: at, event_type: what, anonymous_id: visitor}\n"
FILE = "id,at,what,visitor\n{id},{day}T10:00:00Z,page_viewed,v1\n"


class Stopped(BaseException):
    """Stands for a kill at the change itself."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A project whose one file is taken in, as it stands after a publication."""
    (tmp_path / "waymark.yml").write_text(SETTINGS)
    (tmp_path / "shop.yml").write_text(MAPPING)
    (tmp_path / "data").mkdir()
    land(tmp_path, "a", "2026-03-01")
    run = steps.preflight(load_project(tmp_path))
    assert not is_marked(run)
    steps.prepare(run)
    assert is_marked(run)  # a first run builds every table
    steps.ingest(run, "shop")
    published(run)
    return run


def land(folder: Path, name: str, day: str) -> None:
    (folder / "data" / f"{name}.csv").write_text(FILE.format(id=name, day=day))


def published(run: Run) -> None:
    with run.open_warehouse() as connection:
        connection.execute("update raw.lake_files set is_pending = false")
        connection.execute("update raw.build_state set full_refresh_needed = false")
    run.project.home.unpublished.unlink(missing_ok=True)


def is_marked(run: Run) -> bool:
    return run.project.home.unpublished.exists()


def test_a_run_that_changes_nothing_leaves_no_mark(run: Run) -> None:
    steps.prepare(run)
    steps.ingest(run, "shop")
    steps.restate_days(run, date(2025, 1, 1), date(2025, 1, 2))  # days without events
    with run.open_warehouse() as connection:
        steps.audit_ingestion(connection, run.mappings)
    assert retention.apply_retention(run) == 0
    assert not is_marked(run)


@pytest.mark.parametrize("change", ["rebuild", "code", "file", "refused", "days", "retention"])
def test_what_changes_leaves_a_mark(run: Run, change: str) -> None:
    folder = run.project.directory
    if change == "code":
        with run.open_warehouse() as connection:
            connection.execute("update raw.build_state set build_digest = 'of an older Waymark'")
    elif change == "file":
        land(folder, "b", "2026-03-02")
    elif change == "refused":
        (folder / "data" / "b.csv").write_text("of,other,columns\n1,2,3\n")
    elif change == "retention":
        with run.open_warehouse() as connection:
            connection.execute("update raw.run_clock set data_now = timestamp '2026-05-01'")
            connection.execute("update raw.build_state set full_refresh_needed = true")  # so that it asks no model what consent rests on
    changes: dict[str, Callable[[], Any]] = {
        "rebuild": lambda: steps.prepare(run, full_refresh=True), "code": lambda: steps.prepare(run),
        "file": lambda: steps.ingest(run, "shop"), "refused": lambda: steps.ingest(run, "shop"),
        "days": lambda: steps.restate_days(run, date(2026, 3, 1), date(2026, 3, 1)), "retention": lambda: retention.apply_retention(run),
    }  # fmt: skip
    assert not is_marked(run)
    changes[change]()
    assert is_marked(run)


def test_a_kill_at_the_change_finds_the_mark_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Stopped

    stops: list[tuple[object, str, Callable[[], object]]] = [
        (batch, "write_partitions", lambda: steps.ingest(run, "shop")),
        (steps, "restate_clock", lambda: steps.prepare(run, full_refresh=True)),
        (steps, "request_days", lambda: steps.restate_days(run, date(2026, 3, 1), date(2026, 3, 1))),
        (steps, "resolve_identities", lambda: steps.resolve(run)),
        (type(run.dbt), "build", lambda: steps.transform_models(run, {"fct_sessions"})),
        (learning, "owe_checks", lambda: learning.score(run)),
    ]
    land(run.project.directory, "b", "2026-03-02")
    for module, name, step in stops:
        published(run)
        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(module, name, stopped)
            step()
        assert is_marked(run), name


def test_a_scratch_warehouse_is_no_readers(run: Run, tmp_path: Path) -> None:
    replace(run, warehouse=tmp_path / "scratch" / "warehouse.duckdb").mark_unpublished()
    assert not is_marked(run)


def test_days_that_are_asked_for_make_every_table_old_once(run: Run) -> None:
    """Tables that are made one by one, in runs that all name the same days, must come to an end."""

    def are_made() -> bool:
        with run.open_warehouse() as connection:
            return rows(connection, "select count(*) from raw.stated") == [(1,)]

    with run.open_warehouse() as connection:
        connection.execute("create table raw.stated (name varchar, state varchar)")
    for days, is_new in (((1, 1), True), ((1, 1), False), ((1, 2), True), ((1, 2), False), ((2, 2), False)):
        with run.open_warehouse() as connection:
            connection.execute("delete from raw.stated")
            connection.execute("insert into raw.stated values ('marts.fct_sessions', 'of what is pending')")
        steps.restate_days(run, *(date(2026, 3, day) for day in days))
        assert are_made() is not is_new, days
