"""Looks for persons in everything that a home holds: in the bytes of every file after decompression, and in every column of every table.

Two ways, because neither is enough: compressed columns hide a text from a search of bytes, and freed blocks hide it from a query.
"""

from __future__ import annotations

import sqlite3
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from waymark.core import gzipped
from waymark.core.home import Home
from waymark.core.quoting import file_list, literal, name, read_only_address
from waymark.core.warehouse import Connection, connect, rows
from waymark.privacy.needles import AFTER, Needle, Needles, words_sql
from waymark.privacy.text_search import TextSearch

# So many bytes of a text are looked for first. One that has no more is looked for in columns and rows alone: DuckDB keeps the first eight bytes of a column's
# least and greatest text, which may be the beginning of somebody else's.
_WINDOW = 8
_CHUNK = 1 << 24
_NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT")
_PLAIN = ("BOOLEAN", "DOUBLE", "FLOAT", "DATE", "TIMESTAMP", "DECIMAL", "INTEGER", "SMALLINT", "TINYINT", "UINTEGER", "INTERVAL")  # no identifier is one


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


def scan(
    home: Home, needles: Needles, *, besides: Iterable[Path] = (), made_of_events: Iterable[Path] = (), progress: Callable[[str], None] | None = None
) -> ScanReport:
    """Looks for the needles everywhere under the home. besides: files that are left out, because they hold the needles themselves.

    made_of_events: files and folders in which ids stand with their namespace. One without it is there only what a record of somebody else says, such as a
    link that the person shared, and is not looked for. Nobody else may be writing. Files that go while it looks are passed over.
    """
    report, left_out, made = ScanReport(), set(besides), tuple(made_of_events)
    with connect() as connection:
        connection.execute("create table numbers as select unnest(?::varchar[]) as number", [[str(number) for number in sorted(needles.numbers)]])
        everywhere = _Search(connection, needles, "needles")
        of_events = _Search(connection, needles.with_namespace, "needles_with_namespace")
        for path in sorted(home.root.rglob("*")):
            if path in left_out or path.is_symlink() or not path.is_file():
                continue
            where = str(path.relative_to(home.root))
            if progress:
                progress(f"scan: {where}")
            search = of_events if any(path.is_relative_to(one) for one in made) else everywhere
            report.files += 1
            report.bytes += path.stat().st_size
            for inside, handle in _opened(path):
                with handle:
                    report.add(f"{where}{inside}", search.bytes.count(handle))
            for column, count in _columns(search, path):
                report.columns += 1
                report.add(f"{where}: {column}", count)
    return report


class _Search(TextSearch):
    """Needles, ready to be looked for: in bytes, and by the engine, which knows their words from a table."""

    def __init__(self, connection: Connection, needles: Needles, table: str) -> None:
        super().__init__(connection, needles, table)
        self.bytes = _Bytes(needles.all)


def finder(needles: Needles) -> Callable[[bytes], bool]:
    """Whether some bytes hold a needle, as `scan` finds them in a file."""
    search = _Bytes(needles.all)
    return lambda data: search.count(BytesIO(data)) > 0


class _Bytes:
    """Finds many texts at once: eight bytes of each are looked for as one number, at every offset; where they stand, the text is compared whole."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        sought = [needle for needle in needles if len(needle.encoded) > _WINDOW]
        self.longest = max((len(needle.encoded) for needle in sought), default=0)
        self.by_window: dict[bytes, list[tuple[int, Needle]]] = {}
        for needle, at in zip(sought, _windows(sought), strict=True):
            self.by_window.setdefault(needle.encoded[at : at + _WINDOW], []).append((at, needle))
        self.windows = np.sort(np.array([int.from_bytes(window, "little") for window in self.by_window], dtype=np.uint64))
        # Most offsets are told by their two bytes in the middle alone.
        self.plausible = np.zeros(1 << 16, dtype=np.bool_)
        self.plausible[(self.windows >> np.uint64(24)).astype(np.uint16)] = True

    def count(self, handle: IO[bytes]) -> int:
        if not self.by_window:
            return 0
        found, data, begin = 0, b"", 0
        while chunk := handle.read(_CHUNK):
            data += chunk
            # What begins in the last bytes of this chunk is counted with the next one, which sees it whole, and what is beside it.
            before = max(len(data) - self.longest - AFTER + 1, begin)
            found += self._count(data, begin, before)
            kept = max(before - 1, 0)
            data, begin = data[kept:], before - kept
        return found + self._count(data, begin, len(data))

    def _count(self, data: bytes, begin: int, before: int) -> int:
        """How many texts begin from one offset on and in front of another."""
        found = 0
        for shift in range(_WINDOW):
            size = (len(data) - shift) // _WINDOW
            if size <= 0:
                continue
            window = np.frombuffer(data, dtype="<u8", count=size, offset=shift)
            at = np.flatnonzero(self.plausible[(window >> np.uint64(24)).astype(np.uint16)])
            if not len(at):
                continue
            picked = window[at]
            place = np.minimum(np.searchsorted(self.windows, picked), len(self.windows) - 1)
            for position in (at[self.windows[place] == picked] * _WINDOW + shift).tolist():
                for offset, needle in self.by_window.get(data[position : position + _WINDOW], ()):
                    start = position - offset
                    found += begin <= start < before and data.startswith(needle.encoded, start) and needle.ends_fit(data, start)
        return found


def _windows(needles: list[Needle]) -> list[int]:
    """Where in each needle its eight bytes begin. Of what sources gave, many share a namespace or a host's name: taken are those that fewest share."""
    shared = Counter(needle.encoded[at : at + _WINDOW] for needle in needles if needle.bounded for at in range(len(needle.encoded) - _WINDOW + 1))

    def best(needle: Needle) -> int:
        if not needle.bounded:
            return 0
        last = len(needle.encoded) - _WINDOW
        own = min(len(needle.text.partition(":")[0].encode()) + 1 if ":" in needle.text else 0, last)
        return min(range(last + 1), key=lambda at: (shared[needle.encoded[at : at + _WINDOW]], abs(at - own)))

    return [best(needle) for needle in needles]


