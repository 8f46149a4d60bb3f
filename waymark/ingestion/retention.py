"""Events that are older than their kind is kept leave the lake.

Whole days leave (UTC), so that few runs remove anything. What a person said of consent must not leave: those events stay (waymark.ingestion.evidence).

Decision: the id of a removed event is forgotten, not kept as a tombstone. Context: a tombstone would be one more thing that is held about a person, for ever.
Consequence: an old event that comes again in a new file is accepted again, and removed again in the same run; the tally holds, and nothing is published of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta

from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.evidence import EVIDENCE, note_evidence
from waymark.ingestion.removal import Leaving, Removal, Remover, day_of
from waymark.ingestion.tables import lake_sql


def remove_expired(
    connection: Connection, home: Home, sources: Iterable[str], days: Mapping[str, int], *, places: Mapping[str, str] | None = None,
    is_modelled: bool = False, and_then: Callable[[], object],
) -> list[Removal]:  # fmt: skip
    """Removes what is too old as of data_now. days: by event type, how many days it is kept; other types stay, and so do events on which consent rests.

    places, is_modelled: see `note_evidence`. and_then: called in each source's transaction. Logs each removal in `raw.removals` and in the audit log; raises
    StorageError where the disk refuses.
    """
    now = rows(connection, "select cast(data_now as date) from raw.run_clock")[0][0]
    if now is None or not days:
        return []
    today, listed = date.fromisoformat(str(now)), sorted(sources)
    cutoffs = {kind: today - timedelta(days=kept) for kind, kept in sorted(days.items())}
    found = rows(connection, "select path from raw.lake_files where list_contains(?, source) order by path", [listed])
    old = [str(path) for (path,) in found if day_of(str(path)) < max(cutoffs.values())]
    if not old or not rows(connection, f"select 1 from ({lake_sql(connection, old)}) where {_is_expired(cutoffs)} limit 1"):
        return []
    note_evidence(connection, listed, old, places or {}, is_modelled=is_modelled)
    removals = [Remover(connection, home, source, _expired(source, cutoffs)).run(before=max(cutoffs.values()), and_then=and_then) for source in listed]
    connection.execute(f"drop table {EVIDENCE}")
    return [removal for removal in removals if removal]


def _is_expired(cutoffs: Mapping[str, date]) -> str:
    return "(" + " or ".join(f"(event_type = {literal(kind)} and event_date < date '{day}')" for kind, day in cutoffs.items()) + ")"


def _expired(source: str, cutoffs: Mapping[str, date]) -> Leaving:
    condition = f"{_is_expired(cutoffs)} and event_id not in (select event_id from {EVIDENCE})"
    older_than = " ".join(f"when {literal(kind)} then date '{day}'" for kind, day in cutoffs.items())

    def log(removal_id: int) -> str:  # a line a file and event type
        return f"""
            select {removal_id}, {literal(source)}, ingest_file_id, event_type, cast(sum(n) as bigint), 'retention', case event_type {older_than} end,
                max(received_at), (select data_now from raw.run_clock), $now::timestamp
            from counted group by ingest_file_id, event_type having sum(n) <> 0 or max(received_at) is not null"""

    return Leaving(condition, log, {"now": wall_now()}, {"older_than": {kind: day.isoformat() for kind, day in cutoffs.items()}})
