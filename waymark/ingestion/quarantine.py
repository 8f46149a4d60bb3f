"""Refused rows: listed, shown, taken up again once the mapping is mended, deleted when their time is over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from waymark.core.clock import wall_now
from waymark.core.errors import FileRefusedError, WaymarkError
from waymark.core.home import Home
from waymark.core.quoting import file_list, literal, name
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, connect, rows
from waymark.ingestion import log
from waymark.ingestion.batch import REFUSED, Batch, next_batch_id
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.erased import RULE as ERASED
from waymark.ingestion.erased import Erased
from waymark.ingestion.event import reason_sql
from waymark.ingestion.extraction import RECORD, Shape, check_expressions
from waymark.ingestion.group import BOUNDS, JUDGED, PARSED, RAW_RULES, RECORDS, UNREADABLE, bounds_sql, judged_sql, late_sql, verdicts_sql
from waymark.ingestion.lake import scratch_folder, write_quarantine
from waymark.ingestion.mapping import Mapping, load_mapping
from waymark.ingestion.readers import NO_VERDICT
from waymark.ingestion.report import Counts
from waymark.ingestion.salvage import salvage_stored
from waymark.ingestion.tables import QUARANTINE_COLUMNS, build_quarantine_view, create_tables
from waymark.privacy import Secret
from waymark.privacy.text_search import TextSearch

STORED, _STRUCK, _RENAMED = "_wm_stored", "_wm_struck", "_wm_renamed"


@dataclass(frozen=True)
class QuarantineGroup:
    """How many rows of a file broke one rule in one field."""

    source: str
    file: str
    rule: str
    field: str | None
    reason: str
    rows: int
    first_row: int


@dataclass(frozen=True)
class QuarantinedRow:
    source: str
    file: str
    row_number: int
    rule: str
    field: str | None
    reason: str
    original: str
    quarantined_at: datetime


@dataclass
class ReplayReport:
    """What a replay moved out of quarantine; `skipped` says which files it could not try, and why."""

    source: str
    rows_tried: int = 0
    rows_accepted: int = 0
    rows_duplicate: int = 0
    rows_conflict: int = 0
    rows_quarantined: int = 0
    skipped: list[str] | None = None


def quarantine_list(home: Home, source: str | None = None) -> list[QuarantineGroup]:
    """Counts by source, file, rule and field. Reads the files alone, so it works while a run is writing."""
    columns = "source, file, rule, field, reason, count(*), min(row_number)"
    found = _read(home, source, f"select {columns} from quarantined group by 1, 2, 3, 4, 5 order by 1, 2, 6 desc, 3, 4 nulls first")
    return [
        QuarantineGroup(str(of), str(file), str(rule), None if field is None else str(field), str(reason), int(str(count)), int(str(first)))
        for of, file, rule, field, reason, count, first in found
    ]


def quarantine_show(home: Home, source: str, *, rule: str | None = None, file: str | None = None, limit: int = 20) -> list[QuarantinedRow]:
    """The rows themselves, with their original text (which is personal data), by file and record number."""
    conditions = [f"rule = {literal(rule)}" for _ in range(1) if rule] + [f"contains(file, {literal(file)})" for _ in range(1) if file]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    order = "order by file nulls last, row_number nulls last"
    sql = f"select source, file, row_number, rule, field, reason, original, quarantined_at from quarantined{where} {order} limit {int(limit)}"
    return [
        QuarantinedRow(str(of), str(path), int(str(number)), str(broken), None if field is None else str(field), str(reason), str(original), at)  # type: ignore[arg-type]
        for of, path, number, broken, field, reason, original, at in _read(home, source, sql)
    ]


def _read(home: Home, source: str | None, sql: str) -> list[tuple[object, ...]]:
    files = sorted(home.quarantine.glob(f"{source or '*'}/b*.parquet")) if home.quarantine.exists() else []
    if not files:
        return []
    with connect() as connection:
        stored = f"read_parquet({file_list(files)}, hive_partitioning = false)"
        connection.execute(f"create view quarantined as select {', '.join(QUARANTINE_COLUMNS)} from {stored}")
        return rows(connection, sql)


def purge_quarantine(connection: Connection, home: Home, source: str, days: int, now: datetime | None = None) -> int:
    """Deletes refused rows older than `days`; the log keeps their number. Returns how many went."""
    cutoff = (now or wall_now()) - timedelta(days=days)
    paths = [str(path) for (path,) in rows(connection, "select path from raw.quarantine_files where source = ? order by path nulls last", [source])]
    paths = [path for path in paths if (home.root / path).exists()]
    if not paths:
        return 0
    stored = f"read_parquet({file_list(home.root / path for path in paths)}, hive_partitioning = false, filename = true)"
    expired = rows(connection, f"select filename, count(*) from {stored} where quarantined_at < ? group by 1 order by 1 nulls last", [cutoff])
    if not expired:
        return 0
    touched = [str(Path(str(path)).relative_to(home.root)) for path, _ in expired]
    files = file_list(home.root / path for path in touched)
    kept = f"select * from read_parquet({files}, hive_partitioning = false) where quarantined_at >= {literal(cutoff.isoformat())}::timestamp"
    _exchange(connection, home, source, gone=touched, kept=kept)
    return sum(int(str(count)) for _, count in expired)


def purge_expired(connection: Connection, home: Home, days: int, now: datetime | None = None) -> int:
    """The same for every source that has refused rows, one that the project no longer names included: its rows expire like any others."""
    sources = [str(source) for (source,) in rows(connection, "select distinct source from raw.quarantine_files order by source nulls last")]
    return sum(purge_quarantine(connection, home, source, days, now) for source in sources)


def _exchange(connection: Connection, home: Home, source: str, *, gone: list[str], kept: str) -> None:
    """Writes the rows that are kept (a SELECT of stored rows), if there are any, in the place of the files that go, and then removes these."""
    batch_id = next_batch_id(connection)
    ordered = f"{kept} order by ingest_file_id nulls last, row_number nulls last"
    written = [write_quarantine(connection, ordered, home, source, batch_id)] if rows(connection, f"select 1 from ({kept}) limit 1") else []
    connection.execute("begin")
    for path in gone:
        connection.execute("delete from raw.quarantine_files where path = ?", [path])
    for path, count, size in written:
        connection.execute("insert into raw.quarantine_files values (?, ?, ?, ?, ?)", [source, path, batch_id, count, size])
    build_quarantine_view(connection)
    connection.execute("commit")
    for path in gone:
        (home.root / path).unlink(missing_ok=True)


def quarantine_replay(project: Project, source: str, connection: Connection, secret: Secret) -> ReplayReport:
    """Tries the source's refused rows again under its mapping as it is now; what passes is accepted (or found a duplicate), the rest stays.

    All of it is one transaction: the lines of the log, the lake and the quarantine change together. Raises MappingError, WaymarkError.
    """
    if source not in project.settings.sources:
        raise WaymarkError(
            f"no source '{source}' in this project", where=str(project.directory), remedy=f"One of: {', '.join(sorted(project.settings.sources))}."
        )
    create_tables(connection, project.home.root)
    replay = _Replay(project, load_mapping(project.mapping_path(source)), connection, secret)
    try:
        return replay.run()
    finally:
        for table in (STORED, RECORDS, PARSED, JUDGED, BOUNDS, f"{RECORDS}_verdicts"):
            connection.execute(f"drop table if exists {table}")
        shutil.rmtree(scratch_folder(project.home), ignore_errors=True)


class _Replay:
    def __init__(self, project: Project, mapping: Mapping, connection: Connection, secret: Secret, *, erased: Erased | None = None) -> None:
        """erased: tells records of erased persons; None: the home's own."""
        self.project, self.mapping, self.connection, self.secret = project, mapping, connection, secret
        self.report = ReplayReport(mapping.source, skipped=[])
        self.erased = erased or Erased.open(connection, project.home, secret)

    def run(self) -> ReplayReport:
        connection, home, source = self.connection, self.project.home, self.mapping.source
        paths = [str(path) for (path,) in rows(connection, "select path from raw.quarantine_files where source = ? order by path nulls last", [source])]
        if not paths:
            return self.report
        stored = f"read_parquet({file_list(home.root / path for path in paths)}, hive_partitioning = false)"
        connection.execute(f"create or replace temp table {STORED} as select * from {stored}")
        self.report.rows_tried = int(str(rows(connection, f"select count(*) from {STORED} where rule <> '{ERASED}'")[0][0]))
        batch = Batch(connection, home, source, compares=bool(self.mapping.compare), scopes=self.project.settings.consent.all_scopes)
        for header in _headers(connection):
            self._try(batch, header)
        if not batch.rows:
            self.report.rows_quarantined = self.report.rows_tried
            return self.report
        taken = "select 1 from _wm_events e where e.ingest_file_id = s.ingest_file_id and e.row_number = s.row_number"
        connection.execute(f"insert into {REFUSED} by name select * from {STORED} s where not exists ({taken})")
        batch_id = next_batch_id(connection)

        def record(counts: Counts) -> None:
            for file_id, count in sorted(counts.items()):
                log.replay_line(connection, file_id, count)
                self.report.rows_accepted += count.accepted
                self.report.rows_duplicate += count.duplicate
                self.report.rows_conflict += count.conflict

        batch.commit(batch_id, record, replaced=paths)
        for path in paths:
            (home.root / path).unlink(missing_ok=True)
        self.report.rows_quarantined = self.report.rows_tried - self.report.rows_accepted - self.report.rows_duplicate
        return self.report

    def parse(self, header: list[str] | None) -> Canonical | None:
        """Parses the stored rows of files with one header (None: JSON records) into `_wm_parsed`; None where the mapping cannot read them."""
        connection, mapping = self.connection, self.mapping
        if (header is None) is not mapping.is_json:
            self._skip("the mapping's format is another one now", header)
            return None
        shape = Shape(tuple(header), is_json=False) if header is not None else Shape((RECORD,), is_json=True)
        try:
            absent = check_expressions(connection, mapping, shape, "quarantine")
            canonical = Canonical(mapping, shape, self.project.settings, "quarantine", absent)
        except FileRefusedError as error:
            self._skip(str(error.what), header)
            return None
        self._records(shape)
        connection.execute(f"create or replace temp table {PARSED} as {canonical.parsed_sql(RECORDS)}").fetchall()
        if self.erased:
            self.erased.mark(PARSED, canonical)
        return canonical

    def _try(self, batch: Batch, header: list[str] | None) -> None:
        connection = self.connection
        canonical = self.parse(header)
        if canonical is None:
            return
        connection.execute(judged_sql(is_first=True)).fetchall()
        # A file's bounds are those that it was read with; where it had none (every row refused), those of the rows at hand.
        connection.execute(f"""
            create or replace temp table {BOUNDS} as
            select b._wm_file, coalesce(l.last_occurred_at, b.last_occurred) as last_occurred, coalesce(l.last_received_at, b.last_received) as last_received
            from ({bounds_sql()}) b left join raw.ingestion_log l on l.file_id = b._wm_file""")
        verdicts = verdicts_sql(self.project.settings.time.max_future_skew_days)
        batch.add_events(canonical, PARSED, self.secret.parameters())
        batch.drop_events(late_sql(verdicts))
        rule, field = "split_part(v.verdict, '|', 1)", "nullif(substr(v.verdict, instr(v.verdict, '|') + 1), '')"
        connection.execute(f"create or replace temp table {RECORDS}_verdicts as {verdicts}")
        connection.execute(f"""
            update {STORED} s set rule = {rule}, field = {field}, reason = {reason_sql(rule, field)}
            from {RECORDS}_verdicts v
            where v._wm_file = s.ingest_file_id and v._wm_row = s.row_number and v.verdict is not null and s.rule not in ({_listed(RAW_RULES)})""")
        connection.execute(f"update {STORED} set original = '' where rule = '{ERASED}'")

    def _skip(self, why: str, header: list[str] | None) -> None:
        shown = "JSON records" if header is None else f"files with columns {', '.join(header[:4])}, …"
        if self.report.skipped is not None:
            self.report.skipped.append(f"{why} ({shown})")

    def _records(self, shape: Shape) -> None:
        """Makes `_wm_records` from what is stored: parsed rows from their JSON, raw ones by reading their text again."""
        connection, mapping = self.connection, self.mapping
        same = "file_columns is null" if shape.is_json else f"file_columns = [{_listed(shape.columns)}]"
        raw_rules = f"rule in ({_listed(RAW_RULES)})"
        head = f"ingest_file_id as _wm_file, row_number as _wm_row, {NO_VERDICT}"
        is_raw = "original_bytes is not null" if shape.is_json else raw_rules
        if shape.is_json:
            columns = f"original as {RECORD}"
        else:
            paths = ", ".join(literal('$."' + column.replace("\\", "\\\\").replace('"', '\\"') + '"') for column in shape.columns)
            columns = ", ".join(f"_wm_values[{position}] as {name(column)}" for position, column in enumerate(shape.columns, 1))
            head = f"{head}, json_extract_string(original, [{paths}]) as _wm_values"
        inner = f"select {head}, original from {STORED} where {same} and not ({is_raw}) and rule <> '{ERASED}'"
        picked = ", ".join(["_wm_file", "_wm_row", "_wm_rule", "_wm_raw", "_wm_bytes", columns])
        connection.execute(f"create or replace temp table {RECORDS} as select {picked} from ({inner})")
        raw = rows(
            connection,
            f"""select ingest_file_id, row_number, original, original_bytes from {STORED} where {same} and {is_raw}
                order by ingest_file_id nulls last, row_number nulls last""",
        )
        if raw and mapping.format != "parquet":
            target = scratch_folder(self.project.home) / "stored.parquet"
            stored = [
                (int(str(file_id)), int(str(number)), str(text), content if isinstance(content, bytes) else None) for file_id, number, text, content in raw
            ]
            salvage_stored(stored, mapping.encoding, None if shape.is_json else mapping.delimiter, list(shape.columns), target)
            connection.execute(f"insert into {RECORDS} by name select * from read_parquet({file_list([target])})")


