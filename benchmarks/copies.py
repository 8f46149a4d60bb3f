"""A lake times so many: each copy's events, identifiers, orders and sessions under names of their own, a microsecond later than the copy before.

It stands for files that would take an hour to be taken in. What the door gives is copied as it lies (files of the lake, their registry, the index of ids,
conflicts, the log), so whatever reads `raw` sees as many persons, and as many batches, as if they had come through it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from waymark.core.quoting import file_list, literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, connect, rows
from waymark.ingestion.lake import COMPARES
from waymark.ingestion.tables import build_views

_MARK = "'~' || copy"
_NAMED = ("source_event_id", "session_key", "anonymous_id", "user_id", "click_id", "order_id")
# A copy's event keeps its day, which its file is named for.
_LATER = "case when cast({at} + to_microseconds(copy) as date) = cast({at} as date) then {at} + to_microseconds(copy) else {at} end"
_COPIED = {
    "event_id": f"md5(event_id || {_MARK})",
    "content_digest": f"md5(content_digest || {_MARK})",
    "occurred_at": _LATER.format(at="occurred_at"),
    "received_at": "received_at + to_microseconds(copy)",
    "identifiers": f"list_transform(identifiers, lambda i: {{'type': i.type, 'value': i.value || {_MARK}}})",
    "ingest_file_id": "ingest_file_id + copy * {files}",
    **{column: f"{column} || {_MARK}" for column in _NAMED},
}


def copy_batches(project: Project, source: str, copies: int, *, after: int) -> int:
    """Copies what came in batches after this one until there is so many times as much of it; returns the number of the last batch.

    Files are registered when all are written. Those of a try that was cut short are removed first.
    """
    home = project.home
    with connect(home.warehouse, engine=project.settings.engine, scratch=home.scratch) as connection:
        ((last, first_file, last_file),) = rows(
            connection, "select max(batch_id), min(file_id), max(file_id) from raw.ingestion_log where batch_id > ? and status = 'ingested'", [after]
        )
        last, files = int(str(last)), int(str(last_file)) - int(str(first_file)) + 1
        batches = last - after
        copied = {name: text.replace("{files}", str(files)) for name, text in _COPIED.items()}
        replaced = ", ".join(f"{text} as {name}" for name, text in copied.items())
        found = [(home.root / str(path), int(str(batch))) for path, batch in rows(
            connection, "select path, batch_id from raw.lake_files where source = ? and batch_id > ? order by path", [source, after])]  # fmt: skip
        assert not any(path.stem.endswith(COMPARES) for path, _ in found), "what is compared would make copies of a person one person"
        for stray in home.raw_lake.rglob("b*.parquet"):
            if int(stray.name[1:9]) > last:
                stray.unlink()

        def write(file: tuple[Path, int], copy: int) -> Path:
            path, batch = file
            target = path.with_name(f"b{batch + copy * batches:08d}{path.name[9:]}")
            with connection.cursor() as cursor:
                cursor.execute(f"""
                    copy (select e.* replace ({replaced}) from read_parquet({literal(str(path))}, hive_partitioning = false) e, (select {copy} as copy))
                    to {literal(str(target))} (format parquet, compression zstd)""").fetchall()
            return target

        with ThreadPoolExecutor() as pool:
            written = [list(pool.map(lambda file, copy=copy: write(file, copy), found)) for copy in range(1, copies)]
        listed = file_list(str(path) for path, _ in found)
        connection.begin()
        of_batches = f"source = {literal(source)} and batch_id > {after} and batch_id <= {last}"
        for copy, targets in enumerate(written, start=1):
            sizes = [
                (str(old.relative_to(home.root)), str(new.relative_to(home.root)), new.stat().st_size) for (old, _), new in zip(found, targets, strict=True)
            ]
            _register(connection, of_batches, copy, batches=copy * batches, files=copy * files, sizes=sizes, listed=listed)
        connection.execute("update raw.run_clock set data_now = data_now + to_microseconds(?)", [copies - 1])
        build_views(connection, [source])
        connection.commit()
    return last + (copies - 1) * batches


def _register(connection: Connection, of_batches: str, copy: int, *, batches: int, files: int, sizes: list[tuple[str, str, int]], listed: str) -> None:
    """of_batches: SQL, the rows of the registry that are copied; batches, files: what is added to their numbers; sizes: of each file that was written the path
    of the one that it is a copy of, its own, and its bytes; listed: SQL, the files that were copied."""
    told = ", ".join(f"({literal(old)}, {literal(new)}, {size})" for old, new, size in sizes)
    connection.execute(f"""
        insert into raw.lake_files by name
        select l.* replace (t.path as path, l.batch_id + {batches} as batch_id, t.bytes as bytes)
        from raw.lake_files l
        join (values {told}) as t (old, path, bytes) on t.old = l.path""")
    connection.execute(f"""
        insert into raw.ingestion_log by name
        select * replace (
            file_id + {files} as file_id, file || '~{copy}' as file, md5(file_digest || '~{copy}') as file_digest, batch_id + {batches} as batch_id,
            last_received_at + to_microseconds({copy}) as last_received_at)
        from raw.ingestion_log where {of_batches} and status = 'ingested'""")
    conflicts = f"from raw.event_conflicts where event_id in (select event_id from read_parquet({listed}, hive_partitioning = false))"
    of_copy = f"(select {copy} as copy)"
    connection.execute(f"delete from raw.event_conflicts where event_id in (select {_COPIED['event_id']} from (select * {conflicts}), {of_copy})")
    connection.execute(f"""
        insert into raw.event_conflicts by name
        select * exclude (copy) replace ({", ".join(f"{_COPIED[column]} as {column}" for column in ("event_id", "content_digest", "occurred_at"))})
        from (select * {conflicts}), {of_copy}""")
    connection.execute(f"""
        insert into raw.event_index
        select md5_number(event_id || {_MARK}), md5_number_upper({_COPIED["content_digest"]})
        from read_parquet({listed}, hive_partitioning = false), {of_copy}""")
