"""Processes of this machine, found by what they carry: their session, their parents, and a marker in their environment.

On Linux all of them are found, those that left their process group and those whose parent died included. Elsewhere (macOS) only what stayed in
a session's own process group is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = sys.platform == "linux" and (_PROC / "self" / "stat").exists()
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> bool:
    """Makes this process the parent of every descendant whose own parent dies, so that none is left as a zombie. False where the system cannot (macOS)."""
    if sys.platform != "linux":
        return False
    import ctypes

    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def alive(sessions: Collection[int], marker: str = "") -> set[int]:
    """Processes that live in these sessions, carry `marker` (NAME=value) in their environment, or descend from one that does. Without zombies.

    sessions: process ids of session leaders; those that are gone are no harm. This process itself is never among them.
    """
    if not _HAS_PROC:
        return {leader for leader in sessions if exists(-leader)}
    wanted = f"{marker}\0".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in _PROC.iterdir():
        if not folder.name.isdigit() or (stat := _stat(folder)) is None:
            continue
        pid, (state, parent, session) = int(folder.name), stat
        if state in "ZX":
            continue
        parents[pid] = parent
        if session in sessions or (marker and wanted in _environment(folder)):
            found.add(pid)
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        grown = bool(more)
        found |= more
    return found - {os.getpid()}


def send(sessions: Collection[int], pids: Collection[int], number: signal.Signals) -> None:
    """Signals the process group of each session leader, and each single process; those that are gone already are no error."""
    for leader in sessions:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap(keep: Collection[int]) -> None:
    """Collects the exit states of adopted orphans; children in `keep` are left to who started them."""
    if not _HAS_PROC:
        return
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and int(folder.name) not in keep and (stat := _stat(folder)) and stat[0] == "Z" and stat[1] == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(int(folder.name), os.WNOHANG)


def _stat(folder: Path) -> tuple[str, int, int] | None:
    """(state, parent, session) of a process, None where it has ended meanwhile."""
    try:
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1]), int(fields[3])
    except (OSError, IndexError, ValueError):
        return None


def _environment(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


def exists(process: int) -> bool:
    """Whether there is this process, or, below zero, anybody in the group of that leader; of whatever user."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