def count_quarantined(connection: Connection) -> int:
    """How many refused rows are kept."""
    return int(str(rows(connection, "select coalesce(sum(rows), 0)::bigint from raw.quarantine_files")[0][0]))


def quarantined_files(connection: Connection, home: Home) -> set[str]:
    """The files, as the log names them, that refused rows came from."""
    stored = _stored(connection, home)
    return {str(file) for (file,) in rows(connection, f"select distinct file from {stored} where file is not null")} if stored else set()


def rename_quarantined(connection: Connection, home: Home, renamed: MappingOf[str, str]) -> None:
    """Has refused rows say other names of the files that they came from. renamed: old path -> new path."""
    if not (stored := _stored(connection, home)):
        return
    pairs = "select unnest(?::varchar[]) as old, unnest(?::varchar[]) as new"
    connection.execute(f"create or replace temp table {_RENAMED} as {pairs}", [list(renamed), list(renamed.values())])
    touched = rows(connection, f"select distinct filename from {stored} where file in (select old from {_RENAMED}) order by filename nulls last")
    for (file,) in touched:
        path = Path(str(file)).relative_to(home.root)
        ((source,),) = rows(connection, "select source from raw.quarantine_files where path = ?", [str(path)])
        kept = f"select s.* replace (coalesce(r.new, s.file) as file) from read_parquet({file_list([home.root / path])}, hive_partitioning = false) s"
        _exchange(connection, home, str(source), gone=[str(path)], kept=f"{kept} left join {_RENAMED} r on r.old = s.file")
    connection.execute(f"drop table {_RENAMED}")


