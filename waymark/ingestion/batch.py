"""A batch: events of several files, told apart from what is already accepted, written to the lake, registered in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.warehouse import Connection, rows, storage_problem
from waymark.ingestion.event import CANONICAL_COLUMNS, reason_sql
from waymark.ingestion.extraction import RECORD, Shape
from waymark.ingestion.lake import discard, write_partitions, write_quarantine
from waymark.ingestion.quoting import literal, name
from waymark.ingestion.report import FileOutcome
from waymark.ingestion.tables import QUARANTINE_COLUMNS, QUARANTINE_EXTRA, build_quarantine_view, build_views

EVENTS, REFUSED, VERDICTS = "_wm_events", "_wm_refused", "_wm_verdicts"
_LOG_COLUMNS = (
    "file_id, source, file, file_digest, file_bytes, file_mtime_ns, mapping_digest, status, rows_read, rows_accepted, rows_duplicate, rows_conflict, rows_quarantined,"
    " columns_missing, columns_renamed, note, error, batch_id, ingested_at, last_occurred_at, last_received_at"
)


def next_batch_id(connection: Connection) -> int:
    found = rows(connection, "select coalesce(max(b), 0) + 1 from (select max(batch_id) as b from raw.lake_files union all select max(batch_id) from raw.ingestion_log union all select max(batch_id) from raw.quarantine_files)")
    return int(str(found[0][0]))


class Batch:
    """Collects events and refused rows in temporary tables; `commit` makes them part of the lake, wholly or not at all."""

    def __init__(self, connection: Connection, home: Home, source: str) -> None:
        self.connection, self.home, self.source = connection, home, source
        self.rows = 0
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in CANONICAL_COLUMNS.items())
        quarantine = ", ".join(f"{column} {kind}" for column, kind in {**QUARANTINE_COLUMNS, **QUARANTINE_EXTRA}.items())
        connection.execute(f"create or replace temp table {EVENTS} ({columns}, event_key UHUGEINT, content_key UHUGEINT)")
        connection.execute(f"create or replace temp table {REFUSED} ({quarantine})")

    def add_events(self, events_sql: str, parameters: dict[str, object]) -> int:
        columns = ", ".join([*(name(column) for column in CANONICAL_COLUMNS), "event_key", "content_key"])
        added = int(self.connection.execute(f"insert into {EVENTS} select {columns} from ({events_sql})", parameters).fetchall()[0][0])
        self.rows += added
        return added

    def add_refused(self, records: str, parsed: str, shape: Shape, outcome: FileOutcome, parameters: dict[str, object]) -> int:
        """Keeps what cannot be accepted: rows without a shape as their raw text, the others as JSON of the file's columns."""
        whole = RECORD if shape.is_json else "cast(json_object(" + ", ".join(f"{literal(column)}, r.{name(column)}" for column in shape.columns) + ") as varchar)"
        header = "NULL::varchar[]" if shape.is_json else "[" + ", ".join(map(literal, shape.columns)) + "]"
        future = "case when occurred_at > $last_occurred then 'too_far_in_future|occurred_at' when coalesce(received_at, occurred_at) > $last_received then 'too_far_in_future|received_at' end"
        sql = f"""
            insert into {REFUSED} by name
            select {literal(self.source)} as source, $file as file, $file_id::integer as ingest_file_id, row_number, rule, nullif(field, '') as field,
              {reason_sql("rule", "nullif(field, '')")} as reason, original, $now::timestamp as quarantined_at, {header} as file_columns, original_bytes
            from (
              select _wm_row as row_number, _wm_rule as rule, '' as field, _wm_raw as original, _wm_bytes as original_bytes from {records} where _wm_rule is not null
              union all
              select r._wm_row, split_part(v.verdict, '|', 1), substr(v.verdict, instr(v.verdict, '|') + 1), {whole}, NULL
              from (select _wm_row, coalesce(broken, {future}) as verdict from {parsed}) v join {records} r using (_wm_row) where v.verdict is not null
            ) order by row_number nulls last"""
        values = {**parameters, "file": outcome.file, "file_id": outcome.file_id, "now": wall_now()}
        return int(self.connection.execute(sql, values).fetchall()[0][0])

    def commit(self, batch_id: int, record: Callable[[Connection, dict[int, tuple[int, int, int]]], None], *, keep_quarantine: bool = True) -> None:
        """Writes the files, then registers them in one transaction, in which `record` writes the log from the counts of each file.

        record: gets file_id -> (accepted, duplicate, conflict). Raises StorageError where the disk is full or not to be written; then nothing is registered.
        """
        connection = self.connection
        self._judge()
        try:
            written = write_partitions(connection, self._kept_sql(), self.home, self.source, batch_id) if self.rows else []
            refused = int(str(rows(connection, f"select count(*) from {REFUSED}")[0][0])) if keep_quarantine else 0
            quarantined = write_quarantine(connection, f"select * from {REFUSED} order by ingest_file_id nulls last, row_number nulls last", self.home, self.source, batch_id) if refused else None
            contested = self._contested()
            connection.execute("begin")
            try:
                for path, count, size in written:
                    connection.execute("insert into raw.lake_files values (?, ?, ?, ?, true, ?)", [self.source, path, batch_id, count, size])
                if quarantined:
                    connection.execute("insert into raw.quarantine_files values (?, ?, ?, ?, ?)", [self.source, quarantined[0], batch_id, quarantined[1], quarantined[2]])
                kept = f"{EVENTS} e where not exists (select 1 from {VERDICTS} v where v.position = e.rowid and v.verdict = 'duplicate')"
                connection.execute(f"insert into raw.event_index select event_key, content_key from {kept}")
                connection.execute(f"update raw.run_clock set data_now = greatest(data_now, (select max(received_at) from {kept}))")
                if contested:
                    self._settle()
                record(connection, self._counts())
                build_views(connection, [self.source])
                build_quarantine_view(connection)
                connection.execute("commit")
            except BaseException:
                connection.execute("rollback")
                raise
        except Exception as error:
            discard(self.home, self.source, batch_id)
            if problem := storage_problem(error, str(self.home.root)):
                raise problem from error
            raise
        finally:
            for table in (EVENTS, REFUSED, VERDICTS, "_wm_contested"):
                connection.execute(f"drop table if exists {table}")

    def _judge(self) -> None:
        """Verdicts on rows that are not simply new: the same content again is a duplicate, another content under a known id a conflict."""
        self.connection.execute(f"""
            create or replace temp table {VERDICTS} as
            with keys as (select rowid as position, event_key, content_key, ingest_file_id, row_number from {EVENTS}),
            repeated as (select event_key from keys group by event_key having count(*) > 1),
            suspects as (select * from keys where event_key in (select event_key from repeated) or event_key in (select event_key from raw.event_index)),
            known as (select distinct i.event_key, i.content_key from raw.event_index i where i.event_key in (select event_key from suspects)),
            copies as (
                select s.*, exists (select 1 from known k where k.event_key = s.event_key) as is_known_id,
                  exists (select 1 from known k where k.event_key = s.event_key and k.content_key = s.content_key) as is_known_content,
                  row_number() over (partition by event_key, content_key order by ingest_file_id nulls last, row_number nulls last) as copy
                from suspects s
            ),
            contents as (
                select *, case when not is_known_content and copy = 1 then row_number() over (
                    partition by event_key, (not is_known_content and copy = 1) order by ingest_file_id nulls last, row_number nulls last) end as arrival
                from copies
            )
            select position, ingest_file_id, event_key, case when arrival is null then 'duplicate' when is_known_id or arrival > 1 then 'conflict' else 'accepted' end as verdict from contents
        """).fetchall()

    def _kept_sql(self) -> str:
        columns = ", ".join(f"e.{name(column)}" for column in CANONICAL_COLUMNS)
        return (
            f"select {columns} from {EVENTS} e where not exists (select 1 from {VERDICTS} v where v.position = e.rowid and v.verdict = 'duplicate')"
            " order by e.event_date nulls last, e.occurred_at nulls last, e.event_id nulls last, e.content_digest nulls last"
        )

    def _contested(self) -> bool:
        """Collects all contents of the ids that have more than one; False where there are none."""
        connection = self.connection
        if not rows(connection, f"select 1 from {VERDICTS} where verdict = 'conflict' limit 1"):
            return False
        # Both the contents that came with this batch and those that lie in the lake, losers of earlier conflicts included.
        connection.execute(f"""
            create or replace temp table _wm_contested as
            with ids as (select distinct e.event_id from {EVENTS} e join {VERDICTS} v on v.position = e.rowid where v.verdict = 'conflict')
            select distinct event_id, content_digest, occurred_at from (
                select e.event_id, e.content_digest, e.occurred_at from {EVENTS} e where e.event_id in (select event_id from ids)
                union all select l.event_id, l.content_digest, l.occurred_at from raw.{name(self.source + "_events")} l where l.event_id in (select event_id from ids)
                union all select c.event_id, c.content_digest, c.occurred_at from raw.event_conflicts c where c.source = {literal(self.source)} and c.event_id in (select event_id from ids)
            )""").fetchall()
        return True

    def _settle(self) -> None:
        """The survivor is the least by (occurred_at, content digest), whatever came first."""
        connection, source = self.connection, literal(self.source)
        connection.execute(f"delete from raw.event_conflicts where source = {source} and event_id in (select event_id from _wm_contested)")
        connection.execute(f"""
            insert into raw.event_conflicts
            select {source}, event_id, content_digest, occurred_at,
              row_number() over (partition by event_id order by occurred_at nulls last, content_digest nulls last) = 1
            from _wm_contested""")

    def _counts(self) -> dict[int, tuple[int, int, int]]:
        found = rows(self.connection, f"""
            select e.ingest_file_id, count(*) filter (where v.verdict is null or v.verdict = 'accepted'), count(*) filter (where v.verdict in ('duplicate', 'conflict')),
              count(*) filter (where v.verdict = 'conflict')
            from {EVENTS} e left join {VERDICTS} v on v.position = e.rowid group by 1 order by 1 nulls last""")
        return {int(str(file_id)): (int(str(accepted)), int(str(duplicate)), int(str(conflict))) for file_id, accepted, duplicate, conflict in found}


def log_line(connection: Connection, source: str, mapping_digest: str, outcome: FileOutcome, batch_id: int) -> None:
    """Writes a file's line, in place of the line of its earlier refusal."""
    connection.execute("delete from raw.ingestion_log where source = ? and file = ? and status = 'refused'", [source, outcome.file])
    marks = ", ".join("?" * 21)
    connection.execute(
        f"insert into raw.ingestion_log ({_LOG_COLUMNS}) values ({marks})",
        [
            outcome.file_id, source, outcome.file, outcome.digest, outcome.size, outcome.mtime_ns, mapping_digest, outcome.status, outcome.rows_read, outcome.rows_accepted,
            outcome.rows_duplicate, outcome.rows_conflict, outcome.rows_quarantined, outcome.columns_missing, outcome.columns_renamed, outcome.note, outcome.error,
            batch_id, wall_now(), outcome.last_occurred, outcome.last_received,
        ],
    )  # fmt: skip
