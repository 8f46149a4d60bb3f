"""Erased persons leave what ingestion keeps: the lake and the copies of files in the home's landing folder (`quarantine` does so for refused rows).

All of it goes by the tombstones that were set before, in one pass over each store however many persons they are of, and may be repeated: a pass that finds
nothing changes nothing.
"""

from __future__ import annotations

import codecs
import gzip
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Mapping as MappingOf
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from waymark.core import gzipped
from waymark.core.clock import wall_now
from waymark.core.digest import file_digest
from waymark.core.errors import FileRefusedError, StorageError
from waymark.core.home import Home, rename_durably, sync_folder
from waymark.core.quoting import literal, name
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.engine import refusing_engine_errors
from waymark.ingestion.erased import HITS, NOBODY, RULE, Erased, before_erasure
from waymark.ingestion.extraction import RECORD, check_expressions
from waymark.ingestion.files import known_files, save_known, source_files, stamp
from waymark.ingestion.group import PARSED, RECORDS, Group
from waymark.ingestion.lake import scratch_folder
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.readers import Opened, drop_read, open_file
from waymark.ingestion.removal import Leaving, Removal, Remover
from waymark.ingestion.report import FileOutcome
from waymark.ingestion.salvage import copy_without
from waymark.ingestion.tables import lake_sql
from waymark.ingestion.unread import UnreadTexts

GOING = "_wm_going"
_LEVEL = 6


@dataclass(frozen=True)
class Copy:
    """What became of a file. new_digest: "" where it was removed whole, and old_digest where it is outside of the home and stays as it is.

    struck: records that left it, or that its owner is to remove; 0 where no mapping can read it. is_read: False for a file that nobody can read to its end
    and whose readable part mentions none of the persons: it stays as it is, its owner's to look at.
    """

    source: str
    file: str
    struck: int
    old_digest: str
    new_digest: str
    is_read: bool = True


def going_sql(connection: Connection, source: str, erased: Erased, words: Collection[str] = ()) -> str:
    """Collects the events of erased persons that a source's lake files hold, all contents of each, in `_wm_going`; returns SQL of them.

    words: ids of events that go, whoever they name (an operator's words about identifiers of erased persons).
    """
    paths = [str(path) for (path,) in rows(connection, "select path from raw.lake_files where source = ? order by path", [source])]
    scan = f"({lake_sql(connection, paths)})"
    before = before_erasure("e", "h")
    erased.keep_hits(f"select distinct unnest(identifiers) as i from {scan}", f"select distinct order_id from {scan} where {NOBODY}")
    listed = ", ".join(map(literal, sorted(words))) or "NULL"
    connection.execute(f"""
        create or replace temp table {GOING} as
        select distinct event_id, content_digest, occurred_at, event_type from (
            select event_id, content_digest, occurred_at, event_type, unnest(identifiers) as i from {scan}
        ) e join {HITS} h on e.i.type = h.type and e.i.value = h.value where {before}
        union
        select event_id, content_digest, occurred_at, event_type from {scan} e join {HITS} h on h.type = 'order_id' and h.value = e.order_id
        where {NOBODY} and {before}
        union
        select event_id, content_digest, occurred_at, event_type from {scan} where event_id in ({listed})""").fetchall()
    return f"select * from {GOING}"


def orders_of(connection: Connection, sources: Iterable[str], events: str) -> list[str]:
    """Order ids that these events (a relation of event_ids) name, and no other event that names somebody: one that names nobody is theirs by them.

    None where no event names an order and nobody.
    """
    told = " union all ".join(f"select event_id, order_id, identifiers from raw.{name(source + '_events')}" for source in sources)
    if not told or not rows(connection, f"select 1 from ({told}) where order_id is not null and {NOBODY} limit 1"):
        return []
    found = rows(connection, f"""
        select order_id from ({told}) where order_id is not null and len(identifiers) > 0
        group by order_id having bool_and(event_id in (select event_id from {events})) order by order_id
    """)  # fmt: skip
    return [str(order) for (order,) in found]


