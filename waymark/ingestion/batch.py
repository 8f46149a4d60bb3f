"""A batch: events of several files, told apart from what is already accepted, written to the lake, registered in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from waymark.core.clock import wall_now
from waymark.core.errors import WaymarkError
from waymark.core.home import Home
from waymark.core.quoting import file_list, literal, name
from waymark.core.warehouse import Connection, rows, storage_problem
from waymark.ingestion import log
from waymark.ingestion.acts import note_acts
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.erased import RULE as ERASED
from waymark.ingestion.event import CANONICAL_COLUMNS, reason_sql
from waymark.ingestion.extraction import RECORD, Shape
from waymark.ingestion.lake import discard, write_partitions, write_quarantine
from waymark.ingestion.report import Count, Counts
from waymark.ingestion.tables import QUARANTINE_COLUMNS, QUARANTINE_EXTRA, build_quarantine_view, build_views
from waymark.ingestion.unchecked import owe_checks
from waymark.privacy.comparables import COMPARABLES

EVENTS, REFUSED, KNOWN, VERDICTS, CONTESTED = "_wm_events", "_wm_refused", "_wm_known", "_wm_verdicts", "_wm_contested"
# A record's file and number say which row is meant. The engine's own row ids do not: of a table from which rows were deleted they may change from one
# statement to the next (seen once in sixty batches of two million rows: duplicates stayed, and other rows went in their place).
_SAME = "v.ingest_file_id = e.ingest_file_id and v.row_number = e.row_number"
_IS_KEPT = f"not exists (select 1 from {VERDICTS} v where {_SAME} and v.verdict in ('duplicate', 'kept'))"


def next_batch_id(connection: Connection) -> int:
    found = rows(
        connection,
        """select coalesce(max(id), 0) + 1 from (
            select max(batch_id) as id from raw.lake_files
            union all select max(batch_id) from raw.ingestion_log union all select max(batch_id) from raw.quarantine_files
        )""",
    )
    return int(str(found[0][0]))


def suspects(connection: Connection, canonical: Canonical, parsed: str) -> frozenset[str]:
    """What `Canonical.events_sql` has to look at in the parsed rows, to redact it."""
    asked = connection.execute(canonical.suspects_sql(parsed))
    return frozenset(column for (column, *_), holds in zip(asked.description, asked.fetchall()[0], strict=True) if holds)


class Batch:
    """Collects events and refused rows in temporary tables; `commit` makes them part of the lake, wholly or not at all.

    mapping_digest: of the mapping that read them, where the same rows may have been read by another before; None where they were never accepted.
    compares: the mapping compares parts of names, so the files get the column `comparables` as well (lake.COMPARES). scopes: those of consent that the audit
    log may name.
    """

    def __init__(
        self, connection: Connection, home: Home, source: str, mapping_digest: str | None = None, *, compares: bool = False, scopes: Collection[str]
    ) -> None:
        self.connection, self.home, self.source, self.mapping_digest, self.scopes = connection, home, source, mapping_digest, scopes
        self.rows, self.compares = 0, compares
        self.columns = {**CANONICAL_COLUMNS, **({"comparables": COMPARABLES} if compares else {})}
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in self.columns.items())
        quarantine = ", ".join(f"{column} {kind}" for column, kind in {**QUARANTINE_COLUMNS, **QUARANTINE_EXTRA}.items())
        connection.execute(f"create or replace temp table {EVENTS} ({columns}, event_key UHUGEINT, content_key UBIGINT)")
        connection.execute(f"create or replace temp table {REFUSED} ({quarantine})")

    def add_events(self, canonical: Canonical, parsed: str, parameters: dict[str, bytes]) -> int:
        """Takes the events of the parsed rows that break no rule; how many."""
        events_sql = canonical.events_sql(parsed, suspects(self.connection, canonical, parsed))
        columns = ", ".join([*(name(column) for column in self.columns), "event_key", "content_key"])
        added = int(self.connection.execute(f"insert into {EVENTS} select {columns} from ({events_sql})", parameters).fetchall()[0][0])
        self.rows += added
        return added

    def drop_events(self, records: str) -> None:
        """Takes back the events of some records, given as a SELECT of _wm_file and _wm_row."""
        sql = f"delete from {EVENTS} e using ({records}) r where e.ingest_file_id = r._wm_file and e.row_number = r._wm_row"
        self.rows -= int(self.connection.execute(sql).fetchall()[0][0])

    def forget(self, file_ids: list[int]) -> None:
        """Drops what was added of these files."""
        listed = ", ".join(map(str, file_ids))
        for table in (EVENTS, REFUSED):
            self.connection.execute(f"delete from {table} where ingest_file_id in ({listed})")
        self.rows = int(str(rows(self.connection, f"select count(*) from {EVENTS}")[0][0]))

    def add_refused(self, records: str, verdicts: str, shape: Shape, files: dict[int, str]) -> int:
        """Keeps what cannot be accepted: records without a shape as their raw text, the others as JSON of the file's columns.

        verdicts: SELECT of _wm_file, _wm_row, verdict ('rule|field'). files: file_id -> path.
        """
        whole = f"r.{RECORD}"
        header = "NULL::varchar[]"
        if not shape.is_json:
            whole = "cast(json_object(" + ", ".join(f"{literal(column)}, r.{name(column)}" for column in shape.columns) + ") as varchar)"
            header = "[" + ", ".join(map(literal, shape.columns)) + "]"
        paths = " ".join(f"when {file_id} then {literal(path)}" for file_id, path in sorted(files.items()))
        sql = f"""
            insert into {REFUSED} by name
            select {literal(self.source)} as source, case ingest_file_id {paths} end as file, ingest_file_id, row_number, rule, nullif(field, '') as field,
              {reason_sql("rule", "nullif(field, '')")} as reason, case when rule = '{ERASED}' then '' else original end as original,
              $now::timestamp as quarantined_at, {header} as file_columns, original_bytes
            from (
              select _wm_file as ingest_file_id, _wm_row as row_number, _wm_rule as rule, '' as field, _wm_raw as original, _wm_bytes as original_bytes
              from {records} where _wm_rule is not null
              union all
              select r._wm_file, r._wm_row, split_part(v.verdict, '|', 1), substr(v.verdict, instr(v.verdict, '|') + 1), {whole}, NULL
              from ({verdicts}) v join {records} r using (_wm_file, _wm_row) where v.verdict is not null
            )"""
        return int(self.connection.execute(sql, {"now": wall_now()}).fetchall()[0][0])

    def commit(self, batch_id: int, record: Callable[[Counts], None], *, replaced: Sequence[str] = ()) -> None:
        """Writes the files, then registers them in one transaction, in which `record` writes the log.

        replaced: quarantine files that this batch's refused rows take the place of. Raises StorageError where the disk is full or not to be
        written; then nothing is registered.
        """
        connection = self.connection
        self._judge()
        is_committed = False
        try:
            written = write_partitions(connection, self._kept_sql(), self.home, self.source, batch_id, compares=self.compares) if self.rows else []
            self._compare(written)
            refused = f"select * from {REFUSED} order by ingest_file_id nulls last, row_number nulls last"
            has_refused = bool(rows(connection, f"select 1 from {REFUSED} limit 1"))
            quarantined = [write_quarantine(connection, refused, self.home, self.source, batch_id)] if has_refused else []
            is_contested = self._contested()
            connection.execute("begin")
            try:
                if written:
                    values = ", ".join(f"({literal(self.source)}, {literal(path)}, {batch_id}, {count}, true, {size})" for path, count, size in written)
                    connection.execute(f"insert into raw.lake_files values {values}")
                    owe_checks(connection, ["raw"])
                    note_acts(connection, self.source, batch_id, f"select consent_act from {EVENTS} e where {_IS_KEPT}", self.scopes)
                for path in replaced:
                    connection.execute("delete from raw.quarantine_files where path = ?", [path])
                for path, count, size in quarantined:
                    connection.execute("insert into raw.quarantine_files values (?, ?, ?, ?, ?)", [self.source, path, batch_id, count, size])
                connection.execute(f"insert into raw.event_index select event_key, content_key from {EVENTS} e where {_IS_KEPT}")
                connection.execute(f"update raw.run_clock set data_now = greatest(data_now, (select max(received_at) from {EVENTS} e where {_IS_KEPT}))")
                if is_contested:
                    self._settle()
                record(self._counts())
                build_views(connection, [self.source])
                build_quarantine_view(connection)
                connection.execute("commit")
                is_committed = True
            except BaseException:
                with contextlib.suppress(Exception):  # an interrupt may arrive while the commit returns: then there is nothing to roll back
                    connection.execute("rollback")
                raise
        except Exception as error:
            if not is_committed:
                discard(self.home, self.source, batch_id)
            if problem := storage_problem(error, str(self.home.root)):
                raise problem from error
            raise
        finally:
            for table in (EVENTS, REFUSED, KNOWN, VERDICTS, CONTESTED):
                connection.execute(f"drop table if exists {table}")

    def _compare(self, written: Sequence[tuple[str, int, int]]) -> None:
        """Reads back what was written. Raises WaymarkError where it is not as many events as are to be kept, or one of them stands there twice."""
        listed = file_list(self.home.root / path for path, _, _ in written)
        sums = "count(*), count(distinct hash(event_id, content_digest))"
        found = rows(self.connection, f"select {sums} from read_parquet({listed}, hive_partitioning = false)")[0] if written else (0, 0)
        kept = rows(self.connection, f"select count(*) from {EVENTS} e where {_IS_KEPT}")[0][0]
        if found != (kept, kept):
            raise WaymarkError(
                f"the files of the lake hold {found[0]:,} events, {found[1]:,} of them different, and {kept:,} were to be written",
                where=f"source '{self.source}'", remedy="Nothing was accepted. Run again, and please report this.",
            )  # fmt: skip

    def _judge(self) -> None:
        """Verdicts on rows that are not simply new: the same content again is a duplicate, another content under a known id a conflict."""
        by_arrival = "order by ingest_file_id nulls last, row_number nulls last"
        # The index grows with history: each row of it is held against the batch's keys, and only what is found is kept.
        self.connection.execute(f"""
            create or replace temp table {KNOWN} as
            select distinct event_key, content_key from raw.event_index where event_key in (select event_key from {EVENTS})""").fetchall()
        self.connection.execute(f"""
            create or replace temp table {VERDICTS} as
            with suspects as (
                select event_key, content_key, ingest_file_id, row_number from {EVENTS}
                where event_key in (select event_key from {EVENTS} group by event_key having count(*) > 1 union all select event_key from {KNOWN})
            ),
            copies as (
                select s.*, exists (select 1 from {KNOWN} k where k.event_key = s.event_key) as is_known_id,
                  exists (select 1 from {KNOWN} k where k.event_key = s.event_key and k.content_key = s.content_key)
                    or row_number() over (partition by event_key, content_key {by_arrival}) > 1 as is_duplicate
                from suspects s
            ),
            arrivals as (select *, row_number() over (partition by event_key, is_duplicate {by_arrival}) as arrival from copies)
            select ingest_file_id, row_number,
              case when is_duplicate then 'duplicate' when is_known_id or arrival > 1 then 'conflict' else 'accepted' end as verdict
            from arrivals
        """).fetchall()
        if self.mapping_digest and log.other_mappings(self.connection, self.source, self.mapping_digest) and self._has_conflicts():
            self._keep_as_read_before(self.mapping_digest)

    def _has_conflicts(self) -> bool:
        return bool(rows(self.connection, f"select 1 from {VERDICTS} where verdict = 'conflict' limit 1"))

    def _keep_as_read_before(self, mapping_digest: str) -> None:
        """An event stays as the mapping read it that first accepted it: what differs in another mapping's reading is the mapping, not the source."""
        self.connection.execute(f"""
            update {VERDICTS} set verdict = 'kept'
            where verdict = 'conflict' and (ingest_file_id, row_number) in (
                select e.ingest_file_id, e.row_number from {EVENTS} e join {VERDICTS} v on {_SAME} and v.verdict = 'conflict'
                join raw.{name(self.source + "_events")} accepted on accepted.event_id = e.event_id
                join raw.ingestion_log l on l.file_id = accepted.ingest_file_id
                where l.mapping_digest <> {literal(mapping_digest)}
            )""").fetchall()

    def _kept_sql(self) -> str:
        columns = ", ".join(f"e.{name(column)}" for column in self.columns)
        order = ", ".join(f"e.{column} nulls last" for column in ("occurred_at", "event_id", "content_digest"))
        return f"select {columns} from {EVENTS} e where {_IS_KEPT} order by {order}"

    def _contested(self) -> bool:
        """Collects all contents of the ids that have more than one: of this batch, of the lake, and earlier losers. False where there are none."""
        connection = self.connection
        if not self._has_conflicts():
            return False
        conflicts = f"{EVENTS} e join {VERDICTS} v on {_SAME} where v.verdict = 'conflict'"
        wanted = f"event_id in (select e.event_id from {conflicts})"
        contents = f"select event_id, content_digest, occurred_at from {EVENTS} where {wanted}"
        accepted_before = f"e.event_key in (select event_key from {KNOWN})"
        if rows(connection, f"select 1 from {conflicts} and {accepted_before} limit 1"):
            # Only an id that was accepted before can lie in the lake, and only for such a one all of the lake's ids are read.
            known = f"event_id in (select e.event_id from {conflicts} and {accepted_before})"
            contents += f" union all select event_id, content_digest, occurred_at from raw.{name(self.source + '_events')} where {known}"
            contents += f" union all select event_id, content_digest, occurred_at from raw.event_conflicts where source = {literal(self.source)} and {known}"
        connection.execute(f"create or replace temp table {CONTESTED} as select distinct event_id, content_digest, occurred_at from ({contents})").fetchall()
        return True

    def _settle(self) -> None:
        """The survivor is the least by (occurred_at, content digest), whatever came first."""
        connection, source = self.connection, literal(self.source)
        connection.execute(f"delete from raw.event_conflicts where source = {source} and event_id in (select event_id from {CONTESTED})")
        connection.execute(f"""
            insert into raw.event_conflicts
            select {source}, event_id, content_digest, occurred_at,
              row_number() over (partition by event_id order by occurred_at nulls last, content_digest nulls last) = 1
            from {CONTESTED}""")

    def _counts(self) -> Counts:
        found = rows(
            self.connection,
            f"""select e.ingest_file_id, count(*) filter (where v.verdict is null or v.verdict = 'accepted'),
                  count(*) filter (where v.verdict <> 'accepted'), count(*) filter (where v.verdict = 'conflict'), count(*) filter (where v.verdict = 'kept')
                from {EVENTS} e left join {VERDICTS} v on {_SAME} group by 1 order by 1 nulls last""",
        )
        return {int(str(file_id)): Count(*(int(str(count)) for count in counts)) for file_id, *counts in found}