def _stored(connection: Connection, home: Home) -> str:
    """A relation of all refused rows, with the file that each lies in; "" where there are none."""
    paths = [home.root / str(path) for (path,) in rows(connection, "select path from raw.quarantine_files order by path nulls last")]
    there = [path for path in paths if path.exists()]
    return f"read_parquet({file_list(there)}, hive_partitioning = false, filename = true)" if there else ""


def erase_quarantined(
    project: Project, mappings: MappingOf[str, Mapping], connection: Connection, secret: Secret, search: TextSearch | None = None
) -> int:
    """Removes the refused rows of erased persons, and those that mention one; the log keeps their number. Returns how many went.

    mappings: by source. Of a source without one, and of what cannot be read, all words of a row are looked at. search: what the last scan looks for there.
    """
    erased, home, removed = Erased.open(connection, project.home, secret), project.home, 0
    for source, paths in _struck(project, mappings, erased, search) if erased else []:
        count = int(str(rows(connection, f"select count(*) from {STORED} s where {_IS_STRUCK}")[0][0]))
        if count:
            _exchange(connection, home, source, gone=paths, kept=f"select * from {STORED} s where not {_IS_STRUCK}")
        removed += count
    return removed


def quarantined_of(project: Project, mappings: MappingOf[str, Mapping], erased: Erased) -> list[QuarantinedRow]:
    """The refused rows that `erase_quarantined` would remove, were the persons that `erased` looks for erased."""
    found: list[QuarantinedRow] = []
    columns = "source, file, row_number, rule, field, reason, original, quarantined_at"
    for _ in _struck(project, mappings, erased):
        told = rows(erased.connection, f"select {columns} from {STORED} s where {_IS_STRUCK} order by file nulls last, row_number nulls last")
        found += [QuarantinedRow(*row) for row in told]  # type: ignore[arg-type]
    return found


