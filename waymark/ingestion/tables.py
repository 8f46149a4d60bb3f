"""The tables and views of schema `raw`, which ingestion alone writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from waymark.core.quoting import file_list, literal, name
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.event import CANONICAL_COLUMNS, empty_events_sql
from waymark.ingestion.lake import COMPARES
from waymark.privacy.comparables import COMPARABLES

QUARANTINE_COLUMNS = {
    "source": "VARCHAR", "file": "VARCHAR", "ingest_file_id": "INTEGER", "row_number": "BIGINT", "rule": "VARCHAR", "field": "VARCHAR",
    "reason": "VARCHAR", "original": "VARCHAR", "quarantined_at": "TIMESTAMP",
}  # fmt: skip
# What a replay needs beside them: the file's columns, and the bytes where the text is not faithful.
QUARANTINE_EXTRA = {"file_columns": "VARCHAR[]", "original_bytes": "BLOB"}

_TABLES = """
create schema if not exists raw;
create table if not exists raw.ingestion_log (
    file_id INTEGER, source VARCHAR, file VARCHAR, file_digest VARCHAR, file_bytes BIGINT, file_mtime_ns BIGINT, mapping_digest VARCHAR, status VARCHAR,
    rows_read BIGINT, rows_accepted BIGINT, rows_duplicate BIGINT, rows_conflict BIGINT, rows_quarantined BIGINT,
    columns_missing VARCHAR, columns_renamed VARCHAR, note VARCHAR, error VARCHAR, batch_id INTEGER, ingested_at TIMESTAMP,
    last_occurred_at TIMESTAMP, last_received_at TIMESTAMP);
create table if not exists raw.event_index (event_key UHUGEINT, content_key UBIGINT);
create table if not exists raw.event_conflicts (source VARCHAR, event_id VARCHAR, content_digest VARCHAR, occurred_at TIMESTAMP, is_survivor BOOLEAN);
create table if not exists raw.lake_files (source VARCHAR, path VARCHAR, batch_id INTEGER, rows BIGINT, is_pending BOOLEAN, bytes BIGINT);
create table if not exists raw.quarantine_files (source VARCHAR, path VARCHAR, batch_id INTEGER, rows BIGINT, bytes BIGINT);
create table if not exists raw.removals (
    removal_id INTEGER, source VARCHAR, file_id INTEGER, event_type VARCHAR, rows_removed BIGINT, reason VARCHAR, older_than DATE, last_received_at TIMESTAMP,
    data_now TIMESTAMP, removed_at TIMESTAMP);
create table if not exists raw.replaced_files (path VARCHAR);
create table if not exists raw.tombstones (digest VARCHAR, kind VARCHAR, until TIMESTAMP, request_id VARCHAR);
create table if not exists raw.run_clock (data_now TIMESTAMP);
create table if not exists raw.lake_root (root VARCHAR);
create table if not exists raw.lake_columns (column_name VARCHAR, since_batch_id INTEGER);
insert into raw.lake_columns select 'consent_act', coalesce((select max(batch_id) from raw.lake_files), 0) + 1
where not exists (from raw.lake_columns where column_name = 'consent_act');
insert into raw.run_clock select NULL where not exists (from raw.run_clock);
"""
LOG_DESCRIPTIONS = {
    "file_id": "Number of the file in this home.",
    "source": "The source's mapping.",
    "file": "Path, relative to the project folder where it lies inside.",
    "file_digest": "Digest of the file's bytes: a content is taken in once.",
    "file_bytes": "Size.",
    "file_mtime_ns": "Time of change as the file system says it, nanoseconds since 1970.",
    "mapping_digest": "Digest of the mapping that read it.",
    "status": "ingested, skipped (this content was there already) or refused (see error).",
    "rows_read": "Records in the file; always accepted + duplicate + quarantined.",
    "rows_accepted": "Records that became events.",
    "rows_duplicate": "Records of events that were there already.",
    "rows_conflict": "Those of the duplicates whose content differs from the event's.",
    "rows_quarantined": "Records that break a rule: waymark quarantine list.",
    "columns_missing": "Mapped columns that the file lacks.",
    "columns_renamed": "Columns found under another of the names that the mapping gives.",
    "note": "What else there is to say of it.",
    "error": "Why it was refused.",
    "batch_id": "Files that were taken in together.",
    "ingested_at": "When, UTC, by the wall clock.",
    "last_occurred_at": "Latest time of an event in it, UTC.",
    "last_received_at": "Latest time of receipt in it, UTC.",
}

REMOVAL_DESCRIPTIONS = {
    "removal_id": "Number of the removal in this home: what left in one run and source.",
    "source": "The source's mapping.",
    "file_id": "The file that the events had come from: raw.ingestion_log.file_id; NULL for an erasure, which tells of no file.",
    "event_type": "Their type; NULL for an erasure.",
    "rows_removed": "Events that are no longer there; below zero where another content of an event took the place of one that left.",
    "reason": "Why they left: retention; consent (retention of persons who do not grant a scope); or erasure.",
    "older_than": "Events of days before this one (UTC) left; NULL for an erasure.",
    "last_received_at": "Latest time of receipt among them (for an erasure: of the source), UTC: data_now does not go back when they leave.",
    "data_now": "The run's clock, UTC.",
    "removed_at": "When, UTC, by the wall clock.",
}


def create_tables(connection: Connection, root: Path) -> None:
    """Makes what is missing, and notes where the lake lies, so that the views can be rebuilt wherever the home stands."""
    connection.execute(_TABLES)
    _describe(connection, {"ingestion_log": LOG_DESCRIPTIONS, "removals": REMOVAL_DESCRIPTIONS})
    known = rows(connection, "select root from raw.lake_root")
    if known != [(str(root),)]:
        connection.execute("delete from raw.lake_root")
        connection.execute("insert into raw.lake_root values (?)", [str(root)])


def _describe(connection: Connection, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Comments on columns that lack theirs: each is a transaction of its own, and a run makes sure of its tables several times."""
    told = rows(connection, "select table_name, column_name, comment from duckdb_columns() where database_name = current_database() and schema_name = 'raw'")
    known = {(table, column): comment for table, column, comment in told}
    for table, descriptions in tables.items():
        for column, text in descriptions.items():
            if known.get((table, column)) != text:
                connection.execute(f"comment on column raw.{table}.{name(column)} is {literal(text)}")


