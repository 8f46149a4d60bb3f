"""Lines of the log of who read a role's file that name an erased person: an erasure strikes them, and the home's own log tells which they were.

Decision: such a line is overwritten with dashes, and nothing else moves. Context: whoever has the role can write there what they like, an identifier, too; the
line is not Waymark's, and while it stood no erasure of that person could end. Consequence: the chain of the others, the heads in manifests and the length stay
what they are; where the home's log, to which no role can write, tells of a line, `verify` takes its digest for the entry that stood there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.privacy.audit import LONGEST_LINE, NOTHING, AuditLog, Entry, Struck, is_struck, line_of, parsed, problems_of

ACTION = "lines_struck"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Line:
    number: int
    begin: int
    end: int  # without its end of line
    entry: Entry | None  # one that is part of the chain


def strike(home: Home, role: str, holds: Callable[[bytes], bool], *, request_id: str) -> int:
    """Overwrites the lines of a role's log that hold something, and a first line that is no entry (such a file could pass for another than a log); how many.

    Raises StorageError where the log cannot be written, or another process holds it: then it may be called again, as after a kill.
    """
    log = AuditLog(home, role)
    if not log.path.exists() or not any(_held(log, holds)):
        return 0
    # Behind what is struck there is always an entry, from which the next one follows.
    last = log.append(ACTION, role=role, details={"request_id": request_id})
    try:
        with log.locked():
            found = []
            for line in _held(log, holds):
                if line.entry and line.entry.sequence >= last.sequence:
                    break
                found.append(line)
            if not found:
                return 0
            entries = [[line.entry.sequence, line.entry.digest] for line in found if line.entry]
            told = {"request_id": request_id, "of_role": role, "lines": [line.number for line in found], "entries": entries}
            AuditLog(home).append(ACTION, details=told)  # before the first byte changes
            _overwrite(log, found)
    except OSError as error:
        raise StorageError(
            f"the log of who read the file of role {role} cannot be written ({error.strerror})", where=str(log.path),
            remedy="End the process that holds it, or free space; then: waymark privacy erase --continue",
        ) from error  # fmt: skip
    return len(found)


def struck(home: Home, role: str) -> Struck:
    """What erasures struck from a role's log; nothing of the home's own, from which nothing is struck."""
    told = [entry.details for _, entry in AuditLog(home).lines() if entry and entry.action == ACTION and entry.details.get("of_role") == role]
    lines, entries = set[int](), dict[int, str]()
    for details in told:
        lines.update(details["lines"])  # type: ignore[arg-type]
        entries.update({int(sequence): str(digest) for sequence, digest in details["entries"]})  # type: ignore[attr-defined]
    return Struck(frozenset(lines), entries)


def _held(log: AuditLog, holds: Callable[[bytes], bool]) -> Iterator[_Line]:
    """Lines to be struck. Of one that is longer than an entry can be, nobody looks at the content: it is none."""
    at = (0, NOTHING)
    known = struck(log.home, log.role)
    begin = 0
    with open(log.path, "rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number, end, is_blank = number + 1, begin + len(line), is_struck(line)
            more = line
            while more and not more.endswith(b"\n"):
                more = file.readline(_CHUNK)
                end, is_blank = end + len(more), is_blank and is_struck(more)
            entry = parsed(line)
            at = known.passed(at, entry)
            is_chained = entry is not None and not any(problems_of(line, entry, at))
            is_long, is_other = len(line) > LONGEST_LINE, number == 1 and not (entry and line == line_of(entry) + b"\n")
            if not is_blank and (is_long or is_other or holds(line)):
                yield _Line(number, begin, end - more.endswith(b"\n"), entry if is_chained else None)
            at = (entry.sequence, entry.digest) if entry else at
            begin = end


def _overwrite(log: AuditLog, lines: list[_Line]) -> None:
    handle = os.open(log.path, os.O_WRONLY)  # what is opened to append writes at the end, whatever the place
    try:
        for line in lines:
            for begin in range(line.begin, line.end, _CHUNK):
                size = min(_CHUNK, line.end - begin)
                if os.pwrite(handle, b"-" * size, begin) != size:
                    raise OSError(5, "a write was cut short")
        os.fsync(handle)
    finally:
        os.close(handle)