def _struck(
    project: Project, mappings: MappingOf[str, Mapping], erased: Erased, search: TextSearch | None = None
) -> Iterator[tuple[str, list[str]]]:
    """For each source that has some, its refused rows in `_wm_stored`, those of them that are of the persons in `_wm_struck`; yields its name and files."""
    connection, home = erased.connection, project.home
    for (source,) in rows(connection, "select distinct source from raw.quarantine_files order by source nulls last"):
        found = rows(connection, "select path from raw.quarantine_files where source = ? order by path nulls last", [source])
        paths = [str(path) for (path,) in found if (home.root / str(path)).exists()]
        if not paths:
            continue
        mapping = mappings.get(str(source))
        try:
            stored = f"read_parquet({file_list(home.root / path for path in paths)}, hive_partitioning = false)"
            connection.execute(f"create or replace temp table {STORED} as select * from {stored}")
            _strike(connection, erased, _Replay(project, mapping, connection, erased.secret, erased=erased) if mapping else None)
            if search and (said := search.hits(f"select ingest_file_id, row_number, original as text from {STORED}", "ingest_file_id, row_number")):
                connection.execute(f"insert into {_STRUCK} select unnest(?::integer[]), unnest(?::bigint[])", [*map(list, zip(*said, strict=True))])
            yield str(source), paths
        finally:
            for table in (STORED, _STRUCK, RECORDS, PARSED):
                connection.execute(f"drop table if exists {table}")
            erased.forget()


