from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path
from time import sleep

import pytest

from waymark.core.errors import LockHeldError, StorageError
from waymark.core.home import Home, write_atomically, write_once


def _hold(root: Path, ready: multiprocessing.synchronize.Event) -> None:
    with Home(root).writer_lock():
        ready.set()
        sleep(60)


def _holder(root: Path) -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(root, ready))
    process.start()
    assert ready.wait(30)
    return process


def test_the_second_writer_is_told_who_holds_the_lock_and_a_killed_holder_leaves_none(tmp_path: Path) -> None:
    holder = _holder(tmp_path)
    waited: list[str] = []
    with pytest.raises(LockHeldError, match=f"process {holder.pid}"), Home(tmp_path).writer_lock(timeout_seconds=0.3, on_wait=waited.append):
        pass
    assert len(waited) == 1
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with Home(tmp_path).writer_lock(timeout_seconds=5):
        pass


def test_a_home_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.ensure()
    home.version_file.write_text("999\n")
    with pytest.raises(StorageError, match="schema version 999"):
        home.ensure()


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        Home(tmp_path / "file" / "home").ensure()


def test_two_processes_at_once_find_the_same_home_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def write_and_lose(path: Path, text: str) -> int:
        written = write(path, text)
        if path.name == ".write_probe":
            path.unlink()  # as the other process does
        return written

    monkeypatch.setattr(Path, "write_text", write_and_lose)
    Home(tmp_path / "home").ensure()


def test_an_atomic_write_leaves_the_new_text_the_mode_and_no_other_file(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_atomically(target, "old")
    write_atomically(target, "new", mode=0o600)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_is_written_once_is_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    def refused(source: str, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "kept"
    assert write_once(path, "first\n", mode=0o600)
    assert not write_once(path, "second\n")
    assert path.read_text() == "first\n" and path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]
