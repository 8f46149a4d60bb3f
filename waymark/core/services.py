"""What a command that runs services notes in the home while it does: who it is, what it started, and where its pages are.

The kernel drops the lock with the process; a note without a lock is of a command that was killed, and what it started may still run.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

from waymark.core.clock import wall_now
from waymark.core.errors import LockHeldError
from waymark.core.home import Home, lock_holder, note_holder
from waymark.core.processes import alive

MARKER = "WAYMARK_SERVICES"
# The pages that others link to, as a note names them.
MLFLOW_PAGE, TABLES_PAGE = "MLflow", "Tables' documentation"
# A note is read in one call of the system, so that it is not put together from two.
_MOST_BYTES, _READS, _PAUSE_SECONDS = 1 << 16, 20, 0.002


@dataclass(frozen=True)
class RunningServices:
    """A note. sessions: leaders of the sessions of what was started; mark: the value of WAYMARK_SERVICES in their environment; pages: URL by name."""

    command: str
    pid: int
    since: str
    mark: str
    sessions: list[int] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    is_held: bool = False

    def processes(self) -> set[int]:
        """What of it lives."""
        # A process id may be another program's by now: where the marker can be read, it alone says.
        marked = alive([], f"{MARKER}={self.mark}") if self.mark else set[int]()
        return marked or (set[int]() if Path("/proc/self/environ").exists() else alive(self.sessions))


class Claim:
    """The note of a command that runs."""

    def __init__(self, handle: int, command: str, mark: str) -> None:
        self._handle, self._command, self._mark = handle, command, mark
        self.note([], {})

    def note(self, sessions: list[int], pages: Mapping[str, str]) -> None:
        """Writes down what was started since."""
        since = wall_now().isoformat(timespec="seconds") + "Z"
        text = json.dumps(
            {"command": self._command, "pid": os.getpid(), "since": since, "mark": self._mark, "sessions": sorted(sessions), "pages": dict(pages)}
        )
        note_holder(self._handle, text)


@contextmanager
def claim(home: Home, command: str, mark: str) -> Iterator[Claim]:
    """Notes that `command` runs services on this home, until it ends.

    Raises LockHeldError, with the addresses, where it does already.
    """
    home.services.mkdir(parents=True, exist_ok=True)
    path = home.services / f"{command}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            there = _read(path, is_held=True)
            pages = ", ".join(f"{name} {url}" for name, url in there.pages.items()) if there else ""
            raise LockHeldError(
                f"waymark {command} runs already{f', process {there.pid}' if there else ''}{f': {pages}' if pages else ''}",
                where=str(home.root), remedy="Use that one, or stop it with Ctrl-C in its terminal.",
            ) from error  # fmt: skip
        yield Claim(handle, command, mark)
        note_holder(handle, "")
    finally:
        os.close(handle)


def noted_services(home: Home) -> list[RunningServices]:
    """What runs on this home, and what was killed while it did, by command."""
    found = []
    for path in sorted(home.services.glob("*.lock")):
        if (note := _read(path, is_held=lock_holder(path) is not None)) is not None:
            found.append(note)
    return found


def _read(path: Path, *, is_held: bool) -> RunningServices | None:
    """None where nothing is noted. A note that is read in the instant in which it is written anew is no JSON: it is read again."""
    for _ in range(_READS):
        try:
            with path.open("rb", buffering=0) as file:
                text = file.read(_MOST_BYTES)
            return _noted(json.loads(text), is_held) if text.strip() else None
        except ValueError:
            sleep(_PAUSE_SECONDS)
        except (OSError, KeyError, TypeError, AttributeError):
            return None
    return None


def _noted(document: Any, is_held: bool) -> RunningServices:
    return RunningServices(
        str(document["command"]), int(document["pid"]), str(document["since"]), str(document["mark"]), [int(pid) for pid in document["sessions"]],
        {str(name): str(url) for name, url in document["pages"].items()}, is_held,
    )  # fmt: skip
