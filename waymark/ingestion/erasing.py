"""Erased persons leave what ingestion keeps: the lake and the copies of files in the home's landing folder (`quarantine` does so for refused rows).

All of it goes by the tombstones that were set before, in one pass over each store however many persons they are of, and may be repeated: a pass that finds
nothing changes nothing.
"""

from __future__ import annotations

import errno
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
from waymark.ingestion.event import CANONICAL_COLUMNS
from waymark.ingestion.extraction import RECORD, check_expressions
from waymark.ingestion.files import Stamp, known_files, save_known, source_files, stamp
from waymark.ingestion.group import PARSED, RECORDS, Group
from waymark.ingestion.lake import scratch_folder
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.readers import Opened, drop_read, is_utf8, open_file
from waymark.ingestion.removal import Leaving, Removal, Remover
from waymark.ingestion.report import FileOutcome
from waymark.ingestion.salvage import copy_without
from waymark.ingestion.tables import lake_sql
from waymark.ingestion.unread import UnreadTexts
from waymark.privacy.text_search import TextSearch

GOING = "_wm_going"
_NO_TEXTS = ("event_id", "source", "event_type", "anonymous_id", "user_id", "referrer_host", "page_host", "page_path", "content_digest")  # ids, or of others
SAID = f"concat_ws(chr(10), {', '.join(name(column) for column, kind in CANONICAL_COLUMNS.items() if kind == 'VARCHAR' and column not in _NO_TEXTS)})"
_LEVEL = 6
_FRESH = ".waymark_fresh"  # how the name of a file ends that is yet to take another's place
_TRIES = 5


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


def contents_sql(connection: Connection, source: str) -> str:
    """A relation of all that a source's lake files hold: every content of each event, also those that another one hides."""
    paths = [str(path) for (path,) in rows(connection, "select path from raw.lake_files where source = ? order by path", [source])]
    return f"({lake_sql(connection, paths)})"


def going_sql(connection: Connection, source: str, erased: Erased, words: Collection[str] = (), search: TextSearch | None = None) -> str:
    """Collects the events of erased persons that a source's lake files hold, all contents of each, in `_wm_going`; returns SQL of them.

    words: ids of events that go, whoever they name (an operator's words about identifiers of erased persons). search: of the same persons, what the last scan
    looks for in the lake; an event goes, too, that says it in one of its texts, such as a customer id that a mailing put into the address of a page.
    """
    scan = contents_sql(connection, source)
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
    others = f"from {scan} where (event_id, content_digest) not in (select event_id, content_digest from {GOING})"
    if search and (said := search.hits(f"select event_id, content_digest, {SAID} as text {others}", "event_id, content_digest")):
        connection.execute(
            f"""insert into {GOING} select distinct event_id, content_digest, occurred_at, event_type {others}
                and (event_id, content_digest) in (select unnest(?::varchar[]), unnest(?::varchar[]))""", [*map(list, zip(*said, strict=True))],
        )  # fmt: skip
    return f"select * from {GOING}"


def orders_of(connection: Connection, sources: Iterable[str], events: str) -> list[str]:
    """Order ids that these events (a relation of event_id, content_digest) name, and nothing else that names somebody: an event that names nobody is theirs
    by them. Contents that another one of the same event hides count, too.

    None where no event names an order and nobody.
    """
    told = " union all ".join(f"select event_id, content_digest, order_id, identifiers from {contents_sql(connection, source)}" for source in sources)
    if not told or not rows(connection, f"select 1 from ({told}) where order_id is not null and {NOBODY} limit 1"):
        return []
    found = rows(connection, f"""
        select order_id from ({told}) where order_id is not null and len(identifiers) > 0
        group by order_id having bool_and((event_id, content_digest) in (select event_id, content_digest from {events})) order by order_id
    """)  # fmt: skip
    return [str(order) for (order,) in found]


def erase_from_lake(
    connection: Connection, home: Home, sources: Iterable[str], erased: Erased, *, words: Collection[str] = (), search: TextSearch | None = None,
    and_then: Callable[[], object],
) -> list[Removal]:  # fmt: skip
    """Removes the events of erased persons from every source's files and from the index of ids; `raw.removals` gets a line a source, and no more of them.

    and_then: called in each source's transaction. Raises StorageError where the disk refuses.
    """
    removals = []
    for source in sorted(sources):
        going_sql(connection, source, erased, words, search)
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


