"""Looks for persons in everything that a home holds: in the bytes of every file after decompression, and in every column of every table.

Two ways, because neither is enough: compressed columns hide a text from a search of bytes, and freed blocks hide it from a query.
"""

from __future__ import annotations

import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from waymark.core import gzipped
from waymark.core.home import Home
from waymark.core.quoting import literal, name
from waymark.core.warehouse import Connection, connect, rows

# What is shorter stands in any large file by accident; it is looked for in columns, as a whole value.
LEAST_BYTES = 8
_CHUNK = 1 << 24
_WORD = r"[0-9A-Za-z_.:@+%\-]+"
_WORDS = re.compile(_WORD)
_NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT")
_PLAIN = ("BOOLEAN", "DOUBLE", "FLOAT", "DATE", "TIMESTAMP", "DECIMAL", "INTEGER", "SMALLINT", "TINYINT", "UINTEGER", "INTERVAL")  # no identifier is one


@dataclass(frozen=True)
class Needles:
    """What is looked for. texts: identifiers, hashes and ids, each a whole word where it stands; numbers: keys of 64 bits and more."""

    texts: frozenset[str]
    numbers: frozenset[int] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """Both, as they stand in a text."""
        return self.texts | {str(number) for number in self.numbers}


@dataclass
class ScanReport:
    """found: where (path under the home, with table and column) -> how often. files, bytes, columns: what was looked at."""

    found: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    columns: int = 0

    @property
    def total(self) -> int:
        return sum(self.found.values())

    def add(self, where: str, count: int) -> None:
        if count:
            self.found[where] = self.found.get(where, 0) + count


def scan(home: Home, needles: Needles, *, besides: Iterable[Path] = (), progress: Callable[[str], None] | None = None) -> ScanReport:
    """Looks for the needles everywhere under the home. besides: files that are left out, because they hold the needles themselves.

    Nobody else may be writing. Files that go while it looks are passed over.
    """
    report, left_out = ScanReport(), set(besides)
    searched = _Bytes(needles.words)
    with connect() as connection:
        connection.execute("create table needles (text varchar primary key)")
        connection.execute("insert into needles select unnest(?::varchar[])", [sorted(needles.words)])
        for path in sorted(home.root.rglob("*")):
            if path in left_out or path.is_symlink() or not path.is_file():
                continue
            where = str(path.relative_to(home.root))
            if progress:
                progress(f"scan: {where}")
            report.files += 1
            report.bytes += path.stat().st_size
            for inside, handle in _opened(path):
                with handle:
                    report.add(f"{where}{inside}", searched.count(handle))
            for column, count in _columns(connection, path, needles.words):
                report.columns += 1
                report.add(f"{where}: {column}", count)
    return report


class _Bytes:
    """Finds many texts at once: the first eight bytes of each are looked for as one number, at every offset; what is found so is then compared whole."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.encoded = sorted({text.encode() for text in texts if len(text.encode()) >= LEAST_BYTES})
        self.longest = max((len(text) for text in self.encoded), default=0)
        self.by_start: dict[bytes, list[bytes]] = {}
        for text in self.encoded:
            self.by_start.setdefault(text[:LEAST_BYTES], []).append(text)
        self.starts = np.sort(np.array([int.from_bytes(start, "little") for start in self.by_start], dtype=np.uint64))
        # Most offsets are told by their two bytes in the middle alone.
        self.plausible = np.zeros(1 << 16, dtype=np.bool_)
        self.plausible[(self.starts >> np.uint64(24)).astype(np.uint16)] = True

    def count(self, handle: IO[bytes]) -> int:
        if not self.encoded:
            return 0
        found, tail = 0, b""
        while chunk := handle.read(_CHUNK):
            data = tail + chunk
            # What begins in the last bytes of this chunk is counted with the next one, which sees it whole.
            begin = max(len(data) - self.longest + 1, 0)
            found += self._count(data, begin)
            tail = data[begin:]
        return found + self._count(tail, len(tail))

    def _count(self, data: bytes, before: int) -> int:
        """How many texts begin in front of this offset."""
        found = 0
        for shift in range(LEAST_BYTES):
            size = (len(data) - shift) // LEAST_BYTES
            if size <= 0:
                continue
            window = np.frombuffer(data, dtype="<u8", count=size, offset=shift)
            at = np.flatnonzero(self.plausible[(window >> np.uint64(24)).astype(np.uint16)])
            if not len(at):
                continue
            picked = window[at]
            place = np.minimum(np.searchsorted(self.starts, picked), len(self.starts) - 1)
            for position in (at[self.starts[place] == picked] * LEAST_BYTES + shift).tolist():
                start = data[position : position + LEAST_BYTES]
                if position < before:
                    found += sum(data.startswith(text, position) for text in self.by_start.get(start, ()))
        return found


def _opened(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """A file's bytes, and those of what it packs, with where they are inside of it."""
    yield "", open(path, "rb")  # noqa: SIM115 (the caller closes what it is given)
    with open(path, "rb") as handle:
        head = handle.read(4)
    if head[:2] == b"\x1f\x8b":
        yield " (unpacked)", gzipped.opened(path)
    elif head == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for member in packed.namelist():
                yield f" ({member})", packed.open(member)