def _opened(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """A file's bytes, and those of what it packs, with where they are inside of it."""
    yield "", open(path, "rb")  # noqa: SIM115 (the caller closes what it is given)
    with open(path, "rb") as handle:
        head = handle.read(4)
    if head[:2] == gzipped.MAGIC:
        yield " (unpacked)", gzipped.opened(path)
    elif head == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for member in packed.namelist():
                yield f" ({member})", packed.open(member)


def _columns(search: _Search, path: Path) -> Iterator[tuple[str, int]]:
    """(table.column, how many values hold a needle) of each column of a file that is a store of tables."""
    with open(path, "rb") as handle:
        head = handle.read(16)
    connection = search.connection
    if head[:4] == b"PAR1":
        yield from _relations(search, {"": f"read_parquet({file_list([path])}, hive_partitioning = false)"})
    elif head[8:12] == b"DUCK":
        connection.execute(f"attach {literal(path)} as looked_at (read_only)")
        try:
            named = rows(connection, "select schema_name, table_name from duckdb_tables() where database_name = 'looked_at' order by all")
            relations = {f"{schema}.{table}": f"looked_at.{name(str(schema))}.{name(str(table))}" for schema, table in named}
            yield from _relations(search, relations)
        finally:
            connection.execute("detach looked_at")
    elif head == b"SQLite format 3\0":
        yield from _sqlite(path, search.needles)


def _relations(search: _Search, relations: dict[str, str]) -> Iterator[tuple[str, int]]:
    for table, relation in relations.items():
        for column, kind, *_ in rows(search.connection, f"describe select * from {relation}"):
            yield f"{table}.{column}".lstrip("."), _in_column(search, relation, name(str(column)), str(kind))


def _in_column(search: _Search, relation: str, column: str, kind: str) -> int:
    if kind in _NUMBERS:
        picked = f"select try_cast(number as {kind}) from numbers where try_cast(number as {kind}) is not null"
        return int(str(rows(search.connection, f"select count(*) from {relation} where {column} in ({picked})")[0][0]))
    if kind.startswith(_PLAIN) and "[" not in kind:
        return 0
    text = f"try(decode({column}))" if kind == "BLOB" else f"{column}::varchar"
    # The engine finds by words, in one pass whatever the number of needles; what it finds is then looked at as bytes are.
    found = rows(search.connection, f"""
        select value, count(*) from (select value, {words_sql("value")} as word from (select {text} as value from {relation} where {column} is not null)) w
        join {search.table} n on n.key = w.word where contains(value, n.needle) group by value""")  # fmt: skip
    return sum(int(str(count)) for value, count in found if search.needles.are_in(str(value)))


def _sqlite(path: Path, needles: Needles) -> Iterator[tuple[str, int]]:
    database = sqlite3.connect(read_only_address(path), uri=True)
    try:
        for (table,) in database.execute("select name from sqlite_master where type = 'table' order by name").fetchall():
            cursor = database.execute(f'select * from "{table}"')
            columns = [str(column[0]) for column in cursor.description]
            counts = dict.fromkeys(columns, 0)
            for values in cursor:
                for column, value in zip(columns, values, strict=True):
                    counts[column] += needles.are_in(_text(value))
            yield from ((f"{table}.{column}", count) for column, count in counts.items())
    finally:
        database.close()


def scrub_stores(folder: Path, needles: Needles, *, told: Callable[[Path, int], object] = lambda _, __: None) -> int:
    """Deletes from the SQLite stores under a folder the rows that hold a needle, and overwrites the files' free space; how many rows went.

    For stores of logs, in which no row needs another. told: is given each store with how many rows are about to go from it, all at once or none. Raises
    sqlite3.OperationalError where a store is in use.
    """
    scrubbed = 0
    for path in sorted(folder.rglob("*.db")) if folder.exists() else []:
        database = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            database.execute("pragma secure_delete = on")
            database.execute("begin immediate")
            held: dict[str, list[int]] = {}
            for (table,) in database.execute("select name from sqlite_master where type = 'table' order by name").fetchall():
                found = database.execute(f'select rowid, * from "{table}"')
                held[table] = [row for row, *values in found if any(needles.are_in(_text(value)) for value in values)]
            if gone := sum(map(len, held.values())):
                told(path, gone)
                for table, numbers in held.items():
                    database.executemany(f'delete from "{table}" where rowid = ?', [(row,) for row in numbers])
            database.execute("commit")
            if gone:
                database.execute("vacuum")
            database.execute("pragma wal_checkpoint(truncate)")
            scrubbed += gone
        finally:
            database.close()
    return scrubbed


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