def erase_from_lake(
    connection: Connection, home: Home, sources: Iterable[str], erased: Erased, *, words: Collection[str] = (), and_then: Callable[[], object]
) -> list[Removal]:
    """Removes the events of erased persons from every source's files and from the index of ids; `raw.removals` gets a line a source, and no more of them.

    and_then: called in each source's transaction. Raises StorageError where the disk refuses.
    """
    removals = []
    for source in sorted(sources):
        going_sql(connection, source, erased, words)
        if rows(connection, f"select 1 from {GOING} limit 1"):
            removals.append(Remover(connection, home, source, _leaving(connection, source)).run(and_then=and_then))
    connection.execute(f"drop table if exists {GOING}")
    erased.forget()
    return [removal for removal in removals if removal]


def _leaving(connection: Connection, source: str) -> Leaving:
    """The source's own clock is kept, because data_now must not go back; whose event was the last is not."""
    newest = rows(connection, f"select max(received_at) from raw.{name(source + '_events')}")[0][0]

    def log(removal_id: int) -> str:
        return f"""
            select {removal_id}, {literal(source)}, NULL, NULL, cast(coalesce(sum(n), 0) as bigint), 'erasure', NULL, $newest::timestamp,
                (select data_now from raw.run_clock), $now::timestamp
            from counted"""

    return Leaving(f"(event_id, content_digest) in (select event_id, content_digest from {GOING})", log, {"now": wall_now(), "newest": newest})


