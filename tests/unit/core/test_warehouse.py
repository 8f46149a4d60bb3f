"""One file, several processes: who writes waits for a glance at it by another, and says who keeps it open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from waymark.core import warehouse
from waymark.core.errors import StorageError
from waymark.core.warehouse import connect

LOOK = "import duckdb, sys; shell = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); sys.stdin.readline()"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the warehouse open, to read it, until a line comes."""
    connect(tmp_path / "warehouse.duckdb").close()
    process = subprocess.Popen([sys.executable, "-c", LOOK, str(tmp_path / "warehouse.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "open\n"
    yield process
    process.communicate()


def test_a_writer_waits_for_who_looks_at_the_file_for_a_moment(tmp_path: Path, shell: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "_PATIENCE_SECONDS", 60)
    timer = Timer(0.3, shell.communicate, ["\n"])
    timer.start()
    with connect(tmp_path / "warehouse.duckdb") as connection:
        connection.execute("create table made as select 1")
    timer.join()


def test_a_file_that_stays_open_elsewhere_is_told_with_its_process(tmp_path: Path, shell: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "_PATIENCE_SECONDS", 0.3)
    with pytest.raises(StorageError, match=f"PID {shell.pid}") as caught:
        connect(tmp_path / "warehouse.duckdb")
    assert "waymark path published" in str(caught.value.remedy)
    connect(tmp_path / "warehouse.duckdb", read_only=True).close()
