"""The audit log: who read what through Waymark's tools, and what was done to data about people.

One file of JSON lines under the home, for its owner alone. Each entry holds the digest of the one before it and its own, so an altered, removed or swapped
entry is seen by reading the file; a cut tail is seen by what each manifest says of the log's length and head (`Head`).

Decision: plain SHA-256. Context: a key would lie beside the log, in the hands of whoever could write to it, and an auditor could not verify without it.
Consequence: the chain proves order and wholeness up to the last head that somebody else keeps: copy the manifests to where the owner cannot write.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic, sleep

from waymark.core.clock import wall_now
from waymark.core.errors import StorageError
from waymark.core.home import Home, sync_folder

ACTIONS = {
    "sql": "the published tables were queried; the query's literals are not kept",
    "why": "a customer's score was explained",
    "trace": "a row was followed to its events and files",
    "customer": "everything that is known of a customer was shown",
    "identity_explain": "why two identifiers are, or are not, of one person was shown",
    "preview": "what a word about two identifiers, or an erasure, would change was shown",
    "quarantine_show": "refused rows were shown with their original text",
    "override": "an operator said that two identifiers are, or are not, of one person",
    "thresholds_changed": "how sure a link must be, for analysis, scoring or sending, was changed in the settings",
    "links_estimated": "how alike records of one person are was estimated anew; the next run links people by it",
    "consent_changed": "acts of consent were taken in; how many by source, scope and action",
    "person_exported": "what is held about a person was handed out",
    "person_erased": "a person was erased",
    "retention": "events older than their retention were removed",
    "publish": "a snapshot, and a file for each role, was put out",
    "lines_struck": "lines that named an erased person were struck from the log of who read a role's file",
    "torn_line": "a line that a crash cut short was found before the next entry was written",
}
NOTHING = "0" * 64  # what the first entry has before it
# A longer line is no entry, and none is written: others than the owner can write to a role's log, and no reading of it may take for ever. So is the last entry
# looked for in so many bytes from the end alone, and another process that holds such a log is waited for no longer than this.
LONGEST_LINE, _FARTHEST, _CHUNK = 1 << 22, 1 << 25, 1 << 18
PATIENCE_SECONDS = 5.0
# How deep the details of an entry can nest.
_DEEPEST = 20


@dataclass(frozen=True)
class Entry:
    """sequence: from 1. at: UTC, by the wall clock. actor: the system's user. role: whose file was read, empty for the whole snapshot.
    subjects: references of `SubjectReferences`, never identifiers. previous, digest: SHA-256 of the entry before, and of this one without its digest."""

    sequence: int
    at: str
    actor: str
    role: str
    action: str
    subjects: list[str]
    details: dict[str, object]
    previous: str
    digest: str


@dataclass(frozen=True)
class Head:
    """What a manifest keeps of the log: how many entries it had, the digest of the last one, and the file's length in bytes."""

    entries: int
    digest: str
    bytes: int


@dataclass(frozen=True)
class Anchor:
    """A head that was written down, and where; None where what is written there is no head (any more)."""

    head: Head | None
    where: str


@dataclass(frozen=True)
class Struck:
    """What erasures struck from a role's log (waymark.privacy.struck): numbers of lines, and digests by number of those that were entries."""

    lines: frozenset[int] = frozenset()
    entries: Mapping[int, str] = field(default_factory=dict)

    def passed(self, at: tuple[int, str], entry: Entry | None) -> tuple[int, str]:
        """The number and digest before this entry, where those in between were struck."""
        while entry and at[0] + 1 < entry.sequence and at[0] + 1 in self.entries:
            at = (at[0] + 1, self.entries[at[0] + 1])
        return at