@dataclass(frozen=True)
class _Found:
    """struck: records that go; content: the file without them, None where nothing is left; is_read: see `Copy`."""

    struck: int
    content: Iterator[bytes] | None = None
    is_read: bool = True


class LandingCopies:
    """The files that a project's sources read, and all others in the home's landing folder."""

    def __init__(self, project: Project, mappings: MappingOf[str, Mapping], erased: Erased, search: TextSearch | None = None) -> None:
        """search: of the same persons, what the last scan looks for; records in which it would find something go, too."""
        self.project, self.mappings, self.erased, self.connection = project, mappings, erased, erased.connection
        self.about: Callable[[Copy], None] = lambda _: None
        self.known, self.stale, self.search = known_files(project.home), set[str](), search

    def finish(self, begun: Copy) -> Copy | None:
        """Brings to its end what `about` was told before a crash: None where the file is not what it was to become."""
        path = Path(begun.file)
        if (file_digest(path) if path.exists() else "") != begun.new_digest:
            return None
        self._log(begun)
        return begun

    def erase(self, *, told: Callable[[str], None], about: Callable[[Copy], None]) -> Iterator[Copy]:
        """Strikes the records of erased persons, and those that mention one, from the home's files; of files outside only says how many they are.

        A file that no mapping can read is removed whole where it mentions one of them, as far as it can be read at all. told: is given the name of each file;
        about: what is about to happen to one of the home's, and does not where somebody writes to it at that moment. Yields what changed, each after it is
        durable and the ingestion log knows the new digest, and what is only told of.
        """
        self.about = about
        for left in self.project.home.landing.rglob(f".*{_FRESH}"):
            left.unlink()
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
                    seen |= {path, path.resolve()}
                    if path.is_file() and (copy := self._one(source, [mapping], path, is_told=is_told)):
                        yield copy
            for path in sorted(home.landing.rglob("*")) if home.landing.exists() else []:
                if path.is_file() and path not in seen and (copy := self._one("", list(self.mappings.values()), path, is_told=is_told)):
                    yield copy
        finally:
            for source in sorted(self.stale):
                save_known(home, source, self.known[source])
            self.stale.clear()
            for table in (PARSED, RECORDS):
                self.connection.execute(f"drop table if exists {table}")
            drop_read(self.connection)
            shutil.rmtree(scratch_folder(home), ignore_errors=True)

    def _one(self, source: str, mappings: list[Mapping], path: Path, *, is_told: bool) -> Copy | None:
        """What becomes of a file; None where it names nobody. mappings: the source's, or all for a file that no source reads.

        Raises StorageError where it cannot be read, or never stands still.
        """
        is_ours = not is_told and path.resolve().is_relative_to(self.project.home.root.resolve())
        for _ in range(_TRIES):
            with _reading(path):
                before = stamp(path)
                found = self._found(mappings[0], path) if source else self._unread(mappings, path)
                if found is None:
                    return None
                old = file_digest(path)
            if not is_ours or not found.is_read:
                return Copy(source, str(path), found.struck, old, old, found.is_read)
            if copy := self._exchange(Copy(source, str(path), found.struck, old, ""), found.content, before):
                return copy
        raise StorageError(
            "somebody writes to the file again and again while it is read", where=str(path),
            remedy="Stop what writes it, then: waymark privacy erase --continue",
        )  # fmt: skip

    def _found(self, mapping: Mapping, path: Path) -> _Found | None:
        try:
            opened = open_file(self.connection, mapping, path, scratch_folder(self.project.home))
            struck, total = self._struck(mapping, opened)
        except FileRefusedError:
            return self._unread([mapping], path)
        return _Found(len(struck), self._without(mapping, opened, struck) if len(struck) < total else None) if struck else None

    def _exchange(self, copy: Copy, content: Iterator[bytes] | None, before: Stamp) -> Copy | None:
        """Puts the content in the place of a file, or removes it. None, and nothing done, where the file has no longer the stamp that it had before."""
        path = Path(copy.file)
        real = path.resolve()
        fresh = _written(real, content) if content else None
        copy = replace(copy, new_digest=file_digest(fresh) if fresh else "")
        self.about(copy)
        if stamp(real) != before:  # what was added is read, too
            if fresh:
                fresh.unlink()
            return None
        if fresh:
            rename_durably(fresh, real)
        else:
            for gone in {path, real}:
                gone.unlink()
                sync_folder(gone.parent)
        self._log(copy)
        after = stamp(path)
        for source, known in self.known.items():
            if known.get(copy.file) == before:  # else the next run has to look at it
                self.stale.add(source)
                known.pop(copy.file)
                known.update({copy.file: after} if fresh else {})
        return copy

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
                struck |= self._mentioning(readable, [mapping], ids=False)
            unreadable = f"select _wm_file, _wm_row, _wm_raw as text from {RECORDS} where _wm_rule is not null"
            struck |= self._mentioning(unreadable, [mapping], ids=True)
        group.clean.forget()
        return frozenset(struck), outcome.rows_read

    def _mentioning(self, texts: str, mappings: list[Mapping], *, ids: bool) -> set[int]:
        """The numbers of records whose text mentions one: as `Erased.mentioning` tells, or in clear, such as an id in the address of a page that they sent."""
        found = self._numbers(f"select _wm_row from ({self.erased.mentioning(texts, mappings, ids=ids)})")
        return found | {int(str(number)) for (number,) in (self.search.hits(texts, "_wm_row") if self.search else [])}

    def _numbers(self, sql: str) -> set[int]:
        return {int(str(number)) for (number,) in rows(self.connection, sql)}

    def _without(self, mapping: Mapping, opened: Opened, struck: frozenset[int]) -> Iterator[bytes]:
        if mapping.format == "parquet":
            yield _parquet_without(opened.file, struck)
        elif opened.text is not None:
            delimiter = mapping.delimiter if mapping.format == "csv" else None
            encoding = "utf-8-sig" if is_utf8(mapping.encoding) else mapping.encoding
            yield from copy_without(opened.text.in_its_encoding, encoding, delimiter, len(opened.shape.columns), struck)
        else:
            kept = rows(self.connection, f"select {name(RECORD)} from {RECORDS} where _wm_row not in ({', '.join(map(str, sorted(struck)))}) order by _wm_row")
            yield ("[" + ",\n".join(str(record) for (record,) in kept) + "]\n").encode("utf-8" if is_utf8(mapping.encoding) else mapping.encoding)

    def _unread(self, mappings: list[Mapping], path: Path) -> _Found | None:
        """Of a file that no mapping reads; None: it could be read, and mentions nobody."""
        texts = UnreadTexts(path, [mapping.encoding for mapping in mappings], scratch_folder(self.project.home))
        with _forgetting(self.erased):
            if any(self._mention(lines, mappings) for lines in texts):
                return _Found(0)
        return None if texts.is_whole else _Found(0, is_read=False)

    def _mention(self, lines: list[str], mappings: list[Mapping]) -> bool:
        import pyarrow as pa

        self.connection.register("_wm_lines", pa.table({"text": pa.array(lines, pa.string())}))
        try:
            texts = "select 1 as _wm_file, 1::bigint as _wm_row, text from _wm_lines"
            return bool(self._mentioning(texts, mappings, ids=True))
        finally:
            self.connection.unregister("_wm_lines")

    def _log(self, copy: Copy) -> None:
        """Says that what was taken in is now what the file holds. Where it had grown since, no line knows its old digest: the next run takes in the rest."""
        text = f"on {wall_now():%Y-%m-%d} {copy.struck} records of erased persons were struck from the file: the numbers of records are those of before"
        if copy.new_digest:
            self.connection.execute(
                "update raw.ingestion_log set file_digest = ?, file_bytes = ?, file_mtime_ns = ?, note = concat_ws('; ', note, ?) "
                "where file = ? and file_digest = ?",
                [copy.new_digest, *stamp(Path(copy.file)), text, copy.file, copy.old_digest],
            )  # fmt: skip


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
        if error.errno == errno.ENOSPC or str(error.filename or path) != str(path):
            raise
        remedy = "Grant read permission, or mend its disk; then try again, an erasure with: waymark privacy erase --continue"
        raise StorageError(f"the file cannot be read ({error.strerror or error})", where=str(path), remedy=remedy) from error


def _written(path: Path, chunks: Iterator[bytes]) -> Path:
    """A durable file beside another, with these bytes, and with its permissions and compression."""
    fresh = path.with_name(f".{path.name}{_FRESH}")
    with open(path, "rb") as file:
        is_packed = file.read(2) == gzipped.MAGIC
    with open(fresh, "wb") as file:
        os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) if is_packed else None
        target: gzip.GzipFile | BinaryIO = packed or file
        for chunk in chunks:
            target.write(chunk)
        if packed:
            packed.close()
        file.flush()
        os.fsync(file.fileno())
    return fresh


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
