"""Events that are older than their kind is kept, or than those of persons are who do not grant a scope, leave the lake.

Whole days leave (UTC), so that few runs remove anything. What a person said of consent must not leave: those events stay (waymark.ingestion.evidence). Nor
must an operator's words: without them who was told apart would be joined again.

Decision: the id of a removed event is forgotten, not kept as a tombstone. Context: a tombstone would be one more thing that is held about a person, for ever.
Consequence: an old event that comes again in a new file is accepted again, and removed again in the same run; the tally holds, and nothing is published of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.quoting import literal
from waymark.core.settings import EVERY_TYPE, OPERATOR_SOURCE, TimeSettings
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.evidence import EVIDENCE, NODES, note_evidence
from waymark.ingestion.removal import Leaving, Removal, Remover, day_of
from waymark.ingestion.tables import lake_sql

# Events of persons who do not grant a scope.
_WITHOUT = "_wm_without_consent"
_SESSION_GAP = timedelta(minutes=TimeSettings().session_gap_minutes)


@dataclass(frozen=True)
class _Rule:
    """Events of days before this one leave, by event type, EVERY_TYPE being all others; scope: only those of persons who do not grant it."""

    cutoffs: Mapping[str, date]
    scope: str = ""

    @property
    def is_expired(self) -> str:
        """SQL about a row of the lake."""
        named = [literal(kind) for kind in self.cutoffs if kind != EVERY_TYPE]
        others = f"event_type not in ({', '.join(named)})" if named else "true"
        tried = (f"({others if kind == EVERY_TYPE else f'event_type = {literal(kind)}'} and event_date < date '{day}')" for kind, day in self.cutoffs.items())
        return f"({' or '.join(tried)})"

    @property
    def condition(self) -> str:
        theirs = f" and event_id in (select event_id from {_WITHOUT} where scope = {literal(self.scope)})" if self.scope else ""
        return f"{self.is_expired}{theirs} and event_id not in (select event_id from {EVIDENCE})"


def remove_expired(
    connection: Connection, home: Home, sources: Iterable[str], days: Mapping[str, int], *, without: Mapping[str, Mapping[str, int]] | None = None,
    places: Mapping[str, str] | None = None, is_modelled: bool = False, session_gap: timedelta = _SESSION_GAP, and_then: Callable[[], object],
) -> list[Removal]:  # fmt: skip
    """Removes what is too old as of data_now. days: by event type, how many days it is kept; other types stay, and so do events on which consent rests, and
    all that an operator said.

    without: by scope and event type, how many days events of persons are kept who do not grant the scope by what the last run knew; nothing where not
    is_modelled. places, is_modelled, session_gap: see `note_evidence`. and_then: called in each source's transaction. Logs each removal in `raw.removals` and
    in the audit log; raises StorageError where the disk refuses.
    """
    now = rows(connection, "select cast(data_now as date) from raw.run_clock")[0][0]
    asked = {"": days, **(without or {} if is_modelled else {})}
    if now is None or not any(asked.values()):
        return []
    today, listed = date.fromisoformat(str(now)), sorted(set(sources) - {OPERATOR_SOURCE})
    rules = [_Rule({kind: today - timedelta(days=kept) for kind, kept in sorted(kinds.items())}, scope) for scope, kinds in sorted(asked.items()) if kinds]
    before = max(day for rule in rules for day in rule.cutoffs.values())
    found = rows(connection, "select path from raw.lake_files where list_contains(?, source) order by path", [listed])
    old = [str(path) for (path,) in found if day_of(str(path)) < before]
    if not old or not rows(connection, f"select 1 from ({lake_sql(connection, old)}) where {' or '.join(rule.is_expired for rule in rules)} limit 1"):
        return []
    note_evidence(connection, listed, old, places or {}, is_modelled=is_modelled, session_gap=session_gap)
    _note_events_without(connection, old, [rule.scope for rule in rules if rule.scope])
    removals = [Remover(connection, home, source, _leaving(source, rule)).run(before=before, and_then=and_then) for source in listed for rule in rules]
    for table in (EVIDENCE, _WITHOUT):
        connection.execute(f"drop table {table}")
    return [removal for removal in removals if removal]


def _note_events_without(connection: Connection, old: Sequence[str], scopes: Sequence[str]) -> None:
    """Makes the table _WITHOUT (scope, event_id) of the old events that name somebody whose scope was not valid at the end of the last run."""
    connection.execute(f"create or replace temp table {_WITHOUT} (scope varchar, event_id varchar)")
    if scopes:
        connection.execute(f"""
            insert into {_WITHOUT}
            select distinct denied.scope, event.event_id
            from (select event_id, unnest({NODES}) as node from ({lake_sql(connection, old)})) as event
            inner join identity.memberships as member on member.node_id = event.node
            inner join intermediate.int_consent_denied_today as denied on denied.customer_id = member.customer_id and denied.valid_to is null
            where list_contains({list(scopes)}::varchar[], denied.scope)
        """).fetchall()


def _leaving(source: str, rule: _Rule) -> Leaving:
    days = " ".join(f"when {literal(kind)} then date '{day}'" for kind, day in rule.cutoffs.items() if kind != EVERY_TYPE)
    else_day = f"date '{rule.cutoffs[EVERY_TYPE]}'" if EVERY_TYPE in rule.cutoffs else "null"
    older_than = f"case event_type {days} else {else_day} end" if days else else_day
    reason = "consent" if rule.scope else "retention"

    def log(removal_id: int) -> str:  # a line a file and event type
        return f"""
            select {removal_id}, {literal(source)}, ingest_file_id, event_type, cast(sum(n) as bigint), {literal(reason)}, {older_than},
                max(received_at), (select data_now from raw.run_clock), $now::timestamp
            from counted group by ingest_file_id, event_type having sum(n) <> 0 or max(received_at) is not null"""

    told: dict[str, object] = {"older_than": {kind: day.isoformat() for kind, day in rule.cutoffs.items()}}
    return Leaving(rule.condition, log, {"now": wall_now()}, told | ({"without": rule.scope} if rule.scope else {}))
