"""Who looks at the warehouse never stands in a run's way: the run waits for him for a moment, and while it writes he is shown what is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from waymark.core.errors import LockHeldError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, connect, rows
from waymark.pipeline.doctor.patient import BeingWrittenError, Patient
from waymark.pipeline.published import open_latest


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / ".waymark")
    home.ensure()
    with home.writer_lock():
        for path in (home.warehouse, home.published):
            with connect(path) as connection:
                connection.execute(f"create table main.told as select '{path.stem}' as word")
    return home


def told(connection: Connection) -> object:
    return rows(connection, "select word from main.told")[0][0]


def test_a_run_that_starts_waits_until_the_warehouse_is_closed(home: Home) -> None:
    waited: list[str] = []
    for opened in (open_latest(home), Patient(home.root.parent).warehouse()):
        with opened as connection, open_latest(home) as beside:
            assert told(connection) == told(beside) == "warehouse"
            with pytest.raises(LockHeldError, match="a process that looks at it"), home.writer_lock(timeout_seconds=0.1, on_wait=waited.append):
                pass
        with home.writer_lock(timeout_seconds=0):
            pass
    assert waited == ["a process that looks at it"] * 2


def test_between_two_steps_of_a_run_the_warehouse_is_not_opened(home: Home) -> None:
    with home.writer_lock(timeout_seconds=0):  # the run has it closed at this moment
        with open_latest(home) as connection:
            assert told(connection) == "waymark"
            connect(home.warehouse).close()
        with pytest.raises(BeingWrittenError, match="being written by process"), Patient(home.root.parent).warehouse():
            pass


def test_without_a_warehouse_what_is_published_is_shown(home: Home) -> None:
    home.warehouse.unlink()
    with open_latest(home) as connection:
        assert told(connection) == "waymark"
