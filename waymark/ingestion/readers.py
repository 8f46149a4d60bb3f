"""From a file to the temporary table `_wm_read`: one row per record, every column as text.

The fast path is DuckDB's own reader in its strict mode. Whatever it refuses, and what holds NUL bytes, goes through `salvage`,
which gives each record exactly one outcome; clean rows get the same values on both paths.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from waymark.core.errors import FileRefusedError
from waymark.core.quoting import literal, name
from waymark.core.warehouse import Connection, connect, first_line, rows, storage_problem
from waymark.ingestion.engine import is_engine_error
from waymark.ingestion.extraction import RECORD, Shape
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.salvage import LINE_MARK, Split, salvage_csv, salvage_lines, split_record
from waymark.privacy import redact_text

READ = "_wm_read"
_CHUNK = 1 << 20
_HEADER_LIMIT = 1 << 20
_LONGEST_LINE = 1 << 26
_GZIP_MAGIC = b"\x1f\x8b"
NO_VERDICT = "cast(NULL as varchar) as _wm_rule, cast(NULL as varchar) as _wm_raw, cast(NULL as blob) as _wm_bytes"


@dataclass(frozen=True)
class Plain:
    """A file as uncompressed bytes; `utf8`: it can be given to DuckDB as it is."""

    path: Path
    utf8: bool
    has_nul: bool
    is_empty: bool


def load_records(connection: Connection, mapping: Mapping, path: Path, scratch: Path) -> Shape:
    """Fills `_wm_read` (`_wm_row` from 1, `_wm_rule`, `_wm_raw`, `_wm_bytes`, the file's columns) from one file.

    Raises FileRefusedError where the file as a whole cannot be read.
    """
    where = f"source '{mapping.source}': {path.name}"
    if path.is_dir():
        raise FileRefusedError("this is a folder, not a file", where=where, remedy=f"Name its files in waymark.yml: {path}/*.{mapping.format}")
    if not path.exists():
        raise FileRefusedError("there is no such file", where=where, remedy="Mend files in waymark.yml, or put the file there.")
    drop_read(connection)
    try:
        if path.stat().st_size == 0:
            raise FileRefusedError("the file is empty", where=where, remedy="Export it again (a CSV needs at least its header), or remove it.")
        if mapping.format == "parquet":
            return _load_parquet(connection, path, where, scratch)
        plain = _plain(mapping, path, scratch, where)
        if plain.is_empty:
            raise FileRefusedError("the file is empty", where=where, remedy="Export it again (a CSV needs at least its header), or remove it.")
        if mapping.format == "csv":
            return _load_csv(connection, mapping, plain, where, scratch)
        return _load_lines(connection, mapping, plain, where, scratch) if mapping.format == "ndjson" else _load_array(connection, plain, where)
    except OSError as error:
        if problem := storage_problem(error, str(error.filename or scratch)):
            if error.filename == str(path):
                raise FileRefusedError("no permission to read the file", where=where, remedy="Grant read permission, then run again.") from error
            raise problem from error
        raise FileRefusedError(
            f"the file cannot be read: {error.strerror or error}", where=where, remedy="Check the file and its disk, then run again."
        ) from error


def _plain(mapping: Mapping, path: Path, scratch: Path, where: str) -> Plain:
    with open(path, "rb") as handle:
        head = handle.read(4)
    if head[:4] == b"PAR1":
        raise FileRefusedError(
            f"this is a Parquet file, and the mapping says {mapping.format}", where=where, remedy=f"Set format: parquet in {mapping.path.name}."
        )
    compressed = head[:2] == _GZIP_MAGIC
    if path.suffix == ".gz" and not compressed:
        raise FileRefusedError("the name ends in .gz, but the content is not gzip", where=where, remedy="Compress it again, or rename it.")
    target, has_nul, size = path, False, 0
    utf8 = codecs.lookup(mapping.encoding).name in ("utf-8", "utf-8-sig", "ascii")
    if compressed:
        target = scratch / "plain"
        try:
            with gzip.open(path, "rb") as packed, open(target, "wb") as unpacked:
                while chunk := packed.read(_CHUNK):
                    unpacked.write(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileRefusedError("the gzip file is truncated or damaged", where=where, remedy="Transfer it again; nothing of it was accepted.") from error
    with open(target, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            size += len(chunk.lstrip(codecs.BOM_UTF8) if not size else chunk)
            has_nul = has_nul or b"\0" in chunk
    if not utf8:
        try:
            with open(target, encoding=mapping.encoding, newline="") as decoded, open(scratch / "utf8", "w", encoding="utf-8", newline="") as encoded:
                has_nul = False
                while text := decoded.read(_CHUNK):
                    encoded.write(text)
                    has_nul = has_nul or "\0" in text
        except UnicodeError:
            return Plain(target, False, has_nul, size == 0)
        target, utf8 = scratch / "utf8", True
    return Plain(target, utf8, has_nul, size == 0)


def _header(mapping: Mapping, plain: Plain, where: str) -> tuple[list[str], bool]:
    """The CSV's column names, made unique as DuckDB needs them, and whether they stand on the first line."""
    encoding = "utf-8-sig" if plain.utf8 else mapping.encoding
    with open(plain.path, encoding=encoding, errors="replace", newline="") as handle:
        text = handle.read(_HEADER_LIMIT)
    fields = split_record(text, mapping.delimiter)
    if fields is None:
        raise FileRefusedError("the header line cannot be read: a quote in it is never closed", where=f"{where}, line 1", remedy="Export the file again.")
    names: list[str] = []
    for position, column in enumerate(fields, 1):
        wanted = (column or "").strip().lstrip("\ufeff").replace("\0", "") or f"column_{position}"
        unique, number = wanted, 2
        while unique.lower() in {known.lower() for known in names} or unique.lower().startswith("_wm_"):
            unique, number = f"{wanted.lstrip('_')}_{number}", number + 1
        names.append(unique)
    return names, not text.startswith(("\n", "\r"))


def _load_csv(connection: Connection, mapping: Mapping, plain: Plain, where: str, scratch: Path) -> Shape:
    names, on_first_line = _header(mapping, plain, where)
    shape = Shape(tuple(names))
    if plain.utf8 and not plain.has_nul and on_first_line and len(names) > 1:
        source = _csv_source(plain.path, dict.fromkeys(names, "VARCHAR"), mapping.delimiter, '"', header=True)
        if _fast(connection, f"create temp table {READ}_raw as select * from {source}"):
            _finish_fast(connection, ", ".join(map(name, names)))
            return shape
    target = Split(scratch / "clean.csv", scratch / "refused.parquet")
    salvage_csv(plain.path, "utf-8-sig" if plain.utf8 else mapping.encoding, mapping.delimiter, names, target)
    source = _csv_source(target.clean, {"_wm_row": "BIGINT", **dict.fromkeys(names, "VARCHAR")}, mapping.delimiter, '"', header=False, new_line=_CLEAN_LINE_END)
    _join_salvaged(connection, source, target.refused, names, where)
    return shape


def _load_lines(connection: Connection, mapping: Mapping, plain: Plain, where: str, scratch: Path) -> Shape:
    shape = Shape((RECORD,), is_json=True)
    if plain.utf8 and not plain.has_nul:
        source = _csv_source(plain.path, {RECORD: "VARCHAR"}, LINE_MARK, "", header=False)
        if _fast(connection, f"create temp table {READ}_raw as select * from {source}"):
            blank = rows(connection, f"select 1 from {READ}_raw where {RECORD} is null or trim({RECORD}, ' \t') = '' limit 1")
            if not blank:
                _finish_fast(connection, RECORD)
                return shape
    target = Split(scratch / "clean.csv", scratch / "refused.parquet")
    salvage_lines(plain.path, "utf-8-sig" if plain.utf8 else mapping.encoding, target)
    source = _csv_source(target.clean, {"_wm_row": "BIGINT", RECORD: "VARCHAR"}, LINE_MARK, "", header=False, new_line=_CLEAN_LINE_END)
    _join_salvaged(connection, source, target.refused, [RECORD], where)
    return shape


# Told, not detected: a carriage return inside a quoted field of the first record would pass for the file's line end.
_CLEAN_LINE_END = "\\n"


def _csv_source(path: Path, columns: dict[str, str], delimiter: str, quote: str, *, header: bool, new_line: str = "") -> str:
    """read_csv in its strict mode: it either reads every record as the format says, or fails. new_line: as SQL text, where it is known."""
    typed = ", ".join(f"{literal(column)}: '{kind}'" for column, kind in columns.items())
    return (
        f"read_csv({literal(_exact(path))}, columns = {{{typed}}}, auto_detect = false, header = {str(header).lower()}, delim = {literal(delimiter)},"
        f" quote = {literal(quote)}, escape = {literal(quote)}, strict_mode = true, null_padding = false, ignore_errors = false, compression = 'none',"
        f" max_line_size = {_LONGEST_LINE}, hive_partitioning = false{f', new_line = {literal(new_line)}' if new_line else ''})"
    )


def _join_salvaged(connection: Connection, source: str, refused: Path, names: list[str], where: str) -> None:
    columns = ", ".join(map(name, names))
    bad = f"select _wm_row, _wm_rule, _wm_raw, _wm_bytes, {', '.join('NULL' for _ in names)} from read_parquet({literal(str(refused))})"
    try:
        connection.execute(f"create temp table {READ} as select _wm_row, {NO_VERDICT}, {columns} from {source} union all {bad}").fetchall()
    except Exception as error:
        if not is_engine_error(error):
            raise
        if problem := storage_problem(error, "the scratch folder"):
            raise problem from error
        what = f"what is good in the file cannot be read: {redact_text(first_line(error))[:200]}"
        raise FileRefusedError(what, where=where, remedy="Export it again, then run again; nothing of it was accepted.") from error


def _fast(connection: Connection, sql: str) -> bool:
    connection.execute(f"drop table if exists {READ}_raw")
    try:
        connection.execute(sql).fetchall()
    except Exception as error:
        if not is_engine_error(error):
            raise
        if problem := storage_problem(error, "the scratch folder"):
            raise problem from error
        return False
    return True


def _finish_fast(connection: Connection, columns: str) -> None:
    # In a table just made, rowid counts the rows in the order of the file.
    connection.execute(f"create temp view {READ} as select rowid + 1 as _wm_row, {NO_VERDICT}, {columns} from {READ}_raw")


def _load_array(connection: Connection, plain: Plain, where: str) -> Shape:
    remedy = "Mend or export the document again; if it holds one object a line, set format: ndjson. Nothing of it was accepted."
    if not plain.utf8:
        raise FileRefusedError("the file is not text in the encoding of its mapping", where=where, remedy="Set encoding in the mapping, then run again.")
    with open(plain.path, encoding="utf-8-sig", errors="replace") as handle:
        start = handle.read(_CHUNK).lstrip()[:1]
    if start != "[":
        raise FileRefusedError("the document is not a JSON array", where=where, remedy=remedy)
    source = f"read_json_objects({literal(_exact(plain.path))}, format = 'array', maximum_object_size = 67108864, compression = 'uncompressed')"
    try:
        connection.execute(f"create or replace temp table {READ}_raw as select cast(json as varchar) as {RECORD} from {source}").fetchall()
    except Exception as error:
        if not is_engine_error(error):
            raise
        if problem := storage_problem(error, "the scratch folder"):
            raise problem from error
        raise FileRefusedError(f"the JSON document is broken: {redact_text(first_line(error))[:200]}", where=where, remedy=remedy) from error
    _finish_fast(connection, RECORD)
    return Shape((RECORD,), is_json=True)


def _load_parquet(connection: Connection, path: Path, where: str, scratch: Path) -> Shape:
    with open(path, "rb") as handle:
        head = handle.read(4)
    if head != b"PAR1":
        raise FileRefusedError("this is not a Parquet file", where=where, remedy="Set the format in the mapping to what the file is, or export it again.")
    source, clean = f"read_parquet({literal(_exact(path))}, hive_partitioning = false, file_row_number = true)", scratch / "clean.parquet"
    nested = ("STRUCT", "MAP", "UNION", "LIST")
    try:
        # A damaged Parquet file can bring down the whole DuckDB instance that reads it: so one that holds nothing reads it first.
        with connect(scratch=scratch) as isolated:
            described = [(str(column), str(kind)) for column, kind, *_ in rows(isolated, f"describe select * exclude (file_row_number) from {source}")]
            as_json = {column for column, kind in described if kind.startswith(nested) or kind.endswith("]")}
            texts = [f"cast({f'to_json({name(column)})' if column in as_json else name(column)} as varchar) as {name(column)}" for column, _ in described]
            copied = f"select file_row_number + 1 as _wm_row, {', '.join(texts)} from {source}"
            isolated.execute(f"copy ({copied}) to {literal(str(clean))} (format parquet)").fetchall()
    except Exception as error:
        if not is_engine_error(error):
            raise
        if problem := storage_problem(error, str(scratch)):
            raise problem from error
        what = f"the Parquet file is damaged: {redact_text(first_line(error))[:200]}"
        raise FileRefusedError(what, where=where, remedy="Export it again; nothing of it was accepted.") from error
    columns = tuple(column for column, _ in described)
    picked = ", ".join(map(name, columns))
    connection.execute(f"create temp table {READ} as select _wm_row, {NO_VERDICT}, {picked} from read_parquet({literal(str(clean))})").fetchall()
    return Shape(columns)


def drop_read(connection: Connection) -> None:
    for kind, column, catalogue in (("view", "view_name", "duckdb_views"), ("table", "table_name", "duckdb_tables")):
        for (found,) in rows(connection, f"select {column} from {catalogue}() where temporary and {column} in ('{READ}', '{READ}_raw') order by 1 nulls last"):
            connection.execute(f"drop {kind} {found}")


def _exact(path: Path) -> str:
    """The path with what DuckDB would take for a glob escaped."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))
