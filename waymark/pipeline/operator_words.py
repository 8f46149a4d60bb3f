"""`waymark identity split|merge`: an operator's word about two identifiers, announced before it is said, and said as an event.

Decision: a word is a file of a built-in source in the home's landing folder, one file a word. Context: an override that is a row of a table outlives no
rebuild, and has no place in the order of events. Consequence: it goes the way of all events (lake, exactly once, replay, upgrade). Its time is the data's
clock, so it moves no clock and changes no feature of an earlier point; of two words at one instant the later file stands.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from waymark.core.clock import wall_now
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.home import write_atomically
from waymark.core.node_letters import node_letters, node_of_letters
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.warehouse import Connection, rows
from waymark.identity import CustomerChange, Word, preview_words
from waymark.identity.words import EVENT_TYPES, read_words
from waymark.pipeline.identifiers import Identifier, find_identifier, require_ended_run
from waymark.pipeline.linkage import is_estimation_waiting, links_of
from waymark.privacy import redact_text

_EVENTS = {word: event for event, word in EVENT_TYPES.items()}


@dataclass(frozen=True)
class Announcement:
    """What a word will do. changes: customers that gain or lose identifiers or rows; rows: standing rows that the next run states again, by table, and so the
    most that can differ; waiting: words that the next run takes in beside it, whose changes are among these."""

    word: Word
    one: Identifier
    other: Identifier
    changes: list[CustomerChange]
    rows: dict[str, int]
    waiting: int = 0

    @property
    def customers(self) -> set[str]:
        """Who is named in `lines`."""
        return {customer for change in self.changes for customer in (change.before, change.after) if customer}

    def lines(self) -> list[str]:
        """For people."""
        verb = "split" if self.word.word == "operator_split" else "merge"
        told = [f"{verb} {self.one} and {self.other}, as of {self.word.occurred_at}"]
        if self.waiting:
            told.append(f"  together with {self.waiting} that the next run takes in beside it:")
        if not self.changes:
            return [*told, "  changes no customer as things stand; it holds for what comes."]
        for change in self.changes:
            moved = ", ".join(f"{count:,} rows of {table}" for table, count in change.rows_by_table.items())
            told.append(f"  {change.before} -> {change.after or 'nobody'}: {change.identifiers:,} identifiers ({moved or 'no rows of events'})")
        told.append("  the next run states again, and changes no others: " + ", ".join(f"{count:,} rows of {table}" for table, count in self.rows.items()))
        return told


def announce(project: Project, word: str, one: str, other: str) -> Announcement:
    """What saying `word` (operator_split or operator_merge) about two identifiers would change; changes nothing. Hold the writer lock.

    Raises StorageError before the first run, after one that did not end, and while an estimation of links waits for the next one; WaymarkError where an
    identifier is not known or both are one.
    """
    run = require_ended_run(project)
    with run.open_warehouse() as connection:
        if is_estimation_waiting(run, connection):
            raise StorageError(
                "a new estimation of links waits for the next run, so what the word alone would change cannot be told", where=str(project.home.root),
                remedy="waymark run",
            )  # fmt: skip
        first, second = (find_identifier(connection, run.secret, text) for text in (one, other))
        if first.node_id == second.node_id:
            raise WaymarkError(f"both are {first}", remedy="Name two identifiers.")
        now: datetime = rows(connection, "select data_now from raw.run_clock")[0][0]  # type: ignore[assignment]
        waiting = waiting_words(project, connection)
        ordinal = _last_ordinal(project, connection) + 1
        spoken = Word(word, first.node_id, second.node_id, now, ordinal, _event_id(_word_id(ordinal)))
        changes, counted = preview_words(connection, [*waiting, spoken], settings=project.settings, customer_id_pads=run.secret.pads, link=links_of(run))
    return Announcement(spoken, first, second, changes, counted, len(waiting))


def require_reason(because: str) -> None:
    """Raises WaymarkError where it is blank."""
    if not because.strip():
        raise WaymarkError("a word needs a reason", remedy="Say why: --because TEXT")


def say(project: Project, announcement: Announcement, *, because: str) -> Path:
    """Writes the word where the next run takes it in; returns the file. Hold the writer lock since the announcement."""
    require_reason(because)
    word = announcement.word
    record = {
        "word_id": _word_id(word.ordinal),
        "said": _EVENTS[word.word],
        "at": word.occurred_at.isoformat(timespec="microseconds") + "Z",
        "details": {
            "node_a": node_letters(word.node_a), "node_b": node_letters(word.node_b), "ordinal": word.ordinal,
            "types": [announcement.one.kind, announcement.other.kind], "operator": _operator(), "because": redact_text(because.strip()),
            "said_at": wall_now().isoformat(timespec="seconds") + "Z",
        },
    }  # fmt: skip
    path = project.home.landing / OPERATOR_SOURCE / f"{word.ordinal:06d}.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record) + "\n")
    return path


def waiting_words(project: Project, connection: Connection) -> list[Word]:
    """Words that were said and that no run has taken in yet. Makes temp table operator_words, of those that one has."""
    read_words(connection)
    known = {str(event_id) for (event_id,) in rows(connection, "select event_id from temp.operator_words")}
    found = []
    for path in _files(project):
        record = json.loads(path.read_text(encoding="utf-8"))
        details, at = record["details"], datetime.fromisoformat(record["at"]).replace(tzinfo=None)
        nodes = (node_of_letters(details["node_a"]), node_of_letters(details["node_b"]))
        word = Word(EVENT_TYPES[record["said"]], *nodes, at, details["ordinal"], _event_id(record["word_id"]))
        if word.event_id not in known:
            found.append(word)
    return found


def _event_id(word_id: str) -> str:
    """As ingestion makes it from source and id."""
    return hashlib.md5(f"{OPERATOR_SOURCE}\x1f{word_id}".encode()).hexdigest()


def _files(project: Project) -> list[Path]:
    return sorted(path for path in (project.home.landing / OPERATOR_SOURCE).glob("*.ndjson") if path.stem.isdecimal())


def _word_id(ordinal: int) -> str:
    return f"word-{ordinal:06d}"


def _last_ordinal(project: Project, connection: Connection) -> int:
    """The greatest number of a word so far, 0 where there is none. Needs temp table operator_words: the files of words that were taken in may be gone, and a
    number given twice would make two words one event, of which the older content survives."""
    taken_in = rows(connection, "select coalesce(max(ordinal), 0) from temp.operator_words")[0][0]
    return max(int(str(taken_in)), *(int(path.stem) for path in _files(project)), 0)


def _operator() -> str:
    """Who runs this process, by the system."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