def build_views(connection: Connection, sources: Iterable[str]) -> None:
    """Rebuilds `raw.<source>_events` and `raw.<source>_pending` over the registered files. Runs inside the caller's transaction, if it has one."""
    for source in sources:
        losers = bool(rows(connection, "select 1 from raw.event_conflicts where source = ? and not is_survivor limit 1", [source]))
        survives = f"""where not exists (
                select 1 from raw.event_conflicts c where c.source = {literal(source)} and not c.is_survivor
                and c.event_id = e.event_id and c.content_digest = e.content_digest)""" if losers else ""  # fmt: skip
        listed = [(str(path), bool(pending)) for path, pending in rows(connection, _FILES, [source])]
        for kind, paths in (("events", [path for path, _ in listed]), ("pending", [path for path, is_pending in listed if is_pending])):
            connection.execute(f"create or replace view raw.{name(f'{source}_{kind}')} as {lake_sql(connection, paths, survives)}")


_FILES = "select path, is_pending from raw.lake_files where source = ? order by path"


def lake_sql(connection: Connection, paths: Sequence[str], where: str = "", *, compares: bool = False) -> str:
    """SQL: the rows of registered files (paths relative to the home) in canonical columns. where: a clause about a row `e`, given to each scan.

    compares: the files are such that have the column `comparables` (lake.COMPARES), which is wanted too.

    Files of batches before a column was made lack it: their rows have NULL there.
    """
    root = Path(str(rows(connection, "select root from raw.lake_root")[0][0]))
    found = rows(connection, _LACKING, [list(paths)])
    by_columns: dict[frozenset[str], list[str]] = {}
    for path, lacking in found:
        by_columns.setdefault(frozenset(str(lacking).split(",")) - {""}, []).append(str(root / str(path)))
    return " union all ".join(_scan(files, lacking, where, "e.comparables" if compares else "") for lacking, files in by_columns.items()) or empty_events_sql()


_LACKING = """
    select path, (select coalesce(string_agg(column_name, ',' order by column_name), '') from raw.lake_columns where since_batch_id > batch_id)
    from raw.lake_files where list_contains(?, path) order by path
"""


def _scan(files: list[str], lacking: frozenset[str], where: str, also: str) -> str:
    columns = [f"cast(NULL as {kind}) as {name(column)}" if column in lacking else f"e.{name(column)}" for column, kind in CANONICAL_COLUMNS.items()]
    told = ", ".join(columns + [also] * bool(also))
    return f"select {told} from read_parquet({file_list(files)}, hive_partitioning = true, hive_types = {{'event_date': date}}) e {where}"


def build_quarantine_view(connection: Connection) -> None:
    root = Path(str(rows(connection, "select root from raw.lake_root")[0][0]))
    files = [str(root / str(path)) for (path,) in rows(connection, "select path from raw.quarantine_files order by path")]
    if files:
        body = f"select {', '.join(QUARANTINE_COLUMNS)} from read_parquet({file_list(files)}, hive_partitioning = false)"
    else:
        body = "select " + ", ".join(f"cast(NULL as {kind}) as {column}" for column, kind in QUARANTINE_COLUMNS.items()) + " where false"
    connection.execute(f"create or replace view raw.quarantine as {body}")


def comparables_sql(connection: Connection) -> str:
    """SELECT of event_id and comparables (COMPARABLES) of the accepted events that have some, over all sources: what `waymark.identity.linkage` reads.

    No view of `raw` shows them, so nothing that reads events can.
    """
    root = Path(str(rows(connection, "select root from raw.lake_root")[0][0]))
    found = rows(connection, "select path from raw.lake_files where ends_with(path, ?) order by path", [f"{COMPARES}.parquet"])
    files = [str(root / str(path)) for (path,) in found]
    if not files:
        return f"select cast(NULL as varchar) as event_id, cast(NULL as {COMPARABLES}) as comparables where false"
    return f"""
        select e.event_id, e.comparables from read_parquet({file_list(files)}, hive_partitioning = false) e
        where e.comparables is not null and not exists (
            select 1 from raw.event_conflicts c
            where c.source = e.source and not c.is_survivor and c.event_id = e.event_id and c.content_digest = e.content_digest
        )
    """


def lake_sources(connection: Connection) -> list[str]:
    """Every source that the lake holds something of, those included that the project no longer names."""
    return [str(source) for (source,) in rows(connection, "select distinct source from raw.lake_files order by source nulls last")]


def source_names(connection: Connection) -> list[str]:
    """Every source that has files or views in this warehouse."""
    found = rows(connection, "select distinct source from raw.lake_files union select distinct source from raw.ingestion_log order by 1 nulls last")
    return [str(source) for (source,) in found]