class LandingCopies:
    """The files that a project's sources read, and all others in the home's landing folder."""

    def __init__(self, project: Project, mappings: MappingOf[str, Mapping], erased: Erased) -> None:
        self.project, self.mappings, self.erased, self.connection = project, mappings, erased, erased.connection
        self.about: Callable[[Copy], None] = lambda _: None

    def finish(self, begun: Copy) -> Copy | None:
        """Brings to its end what `about` was told before a crash: None where the file had not changed yet."""
        path = Path(begun.file)
        new = file_digest(path) if path.exists() else ""
        if new == begun.old_digest:
            return None
        self._note(path, begun.old_digest, new, begun.struck)
        return replace(begun, new_digest=new)

    def erase(self, *, told: Callable[[str], None], about: Callable[[Copy], None]) -> Iterator[Copy]:
        """Strikes the records of erased persons, and those that mention one, from the home's files; of files outside only says how many they are.

        A file that no mapping can read is removed whole where it mentions one of them, as far as it can be read at all. told: is given the name of each file;
        about: what is about to happen to one of the home's (its new_digest is not known yet). Yields what changed, each after it is durable and the ingestion
        log knows the new digest, and what is only told of.
        """
        self.about = about
        yield from self._changed(is_told=False, told=told)

    def naming(self) -> list[Copy]:
        """The files that name or mention the persons, with how many records do (0: of a file that no mapping can read). Changes nothing."""
        return [copy for copy in self._changed(is_told=True, told=lambda _: None) if copy.is_read]

    def _changed(self, *, is_told: bool, told: Callable[[str], None]) -> Iterator[Copy]:
        """is_told: files of the home are only told of, like those outside."""
        home, seen = self.project.home, set[Path]()
        try:
            for source, mapping in sorted(self.mappings.items()):
                for path in source_files(self.project, source):
                    told(path.name)
                    seen.add(path)
                    is_ours = not is_told and path.is_relative_to(home.root)
                    if path.is_file() and (copy := self._one(source, mapping, path, is_ours=is_ours)):
                        yield copy
            for path in sorted(home.landing.rglob("*")) if home.landing.exists() else []:
                if path.is_file() and path not in seen and (copy := self._unread("", path, list(self.mappings.values()), is_ours=not is_told)):
                    yield copy
        finally:
            for table in (PARSED, RECORDS):
                self.connection.execute(f"drop table if exists {table}")
            drop_read(self.connection)
            shutil.rmtree(scratch_folder(home), ignore_errors=True)

    def _one(self, source: str, mapping: Mapping, path: Path, *, is_ours: bool) -> Copy | None:
        try:
            opened = open_file(self.connection, mapping, path, scratch_folder(self.project.home))
            struck, total = self._struck(mapping, opened)
        except FileRefusedError:
            return self._unread(source, path, [mapping], is_ours=is_ours)
        if not struck:
            return None
        if is_ours and len(struck) == total:
            return self._removed(source, path)
        old = file_digest(path)
        if not is_ours:
            return Copy(source, str(path), len(struck), old, old)
        self.about(Copy(source, str(path), len(struck), old, ""))
        _write(path, self._without(mapping, opened, struck), compressed=_is_gzip(path))
        new = file_digest(path)
        self._note(path, old, new, len(struck))
        return Copy(source, str(path), len(struck), old, new)

    def _struck(self, mapping: Mapping, opened: Opened) -> tuple[frozenset[int], int]:
        """The numbers of a file's records that go, and how many it has. Leaves the records in `_wm_records` where the file is no text."""
        connection, erased, struck = self.connection, self.erased, set[int]()

        def refusal(said: str) -> FileRefusedError:
            return FileRefusedError(f"the mapping cannot read it: {said}", where=str(opened.file), remedy="Mend the mapping.")

        # What is refused here may be removed whole, with everybody's records: so no error that could be the machine's counts.
        with refusing_engine_errors(str(self.project.home.root), refusal, certain=True), _forgetting(erased):
            absent = check_expressions(connection, mapping, opened.shape, opened.file.name)
            canonical = Canonical(mapping, opened.shape, self.project.settings, opened.file.name, absent)
            group = Group(connection, self.project, erased.secret, mapping, opened.shape, erased=erased)
            outcome = FileOutcome(str(opened.file), "ingested", "", 0, 0, file_id=1)
            group.add(opened, outcome)
            whole = f"concat_ws(chr(10), {', '.join(map(name, opened.shape.columns))})"
            for part in group.parse(canonical, group.clean_parts([outcome]), [outcome]):
                struck |= self._numbers(f"select _wm_row from {PARSED} where broken = '{RULE}|'")
                readable = f"select _wm_file, _wm_row, {whole} as text from {part} where _wm_rule is null"
                struck |= self._numbers(f"select _wm_row from ({erased.mentioning(readable, [mapping], ids=False)})")
            unreadable = f"select _wm_file, _wm_row, _wm_raw as text from {RECORDS} where _wm_rule is not null"
            struck |= self._numbers(f"select _wm_row from ({erased.mentioning(unreadable, [mapping], ids=True)})")
        group.clean.forget()
        return frozenset(struck), outcome.rows_read

    def _numbers(self, sql: str) -> set[int]:
        return {int(str(number)) for (number,) in rows(self.connection, sql)}

    def _without(self, mapping: Mapping, opened: Opened, struck: frozenset[int]) -> Iterator[bytes]:
        is_utf8 = codecs.lookup(mapping.encoding).name in ("utf-8", "utf-8-sig", "ascii")
        if mapping.format == "parquet":
            yield _parquet_without(opened.file, struck)
        elif opened.text is not None:
            delimiter = mapping.delimiter if mapping.format == "csv" else None
            yield from copy_without(opened.text.in_its_encoding, "utf-8-sig" if is_utf8 else mapping.encoding, delimiter, len(opened.shape.columns), struck)
        else:
            kept = rows(self.connection, f"select {name(RECORD)} from {RECORDS} where _wm_row not in ({', '.join(map(str, sorted(struck)))}) order by _wm_row")
            yield ("[" + ",\n".join(str(record) for (record,) in kept) + "]\n").encode("utf-8" if is_utf8 else mapping.encoding)

    def _unread(self, source: str, path: Path, mappings: list[Mapping], *, is_ours: bool) -> Copy | None:
        """What becomes of a file that no mapping reads; None: it could be read, and mentions nobody."""
        texts = UnreadTexts(path, [mapping.encoding for mapping in mappings], scratch_folder(self.project.home))
        with _reading(path), _forgetting(self.erased):
            is_hit = any(self._mention(lines, mappings) for lines in texts)
            digest = file_digest(path) if is_hit or not texts.is_whole else ""
        if not digest:
            return None
        return self._removed(source, path) if is_hit and is_ours else Copy(source, str(path), 0, digest, digest, is_read=is_hit)

    def _mention(self, lines: list[str], mappings: list[Mapping]) -> bool:
        import pyarrow as pa

        self.connection.register("_wm_lines", pa.table({"text": pa.array(lines, pa.string())}))
        try:
            texts = "select 1 as _wm_file, 1::bigint as _wm_row, text from _wm_lines"
            return bool(self._numbers(f"select _wm_row from ({self.erased.mentioning(texts, mappings, ids=True)})"))
        finally:
            self.connection.unregister("_wm_lines")

    def _removed(self, source: str, path: Path) -> Copy:
        digest = file_digest(path)
        self.about(Copy(source, str(path), 0, digest, ""))
        path.unlink()
        sync_folder(path.parent)
        self._note(path, digest, "", 0)
        return Copy(source, str(path), 0, digest, "")

    def _note(self, path: Path, old: str, new: str, struck: int) -> None:
        """Says in the log, and to the next run, that the file as it is now was taken in."""
        text = f"on {wall_now():%Y-%m-%d} {struck} records of erased persons were struck from the file: the numbers of records are those of before"
        size, mtime_ns = stamp(path)
        if new:
            self.connection.execute(
                "update raw.ingestion_log set file_digest = ?, file_bytes = ?, file_mtime_ns = ?, note = concat_ws('; ', note, ?) "
                "where file = ? and file_digest = ?",
                [new, size, mtime_ns, text, str(path), old],
            )  # fmt: skip
        home = self.project.home
        for source, known in known_files(home).items():
            if str(path) in known:
                left = {file: state for file, state in known.items() if file != str(path)}
                save_known(home, source, {**left, str(path): (size, mtime_ns)} if new else left)