@dataclass(frozen=True)
class Verdict:
    """entries: that could be read; digest: of the last; problems: what does not hold, in words; notes: torn lines that a later entry tells of."""

    entries: int
    digest: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class AuditLog:
    """The log of one home, or that of the reads of a role's file, which the role's group can write. Appending waits for other processes and is durable."""

    def __init__(self, home: Home, role: str = "") -> None:
        self.path = home.role_file(role).with_name("reads.jsonl") if role else home.audit / "log.jsonl"
        self.home, self.folder, self.role = home, self.path.parent, role

    def append(self, action: str, *, role: str = "", subjects: Sequence[str] = (), details: Mapping[str, object] | None = None) -> Entry:
        """Writes an entry; all of it, or none.

        details: counts, names of tables and rules; never an identifier or a literal of a query. Raises ValueError for an unknown action, StorageError
        where the log cannot be written: then what was to be logged must not happen.
        """
        if action not in ACTIONS:
            raise ValueError(f"'{action}' is no action of the audit log")
        try:
            with self.locked() as handle:
                size = os.fstat(handle).st_size
                last, end = _tail(handle, size)
                lines = [b""] if end < size else []
                torn = _read(handle, size - end, end) if size - end <= LONGEST_LINE else b""
                if torn and (whole := parsed(torn)):  # it lacks nothing but its end of line
                    last = whole
                elif end < size:  # the fragment stays where it is, on a line of its own, and the next entry tells of it
                    last = _entry(last, "torn_line", "", (), {"bytes": size - end, "sha256": hashlib.sha256(torn).hexdigest()})
                    lines.append(line_of(last))
                entry = _entry(last, action, role, subjects, dict(details or {}))
                if (length := len(line_of(entry))) > LONGEST_LINE:
                    entry = _entry(last, action, role, subjects, {"left_out_bytes": length})
                self._write(handle, size, b"\n".join([*lines, line_of(entry), b""]))
                return entry
        except OSError as error:
            raise StorageError(
                f"the audit log cannot be written ({error.strerror})", where=str(self.path),
                remedy="Run as the home's owner, or as one of the role's group with --role; or free space.",
            ) from error  # fmt: skip

    @contextmanager
    def locked(self) -> Iterator[int]:
        """The open log, while no other process writes to it. Raises OSError."""
        is_new = not self.path.exists()
        if is_new:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._wait_for(handle)
            if is_new:
                sync_folder(self.folder)
                sync_folder(self.folder.parent)
            yield handle
        finally:
            os.close(handle)

    def _wait_for(self, handle: int) -> None:
        """Waits until no other process writes; of a role's log, which anybody with that role can hold, not for ever. Raises OSError then."""
        if not self.role:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if monotonic() >= deadline:
                    raise OSError(errno.EWOULDBLOCK, "another process holds it") from error
                sleep(0.02)

    @staticmethod
    def _write(handle: int, size: int, data: bytes) -> None:
        try:
            done = 0
            while done < len(data):
                done += os.write(handle, data[done:])
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)  # a full disk: what is there stays whole
            raise

    def head(self) -> Head:
        """The log's head as it stands; of no entries where there is no log yet.

        Of a role's log it waits for nobody: an entry that is being written is not in it. Raises OSError, among others where a log is cut while it is read.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return Head(0, NOTHING, 0)
        try:
            if not self.role:
                fcntl.flock(handle, fcntl.LOCK_SH)
            last, end = _tail(handle, os.fstat(handle).st_size)
            return Head(last.sequence, last.digest, end) if last else Head(0, NOTHING, 0)
        finally:
            os.close(handle)

    def holds(self, head: Head) -> bool:
        """Whether the entry that a head speaks of still ends where it ended. Looks at that entry alone: `verify` looks at all."""
        if head.entries == 0:
            return True
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            last, end = _tail(handle, head.bytes)
            return last is not None and end == head.bytes and (last.sequence, last.digest) == (head.entries, head.digest) and _is_whole(last)
        except OSError:  # the file is shorter
            return False
        finally:
            os.close(handle)

    def lines(self) -> Iterator[tuple[bytes, Entry | None]]:
        """Each line as it stands, and the entry that it is; None for one that is none. Of a line that is longer than an entry can be, the beginning."""
        try:
            with open(self.path, "rb") as file:
                while line := file.readline(LONGEST_LINE + 1):
                    more = line
                    while more and not more.endswith(b"\n"):
                        more = file.readline(_CHUNK)
                    yield line, parsed(line)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(
                f"the audit log cannot be read ({error.strerror})", where=str(self.path), remedy="Only the home's owner can: run as that user."
            ) from error

    def verify(self, anchors: Sequence[Anchor] = (), struck: Struck | None = None) -> Verdict:
        """Reads the whole log and says what does not hold: of each entry by itself, of each beside the one before, of the log beside the anchors."""
        struck, blank = struck or Struck(), 0
        problems: list[str] = []
        notes: list[str] = []
        wanted = {anchor.head.entries for anchor in anchors if anchor.head}
        digests = {0: NOTHING}
        at = (0, NOTHING)
        fragment: tuple[int, bytes] | None = None
        for number, (line, entry) in enumerate(self.lines(), 1):
            if number in struck.lines and is_struck(line):
                blank += 1
                continue
            if entry is None:
                if fragment:
                    problems.append(f"line {fragment[0]} is no entry")
                fragment = (number, line.removesuffix(b"\n"))
                continue
            if fragment:
                told = entry.details if entry.action == "torn_line" else {}
                is_told = told.get("sha256") == hashlib.sha256(fragment[1]).hexdigest()
                (notes if is_told else problems).append(
                    f"line {fragment[0]} was cut short by a crash; entry {entry.sequence} tells of it" if is_told else f"line {fragment[0]} is no entry"
                )
                fragment = None
            before, at = at, struck.passed(at, entry)
            digests |= {sequence: struck.entries[sequence] for sequence in range(before[0] + 1, at[0] + 1)}
            problems += [f"line {number}: {problem}" for problem in problems_of(line, entry, at)]
            at = (entry.sequence, entry.digest)
            if entry.sequence in wanted:
                digests[entry.sequence] = entry.digest
        if fragment:
            problems.append(f"line {fragment[0]}, the last, is cut short: by a crash while it was written, or by hand")
        for anchor in anchors:
            if anchor.head is None:
                problems.append(f"{anchor.where} does not tell any more how long the log was: it was altered or damaged")
                continue
            found = digests.get(anchor.head.entries)
            if found is None:
                problems.append(f"{anchor.where} knows {anchor.head.entries} entries, the log has {at[0]}: its end was cut, or entries were removed")
            elif found != anchor.head.digest:
                problems.append(f"entry {anchor.head.entries} is not the one that {anchor.where} knows: the log was written anew")
        if blank:
            notes.append(f"{blank} lines named persons who were erased, and were struck; the home's own log tells of them")
        return Verdict(*at, tuple(problems), tuple(notes))


def actor() -> str:
    """The system's user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def _entry(last: Entry | None, action: str, role: str, subjects: Sequence[str], details: dict[str, object]) -> Entry:
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, NOTHING)
    at = wall_now().isoformat(timespec="microseconds") + "Z"
    entry = Entry(sequence, at, actor(), role, action, sorted(subjects), details, previous, "")
    return replace(entry, digest=_digest(entry))


