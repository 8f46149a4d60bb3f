"""Events that are older than their kind is kept: they leave the lake, and every removal is logged, so rows present = accepted − removed.

Whole days leave (UTC), so that few runs remove anything. A day's files are written anew without what leaves; the new files are registered, and the old ones
struck off, in the transaction that logs the removal. A crash before it leaves files that nobody knows, one after it files that `raw.replaced_files` names;
`recover` removes both.

Decision: the id of a removed event is forgotten, not kept as a tombstone. Context: a tombstone would be one more thing that is held about a person, for ever.
Consequence: an old event that comes again in a new file is accepted again, and removed again in the same run; the tally holds, and nothing is published of it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.quoting import literal, name
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.batch import next_batch_id
from waymark.ingestion.lake import COMPARES, discard, remove_replaced, write_partitions
from waymark.ingestion.tables import build_views, lake_sql
from waymark.privacy.audit import AuditLog

_EXPIRED, _TOUCHED, _BEFORE = "_wm_expired", "_wm_touched", "_wm_before"
# The key that ingestion made of the text that event_id is the digest of: the digest's bytes, the first being the least.
_EVENT_KEY = "cast('0x' || array_to_string(list_reverse(regexp_extract_all(event_id, '..')), '') as uhugeint)"
_DAY = re.compile(r"event_date=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Removal:
    """Of one source in one run. rows: events that are no longer there; files: of the lake that were written anew or removed."""

    source: str
    rows: int
    files: int


def remove_expired(
    connection: Connection, home: Home, sources: Iterable[str], days: Mapping[str, int], *, and_then: Callable[[], object]
) -> list[Removal]:
    """Removes what is too old as of data_now. days: by event type, how many days it is kept; other types stay.

    and_then: called in each source's transaction. Logs each removal in `raw.removals` and in the audit log; raises StorageError where the disk refuses.
    """
    now = rows(connection, "select cast(data_now as date) from raw.run_clock")[0][0]
    if now is None or not days:
        return []
    today = date.fromisoformat(str(now))
    cutoffs = {kind: today - timedelta(days=kept) for kind, kept in sorted(days.items())}
    return [removal for source in sorted(sources) if (removal := _Removal(connection, home, source, cutoffs).run(and_then))]


class _Removal:
    def __init__(self, connection: Connection, home: Home, source: str, cutoffs: Mapping[str, date]) -> None:
        self.connection, self.home, self.source, self.cutoffs = connection, home, source, cutoffs
        self.is_expired = " or ".join(f"(event_type = {literal(kind)} and event_date < date '{day}')" for kind, day in cutoffs.items())
        self.view = f"raw.{name(source + '_events')}"

    def run(self, and_then: Callable[[], object]) -> Removal | None:
        connection = self.connection
        known = rows(connection, "select path, is_pending from raw.lake_files where source = ? order by path", [self.source])
        newest = max(self.cutoffs.values())
        old = [str(path) for path, _ in known if _day(str(path)) < newest]
        found = rows(connection, f"select distinct event_date from {self._scan(old)} where {self.is_expired}") if old else []
        days = {date.fromisoformat(str(day)) for (day,) in found}
        if not days:
            return None
        paths = [path for path in old if _day(path) in days]
        pending = {_day(str(path)) for path, is_pending in known if is_pending}
        batch_id = next_batch_id(connection)
        try:
            return self._commit(paths, pending, batch_id, and_then)
        finally:
            for table in (_EXPIRED, _TOUCHED, _BEFORE):
                connection.execute(f"drop table if exists {table}")

    def _commit(self, paths: list[str], pending: set[date], batch_id: int, and_then: Callable[[], object]) -> Removal:
        connection = self.connection
        self._collect(paths)
        is_committed = False
        try:
            written = []
            for compares in (False, True):
                if some := [path for path in paths if path.endswith(f"{COMPARES}.parquet") == compares]:
                    found = lake_sql(connection, some, compares=compares)
                    kept = f"from ({found}) where not ({self.is_expired}) order by occurred_at, event_id, content_digest"
                    written += write_partitions(connection, kept, self.home, self.source, batch_id, compares=compares)
            connection.execute("begin")
            try:
                connection.execute("delete from raw.lake_files where list_contains(?, path)", [paths])
                connection.executemany("insert into raw.replaced_files values (?)", [[path] for path in paths])
                for path, count, size in written:
                    line = [self.source, path, batch_id, count, _day(path) in pending, size]
                    connection.execute("insert into raw.lake_files values (?, ?, ?, ?, ?, ?)", line)
                self._forget()
                build_views(connection, [self.source])
                removed = self._log(batch_id)
                and_then()
                details = {"source": self.source, "rows": removed, "older_than": {kind: day.isoformat() for kind, day in self.cutoffs.items()}}
                AuditLog(self.home).append("retention", details=details)
                connection.execute("commit")
                is_committed = True
            except BaseException:
                with contextlib.suppress(Exception):
                    connection.execute("rollback")
                raise
        except Exception:
            if not is_committed:
                discard(self.home, self.source, batch_id)
            raise
        remove_replaced(connection, self.home)
        return Removal(self.source, removed, len(paths))

    def _collect(self, paths: list[str]) -> None:
        """What leaves (all contents of an event that do), the events of it that have other contents, and how these show before."""
        connection = self.connection
        connection.execute(f"""
            create or replace temp table {_EXPIRED} as
            select event_id, content_digest, event_type, ingest_file_id, received_at from {self._scan(paths)} where {self.is_expired}""").fetchall()
        connection.execute(f"""
            create or replace temp table {_TOUCHED} as
            select distinct event_id from raw.event_conflicts where source = {literal(self.source)} and event_id in (select event_id from {_EXPIRED})""")
        connection.execute(f"create or replace temp table {_BEFORE} as {self._touched_rows()}").fetchall()

    def _touched_rows(self) -> str:
        if not rows(self.connection, f"select 1 from {_TOUCHED} limit 1"):  # as nearly always: then no event is looked for in the lake
            return f"select ingest_file_id, event_type from {_EXPIRED} where false"
        return f"select ingest_file_id, event_type from {self.view} where event_id in (select event_id from {_TOUCHED})"

    def _forget(self) -> None:
        """By both keys, because half a digest tells the contents of one id apart, and not those of all. Of an event with several contents those that are left
        contend anew."""
        connection, source = self.connection, literal(self.source)
        keys = f"select {_EVENT_KEY}, md5_number_upper(content_digest) from {_EXPIRED}"
        connection.execute(f"delete from raw.event_index where (event_key, content_key) in ({keys})")
        if not rows(connection, f"select 1 from {_TOUCHED} limit 1"):
            return
        connection.execute(f"""
            create or replace temp table _wm_left as
            select event_id, content_digest, occurred_at from raw.event_conflicts
            where source = {source} and event_id in (select event_id from {_TOUCHED}) and content_digest not in (select content_digest from {_EXPIRED})
            qualify count(*) over (partition by event_id) > 1""")
        connection.execute(f"delete from raw.event_conflicts where source = {source} and event_id in (select event_id from {_TOUCHED})")
        connection.execute(f"""
            insert into raw.event_conflicts
            select {source}, event_id, content_digest, occurred_at,
              row_number() over (partition by event_id order by occurred_at nulls last, content_digest nulls last) = 1
            from _wm_left""")
        connection.execute("drop table _wm_left")

    def _log(self, batch_id: int) -> int:
        """A line a file and event type. Where a content takes the place of one that left, its file has a row more: fewer than none were removed."""
        now = wall_now()
        cutoffs = " ".join(f"when {literal(kind)} then date '{day}'" for kind, day in self.cutoffs.items())
        self.connection.execute(
            f"""
            insert into raw.removals
            with counted as (
                select ingest_file_id, event_type, 1 as n, received_at from {_EXPIRED} where event_id not in (select event_id from {_TOUCHED})
                union all select ingest_file_id, event_type, 0, received_at from {_EXPIRED} where event_id in (select event_id from {_TOUCHED})
                union all select ingest_file_id, event_type, 1, NULL from {_BEFORE}
                union all select ingest_file_id, event_type, -1, NULL from ({self._touched_rows()})
            )
            select {batch_id}, {literal(self.source)}, ingest_file_id, event_type, cast(sum(n) as bigint), 'retention', case event_type {cutoffs} end,
                max(received_at), (select data_now from raw.run_clock), $now::timestamp
            from counted group by ingest_file_id, event_type having sum(n) <> 0 or max(received_at) is not null""",
            {"now": now},
        ).fetchall()
        return int(str(rows(self.connection, "select coalesce(sum(rows_removed), 0) from raw.removals where removal_id = ?", [batch_id])[0][0]))

    def _scan(self, paths: list[str]) -> str:
        return f"({lake_sql(self.connection, paths)})"


def _day(path: str) -> date:
    found = _DAY.search(path)
    return date.fromisoformat(found.group(1)) if found else date.max


def removed_rows(connection: Connection) -> dict[str, int]:
    """Rows removed so far, by source."""
    found = rows(connection, "select source, sum(rows_removed)::bigint from raw.removals group by source order by source")
    return {str(source): int(str(count)) for source, count in found}