@contextmanager
def _forgetting(erased: Erased) -> Iterator[None]:
    try:
        yield
    finally:
        erased.forget()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tells that a file cannot be read, which must not pass for one that mentions nobody."""
    try:
        yield
    except OSError as error:
        remedy = "Grant read permission, or mend its disk; then try again, an erasure with: waymark privacy erase --continue"
        raise StorageError(f"the file cannot be read ({error.strerror or error})", where=str(path), remedy=remedy) from error


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as handle:
        return handle.read(2) == gzipped.MAGIC


def _write(path: Path, chunks: Iterator[bytes], *, compressed: bool) -> None:
    """Puts a file with these bytes in the place of another, with its permissions, durably."""
    fresh = path.with_name(f".{path.name}.fresh")
    with open(fresh, "wb") as file:
        os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) if compressed else None
        target: gzip.GzipFile | BinaryIO = packed or file
        for chunk in chunks:
            target.write(chunk)
        if packed:
            packed.close()
        file.flush()
        os.fsync(file.fileno())
    rename_durably(fresh, path)


def _parquet_without(path: Path, struck: frozenset[int]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, sink, first = pq.ParquetFile(path), pa.BufferOutputStream(), 1
    codec = source.metadata.row_group(0).column(0).compression.lower() if source.metadata.num_row_groups else "zstd"
    with pq.ParquetWriter(sink, source.schema_arrow, compression=None if codec == "uncompressed" else codec) as writer:
        for batch in source.iter_batches():
            kept = [number not in struck for number in range(first, first + batch.num_rows)]
            first += batch.num_rows
            writer.write_batch(batch.filter(pa.array(kept)))
    return bytes(sink.getvalue())