def _canonical(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def line_of(entry: Entry) -> bytes:
    return _canonical(vars(entry))


def _digest(entry: Entry) -> str:
    return hashlib.sha256(_canonical({key: value for key, value in vars(entry).items() if key != "digest"})).hexdigest()


def _is_whole(entry: Entry) -> bool:
    return entry.digest == _digest(entry)


_KINDS = {"sequence": int, "subjects": list, "details": dict}


def parsed(line: bytes) -> Entry | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        document = json.loads(line)
        if not isinstance(document, dict) or not all(isinstance(document.get(name), _KINDS.get(name, str)) for name in Entry.__dataclass_fields__):
            return None
        if not all(isinstance(subject, str) for subject in document["subjects"]) or _is_deep(document):
            return None
        _canonical(document)  # what cannot be written, such as half a surrogate pair, was never written
        return Entry(**document)
    except (ValueError, TypeError, RecursionError):
        return None


def _is_deep(value: object, left: int = _DEEPEST) -> bool:
    """Whether it nests deeper than any entry does."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_is_deep(item, left - 1) for item in inner if isinstance(item, dict | list))


def is_struck(line: bytes) -> bool:
    """Whether nothing of a line is left."""
    return not line.strip(b"-\n")


def problems_of(line: bytes, entry: Entry, at: tuple[int, str]) -> Iterator[str]:
    """What does not hold of an entry. at: the number and digest of the one before."""
    if not _is_whole(entry) or line.removesuffix(b"\n") != line_of(entry):
        yield f"entry {entry.sequence} was altered"
    expected = at[0] + 1
    if entry.sequence > expected:
        yield f"entries {expected} to {entry.sequence - 1} are missing" if entry.sequence > expected + 1 else f"entry {expected} is missing"
    elif entry.sequence < expected:
        yield f"entry {entry.sequence} stands after entry {expected - 1}"
    elif entry.previous != at[1]:
        yield f"entry {entry.sequence} does not follow from the one before it, which was altered or put in its place"


def _tail(handle: int, size: int) -> tuple[Entry | None, int]:
    """The last entry in the file's first `size` bytes, and where its last whole line ends: behind it stands a line cut short, or nothing."""
    end: int | None = None
    start, rest = size, b""  # rest: of the line whose beginning lies before `start`
    while start > max(0, size - _FARTHEST):
        step = min(_CHUNK, start)
        start -= step
        data = _read(handle, step, start)
        first, *lines = data.split(b"\n")
        if lines:
            lines[-1] += rest
            if end is None:
                end = start + data.rindex(b"\n") + 1
                lines.pop()  # cut short, or nothing
            for line in reversed(lines):
                if entry := parsed(line):
                    return entry, end
        rest = (first if lines else first + rest)[: LONGEST_LINE + 1]
    if end is None:
        return None, start
    return (parsed(rest) if start == 0 else None), end


def _read(handle: int, length: int, offset: int) -> bytes:
    data = b""
    while len(data) < length:
        more = os.pread(handle, length - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, "the file is shorter than it was")
        data += more
    return data