def _columns(connection: Connection, path: Path, words: frozenset[str]) -> Iterator[tuple[str, int]]:
    """(table.column, how many values hold a needle) of each column of a file that is a store of tables."""
    with open(path, "rb") as handle:
        head = handle.read(16)
    if head[:4] == b"PAR1":
        yield from _relations(connection, {"": f"read_parquet({literal(path)}, hive_partitioning = false)"})
    elif head[8:12] == b"DUCK":
        connection.execute(f"attach {literal(path)} as looked_at (read_only)")
        try:
            named = rows(connection, "select schema_name, table_name from duckdb_tables() where database_name = 'looked_at' order by all")
            yield from _relations(connection, {f"{schema}.{table}": f"looked_at.{name(str(schema))}.{name(str(table))}" for schema, table in named})
        finally:
            connection.execute("detach looked_at")
    elif head == b"SQLite format 3\0":
        yield from _sqlite(path, words)


def _relations(connection: Connection, relations: dict[str, str]) -> Iterator[tuple[str, int]]:
    for table, relation in relations.items():
        for column, kind, *_ in rows(connection, f"describe select * from {relation}"):
            yield f"{table}.{column}".lstrip("."), _in_column(connection, relation, name(str(column)), str(kind))


def _in_column(connection: Connection, relation: str, column: str, kind: str) -> int:
    if kind in _NUMBERS:
        picked = f"select try_cast(text as {kind}) from needles where try_cast(text as {kind}) is not null"
        found = rows(connection, f"select count(*) from {relation} where {column} in ({picked})")
    elif kind.startswith(_PLAIN) and "[" not in kind:
        return 0
    else:
        text = f"try(decode({column}))" if kind == "BLOB" else f"{column}::varchar"
        words = f"unnest(list_append(regexp_extract_all({text}, '{_WORD}'), {text}))"
        found = rows(connection, f"select count(*) from (select {words} as word from {relation} where {column} is not null) where word in (from needles)")
    return int(str(found[0][0]))


def _sqlite(path: Path, texts: frozenset[str]) -> Iterator[tuple[str, int]]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for (table,) in database.execute("select name from sqlite_master where type = 'table' order by name").fetchall():
            cursor = database.execute(f'select * from "{table}"')
            columns = [str(column[0]) for column in cursor.description]
            counts = dict.fromkeys(columns, 0)
            for values in cursor:
                for column, value in zip(columns, values, strict=True):
                    text = _text(value)
                    counts[column] += bool(text in texts or not texts.isdisjoint(_WORDS.findall(text)))
            yield from ((f"{table}.{column}", count) for column, count in counts.items())
    finally:
        database.close()


def scrub_stores(folder: Path, needles: Needles) -> int:
    """Deletes from the SQLite stores under a folder the rows that hold a needle, and overwrites the files' free space; how many rows went.

    For stores of logs, in which no row needs another. Raises sqlite3.OperationalError where a store is in use.
    """
    scrubbed = 0
    for path in sorted(folder.rglob("*.db")) if folder.exists() else []:
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            database.execute("pragma secure_delete = on")
            gone = 0
            for (table,) in database.execute("select name from sqlite_master where type = 'table' order by name").fetchall():
                held = [
                    row for row, *values in database.execute(f'select rowid, * from "{table}"')
                    if any(not needles.words.isdisjoint(_WORDS.findall(_text(value))) for value in values)
                ]  # fmt: skip
                database.executemany(f'delete from "{table}" where rowid = ?', [(row,) for row in held])
                gone += len(held)
            if gone:
                database.execute("vacuum")
            database.execute("pragma wal_checkpoint(truncate)")
            scrubbed += gone
        finally:
            database.close()
    return scrubbed


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