def _strike(connection: Connection, erased: Erased, replay: _Replay | None) -> None:
    connection.execute(f"create or replace temp table {_STRUCK} (_wm_file INTEGER, _wm_row BIGINT)")
    unread = f"rule <> '{ERASED}'"
    if replay is not None:
        unread = f"({UNREADABLE} or original_bytes is not null)"
        for header in _headers(connection):
            if replay.parse(header):
                connection.execute(f"insert into {_STRUCK} select _wm_file, _wm_row from {PARSED} where broken = '{ERASED}|'")
            else:
                unread += " or file_columns is null" if header is None else f" or file_columns = [{_listed(tuple(header))}]"
    texts = f"select ingest_file_id as _wm_file, row_number as _wm_row, original as text from {STORED}"
    told = [replay.mapping] if replay else []
    for condition, ids in ((f"rule <> '{ERASED}'", False), (unread, True)):
        connection.execute(f"insert into {_STRUCK} {erased.mentioning(f'{texts} where {condition}', told, ids=ids)}")


_IS_STRUCK = f"exists (select 1 from {_STRUCK} h where h._wm_file = s.ingest_file_id and h._wm_row = s.row_number)"


def _headers(connection: Connection) -> list[list[str] | None]:
    """The headers of the files that the stored rows came from; None for JSON records."""
    found = rows(connection, f"select distinct file_columns from {STORED} order by file_columns nulls first")
    return [[str(column) for column in header] if isinstance(header, list) else None for (header,) in found]


def _listed(texts: tuple[str, ...]) -> str:
    return ", ".join(map(literal, texts))
