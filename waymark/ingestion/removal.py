"""Events that leave the lake: the files that hold some are written anew, registered in one transaction with the log of it, and the old ones then removed.

A crash before that transaction leaves files that nobody knows, one after it files that `raw.replaced_files` names; `recover` removes both. Every removal is
logged in `raw.removals`, so that rows present = accepted − removed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from waymark.core.home import Home
from waymark.core.quoting import literal, name
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.batch import next_batch_id
from waymark.ingestion.lake import COMPARES, discard, remove_replaced, write_partitions
from waymark.ingestion.tables import build_views, lake_sql
from waymark.privacy.audit import AuditLog

# Events that leave, with all their contents that do; those of them that have other contents; and how these showed before.
LEAVING, TOUCHED, _BEFORE = "_wm_leaving", "_wm_touched", "_wm_before"
# The key that ingestion made of the text that event_id is the digest of: the digest's bytes, the first being the least.
EVENT_KEY = "cast('0x' || array_to_string(list_reverse(regexp_extract_all(event_id, '..')), '') as uhugeint)"
_DAY = re.compile(r"event_date=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Removal:
    """Of one source in one run. rows: events that are no longer there; files: of the lake that were written anew or removed."""

    source: str
    rows: int
    files: int


@dataclass(frozen=True)
class Leaving:
    """What leaves, and how it is told. condition: SQL about a row of the lake.

    log: from the number of the removal to a statement that inserts lines into `raw.removals`, in which `counted` holds the rows that vanish: ingest_file_id,
    event_type, n (below zero where another content shows in the place of one that leaves), received_at. audit: details for the audit log; None: no entry.
    """

    condition: str
    log: Callable[[int], str]
    parameters: Mapping[str, object]
    audit: Mapping[str, object] | None = None


class Remover:
    """Removes what leaves one source."""

    def __init__(self, connection: Connection, home: Home, source: str, leaving: Leaving) -> None:
        self.connection, self.home, self.source, self.leaving = connection, home, source, leaving
        self.view = f"raw.{name(source + '_events')}"

    def run(self, *, before: date = date.max, and_then: Callable[[], object]) -> Removal | None:
        """Looks at the days before this one. and_then: called in the transaction. None where nothing leaves; raises StorageError where the disk refuses."""
        connection = self.connection
        known = rows(connection, "select path, is_pending from raw.lake_files where source = ? order by path", [self.source])
        old = [str(path) for path, _ in known if day_of(str(path)) < before]
        found = rows(connection, f"select distinct event_date from {self._scan(old)} where {self.leaving.condition}") if old else []
        days = {date.fromisoformat(str(day)) for (day,) in found}
        if not days:
            return None
        paths = [path for path in old if day_of(path) in days]
        pending = {day_of(str(path)) for path, is_pending in known if is_pending}
        batch_id = next_batch_id(connection)
        try:
            return self._commit(paths, pending, batch_id, and_then)
        finally:
            for table in (LEAVING, TOUCHED, _BEFORE):
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
                    kept = f"from ({found}) where not ({self.leaving.condition}) order by occurred_at, event_id, content_digest"
                    written += write_partitions(connection, kept, self.home, self.source, batch_id, compares=compares)
            connection.execute("begin")
            try:
                connection.execute("delete from raw.lake_files where list_contains(?, path)", [paths])
                connection.executemany("insert into raw.replaced_files values (?)", [[path] for path in paths])
                for path, count, size in written:
                    line = [self.source, path, batch_id, count, day_of(path) in pending, size]
                    connection.execute("insert into raw.lake_files values (?, ?, ?, ?, ?, ?)", line)
                self._forget()
                build_views(connection, [self.source])
                removed = self._log(batch_id)
                and_then()
                if self.leaving.audit is not None:
                    AuditLog(self.home).append("retention", details={"source": self.source, "rows": removed, **self.leaving.audit})
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
        connection = self.connection
        connection.execute(f"""
            create or replace temp table {LEAVING} as
            select event_id, content_digest, event_type, ingest_file_id, received_at from {self._scan(paths)} where {self.leaving.condition}""").fetchall()
        connection.execute(f"""
            create or replace temp table {TOUCHED} as
            select distinct event_id from raw.event_conflicts where source = {literal(self.source)} and event_id in (select event_id from {LEAVING})""")
        connection.execute(f"create or replace temp table {_BEFORE} as {self._touched_rows()}").fetchall()

    def _touched_rows(self) -> str:
        if not rows(self.connection, f"select 1 from {TOUCHED} limit 1"):  # as nearly always: then no event is looked for in the lake
            return f"select ingest_file_id, event_type from {LEAVING} where false"
        return f"select ingest_file_id, event_type from {self.view} where event_id in (select event_id from {TOUCHED})"

    def _forget(self) -> None:
        """By both keys, because half a digest tells the contents of one id apart, and not those of all. Of an event with several contents those that are left
        contend anew."""
        connection, source = self.connection, literal(self.source)
        keys = f"select {EVENT_KEY}, md5_number_upper(content_digest) from {LEAVING}"
        connection.execute(f"delete from raw.event_index where (event_key, content_key) in ({keys})")
        if not rows(connection, f"select 1 from {TOUCHED} limit 1"):
            return
        connection.execute(f"""
            create or replace temp table _wm_left as
            select event_id, content_digest, occurred_at from raw.event_conflicts
            where source = {source} and event_id in (select event_id from {TOUCHED}) and content_digest not in (select content_digest from {LEAVING})
            qualify count(*) over (partition by event_id) > 1""")
        connection.execute(f"delete from raw.event_conflicts where source = {source} and event_id in (select event_id from {TOUCHED})")
        connection.execute(f"""
            insert into raw.event_conflicts
            select {source}, event_id, content_digest, occurred_at,
              row_number() over (partition by event_id order by occurred_at nulls last, content_digest nulls last) = 1
            from _wm_left""")
        connection.execute("drop table _wm_left")

    def _log(self, batch_id: int) -> int:
        """Where a content takes the place of one that left, its file has a row more: fewer than none were removed."""
        counted = f"""
            select ingest_file_id, event_type, 1 as n, received_at from {LEAVING} where event_id not in (select event_id from {TOUCHED})
            union all select ingest_file_id, event_type, 0, received_at from {LEAVING} where event_id in (select event_id from {TOUCHED})
            union all select ingest_file_id, event_type, 1, NULL from {_BEFORE}
            union all select ingest_file_id, event_type, -1, NULL from ({self._touched_rows()})"""
        before = self._logged()
        self.connection.execute(f"insert into raw.removals with counted as ({counted}) {self.leaving.log(batch_id)}", dict(self.leaving.parameters)).fetchall()
        return self._logged() - before

    def _logged(self) -> int:
        return int(str(rows(self.connection, "select coalesce(sum(rows_removed), 0) from raw.removals")[0][0]))

    def _scan(self, paths: Sequence[str]) -> str:
        return f"({lake_sql(self.connection, paths)})"


def day_of(path: str) -> date:
    """The day of a file of the lake."""
    found = _DAY.search(path)
    return date.fromisoformat(found.group(1)) if found else date.max


def removed_rows(connection: Connection) -> dict[str, int]:
    """Rows removed so far, by source."""
    found = rows(connection, "select source, sum(rows_removed)::bigint from raw.removals group by source order by source")
    return {str(source): int(str(count)) for source, count in found}
