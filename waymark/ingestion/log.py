"""Lines of raw.ingestion_log: one a file, written once, and touched again only by replays."""

from __future__ import annotations

from waymark.core.clock import wall_now
from waymark.core.quoting import name
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.report import Count, FileOutcome, Refusal


def next_file_id(connection: Connection) -> int:
    return int(str(rows(connection, "select coalesce(max(file_id), 0) + 1 from raw.ingestion_log")[0][0]))


def write_line(connection: Connection, source: str, mapping_digest: str, outcome: FileOutcome, batch_id: int) -> None:
    """Writes a file's line, in place of the line of its earlier refusal."""
    connection.execute("delete from raw.ingestion_log where source = ? and file = ? and status = 'refused'", [source, outcome.file])
    line = {
        "file_id": outcome.file_id, "source": source, "file": outcome.file, "file_digest": outcome.digest or None, "file_bytes": outcome.size,
        "file_mtime_ns": outcome.mtime_ns, "mapping_digest": mapping_digest, "status": outcome.status, "rows_read": outcome.rows_read,
        "rows_accepted": outcome.rows_accepted, "rows_duplicate": outcome.rows_duplicate, "rows_conflict": outcome.rows_conflict,
        "rows_quarantined": outcome.rows_quarantined, "columns_missing": outcome.columns_missing, "columns_renamed": outcome.columns_renamed,
        "note": outcome.note, "error": outcome.error, "batch_id": batch_id, "ingested_at": wall_now(),
        "last_occurred_at": outcome.last_occurred, "last_received_at": outcome.last_received,
    }  # fmt: skip
    connection.execute(f"insert into raw.ingestion_log ({', '.join(line)}) values ({', '.join('?' * len(line))})", list(line.values()))


def known_states(connection: Connection, source: str) -> set[tuple[str, int, int]]:
    """(file, bytes, mtime in ns) of what was taken in as it was then. A refused file is tried again at every run: its cause may lie outside of it."""
    sql = """select distinct file, file_bytes, file_mtime_ns from raw.ingestion_log
             where source = ? and status <> 'refused' and file_bytes is not null and file_mtime_ns is not null"""
    return {(str(file), int(str(size)), int(str(mtime_ns))) for file, size, mtime_ns in rows(connection, sql, [source])}


def had_other_mapping(connection: Connection, source: str, file: str, mapping_digest: str) -> bool:
    """Whether the newest ingestion under this name read it by another mapping."""
    sql = "select mapping_digest from raw.ingestion_log where source = ? and file = ? and status = 'ingested' order by file_id desc nulls last limit 1"
    return rows(connection, sql, [source, file]) not in ([], [(mapping_digest,)])


def other_mappings(connection: Connection, source: str, mapping_digest: str) -> int:
    """How many files of the source other mappings than this one read."""
    sql = "select count(*) from raw.ingestion_log where source = ? and status = 'ingested' and mapping_digest <> ?"
    return int(str(rows(connection, sql, [source, mapping_digest])[0][0]))


def has_events_without_ids(connection: Connection, source: str, file: str) -> bool:
    """Whether events of an earlier ingestion under this name carry no id of the source's own."""
    sql = f"""select 1 from raw.{name(source + "_events")} where source_event_id is null and ingest_file_id in (
                  select file_id from raw.ingestion_log where source = ? and file = ? and status = 'ingested') limit 1"""
    return bool(rows(connection, sql, [source, file]))


def ingested_digests(connection: Connection, source: str, digest: str, file: str) -> list[tuple[str, str]]:
    """(file, digest) of what was ingested with this content or under this name, oldest first."""
    sql = """select file, file_digest from raw.ingestion_log where source = ? and status = 'ingested' and (file_digest = ? or file = ?)
             order by file_id nulls last"""
    return [(str(path), str(found)) for path, found in rows(connection, sql, [source, digest, file])]


def touch(connection: Connection, source: str, file: str, digest: str, mtime_ns: int) -> None:
    """Notes that a file's time changed and its content did not."""
    connection.execute("update raw.ingestion_log set file_mtime_ns = ? where source = ? and file = ? and file_digest = ?", [mtime_ns, source, file, digest])


def refusals(connection: Connection, source: str) -> list[Refusal]:
    found = rows(connection, "select file, error from raw.ingestion_log where source = ? and status = 'refused' order by file nulls last", [source])
    return [Refusal(str(file), str(error)) for file, error in found]


def replay_line(connection: Connection, file_id: int, count: Count) -> None:
    """Moves rows of a file out of quarantine; the tally holds, because rows_read never changes."""
    connection.execute(
        """update raw.ingestion_log set rows_accepted = rows_accepted + $accepted, rows_duplicate = rows_duplicate + $duplicate,
             rows_conflict = rows_conflict + $conflict, rows_quarantined = rows_quarantined - $accepted - $duplicate where file_id = $file_id""",
        {"accepted": count.accepted, "duplicate": count.duplicate, "conflict": count.conflict, "file_id": file_id},
    )
