"""From a file to its records: one row per record, every column as text.

Text files are split by `salvage` into good records, which the group's clean files collect, and refused ones; DuckDB's reader, in its strict mode,
reads the clean files when the records are wanted. Documents and Parquet files are read by DuckDB alone, into the temporary table `_wm_read`.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from waymark.core import gzipped
from waymark.core.errors import FileRefusedError
from waymark.core.quoting import file_list, literal, name
from waymark.core.warehouse import Connection, connect, rows, storage_problem
from waymark.ingestion.clean import Clean
from waymark.ingestion.engine import refusing_engine_errors
from waymark.ingestion.extraction import RECORD, Shape
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.salvage import Split, salvage_csv, salvage_lines, split_record

READ = "_wm_read"
_CHUNK = 1 << 20
_HEADER_LIMIT = 1 << 20
_LONGEST_LINE = 1 << 26
NO_VERDICT = "cast(NULL as varchar) as _wm_rule, cast(NULL as varchar) as _wm_raw, cast(NULL as blob) as _wm_bytes"


@dataclass(frozen=True)
class Plain:
    """A file as uncompressed bytes; `utf8`: it is text in UTF-8; `in_its_encoding`: the same text, as the file has it."""

    path: Path
    utf8: bool
    is_empty: bool
    in_its_encoding: Path


@dataclass(frozen=True)
class Opened:
    """A file that can be read: the shape of its records, and its text, where they are yet to be taken from it (else they are in `_wm_read`)."""

    file: Path
    shape: Shape
    text: Plain | None = None


def open_file(connection: Connection, mapping: Mapping, path: Path, scratch: Path) -> Opened:
    """Looks at a file as far as its header; of a document or a Parquet file, fills `_wm_read` (`_wm_row` from 1, then the columns).

    Raises FileRefusedError where the file as a whole cannot be read.
    """
    where = _where(mapping, path)
    if path.is_dir():
        raise FileRefusedError("this is a folder, not a file", where=where, remedy=f"Name its files in waymark.yml: {path}/*.{mapping.format}")
    if not path.exists():
        raise FileRefusedError("there is no such file", where=where, remedy="Mend files in waymark.yml, or put the file there.")
    drop_read(connection)
    with _refusing(path, where, scratch):
        if path.stat().st_size == 0:
            raise FileRefusedError("the file is empty", where=where, remedy="Export it again (a CSV needs at least its header), or remove it.")
        if mapping.format == "parquet":
            return Opened(path, _load_parquet(connection, path, where, scratch))
        plain = _plain(mapping, path, scratch, where)
        if plain.is_empty:
            raise FileRefusedError("the file is empty", where=where, remedy="Export it again (a CSV needs at least its header), or remove it.")
        if mapping.format == "csv":
            return Opened(path, Shape(tuple(_header(mapping, plain, where))), plain)
        if mapping.format == "ndjson":
            return Opened(path, Shape((RECORD,), is_json=True), plain)
        return Opened(path, _load_array(connection, plain, where))


def split_text(opened: Opened, mapping: Mapping, file_id: int, clean: Clean, refused: Path) -> int:
    """Sends the good records of a text file to `clean`, the others to `refused` (see `Split`). Returns how many there are.

    Raises FileRefusedError where the file cannot be read to its end.
    """
    plain = opened.text
    assert plain is not None
    refused.unlink(missing_ok=True)
    target = Split(file_id, clean, refused)
    encoding = "utf-8-sig" if plain.utf8 else mapping.encoding
    with _refusing(opened.file, _where(mapping, opened.file), clean.folder):
        width = len(opened.shape.columns)
        count = salvage_csv(plain.path, encoding, width, target) if mapping.format == "csv" else salvage_lines(plain.path, encoding, target)
    if clean.longest_line > _LONGEST_LINE:
        what = f"what is good in the file cannot be read: a record is longer than {_LONGEST_LINE:,} bytes"
        raise FileRefusedError(what, where=_where(mapping, opened.file), remedy="Export it again, then run again; nothing of it was accepted.")
    return count


def clean_sql(parts: Sequence[Path], shape: Shape, clean: Clean) -> str:
    """Relation of the good records in these parts: `_wm_file`, `_wm_row`, the columns, and the columns of a refusal, all NULL."""
    columns = {"_wm_file": "INTEGER", "_wm_row": "BIGINT", **dict.fromkeys(shape.columns, "VARCHAR")}
    quote = "" if shape.is_json else '"'
    source = _csv_source(parts, columns, clean.delimiter, quote, header=False, new_line=_CLEAN_LINE_END, longest_line=clean.longest_line)
    return f"(select *, {NO_VERDICT} from {source})"


def _where(mapping: Mapping, path: Path) -> str:
    return f"source '{mapping.source}': {path.name}"


@contextlib.contextmanager
def _refusing(path: Path, where: str, scratch: Path) -> Iterator[None]:
    """Tells what is wrong with the file from what is wrong with the disk."""
    try:
        yield
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
    compressed = head[:2] == gzipped.MAGIC
    if path.suffix == ".gz" and not compressed:
        raise FileRefusedError("the name ends in .gz, but the content is not gzip", where=where, remedy="Compress it again, or rename it.")
    target, is_empty = path, True
    utf8 = is_utf8(mapping.encoding)
    if compressed:
        target = scratch / "plain"
        try:
            with gzip.open(path, "rb") as packed, open(target, "wb") as unpacked:
                while chunk := packed.read(_CHUNK):
                    unpacked.write(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileRefusedError("the gzip file is truncated or damaged", where=where, remedy="Transfer it again; nothing of it was accepted.") from error
    with open(target, "rb") as handle:
        while is_empty and (chunk := handle.read(_CHUNK)):
            is_empty = not chunk.lstrip(codecs.BOM_UTF8)
    if not utf8:
        try:
            with open(target, encoding=mapping.encoding, newline="") as decoded, open(scratch / "utf8", "w", encoding="utf-8", newline="") as encoded:
                shutil.copyfileobj(decoded, encoded, _CHUNK)
        except UnicodeError:
            return Plain(target, False, is_empty, target)
        return Plain(scratch / "utf8", True, is_empty, target)
    return Plain(target, True, is_empty, target)


def _header(mapping: Mapping, plain: Plain, where: str) -> list[str]:
    """The CSV's column names, made unique as DuckDB needs them."""
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
    return names


# Told, not detected: a carriage return inside a quoted field of the first record would pass for the file's line end.
_CLEAN_LINE_END = "\\n"


def _csv_source(
    files: Sequence[Path], columns: dict[str, str], delimiter: str, quote: str, *, header: bool, new_line: str = "", longest_line: int = _LONGEST_LINE
) -> str:
    """read_csv in its strict mode: it either reads every record as the format says, or fails. new_line: as SQL text, where it is known."""
    typed = ", ".join(f"{literal(column)}: '{kind}'" for column, kind in columns.items())
    return (
        f"read_csv({file_list(files)}, columns = {{{typed}}}, auto_detect = false, header = {str(header).lower()}, delim = {literal(delimiter)},"
        f" quote = {literal(quote)}, escape = {literal(quote)}, strict_mode = true, null_padding = false, ignore_errors = false, compression = 'none',"
        f" max_line_size = {longest_line}, hive_partitioning = false{f', new_line = {literal(new_line)}' if new_line else ''})"
    )


def _load_array(connection: Connection, plain: Plain, where: str) -> Shape:
    remedy = "Mend or export the document again; if it holds one object a line, set format: ndjson. Nothing of it was accepted."
    if not plain.utf8:
        raise FileRefusedError("the file is not text in the encoding of its mapping", where=where, remedy="Set encoding in the mapping, then run again.")
    with open(plain.path, encoding="utf-8-sig", errors="replace") as handle:
        start = handle.read(_CHUNK).lstrip()[:1]
    if start != "[":
        raise FileRefusedError("the document is not a JSON array", where=where, remedy=remedy)
    source = f"read_json_objects({file_list([plain.path])}, format = 'array', maximum_object_size = 67108864, compression = 'uncompressed')"

    def refusal(said: str) -> FileRefusedError:
        return FileRefusedError(f"the JSON document is broken: {said}", where=where, remedy=remedy)

    with refusing_engine_errors("the scratch folder", refusal):
        connection.execute(f"create or replace temp table {READ}_raw as select cast(json as varchar) as {RECORD} from {source}").fetchall()
    # In a table just made, rowid counts the rows in the order of the file.
    connection.execute(f"create or replace temp view {READ} as select rowid + 1 as _wm_row, {NO_VERDICT}, {RECORD} from {READ}_raw")
    return Shape((RECORD,), is_json=True)


def _load_parquet(connection: Connection, path: Path, where: str, scratch: Path) -> Shape:
    with open(path, "rb") as handle:
        head = handle.read(4)
    if head != b"PAR1":
        raise FileRefusedError("this is not a Parquet file", where=where, remedy="Set the format in the mapping to what the file is, or export it again.")
    source, clean = f"read_parquet({file_list([path])}, hive_partitioning = false, file_row_number = true)", scratch / "clean.parquet"

    def refusal(said: str) -> FileRefusedError:
        return FileRefusedError(f"the Parquet file is damaged: {said}", where=where, remedy="Export it again; nothing of it was accepted.")

    # A damaged Parquet file can bring down the whole DuckDB instance that reads it: so one that holds nothing reads it first.
    with refusing_engine_errors(str(scratch), refusal), connect(scratch=scratch) as isolated:
        texts = texts_sql(isolated, f"select * exclude (file_row_number) from {source}")
        copied = f"select file_row_number + 1 as _wm_row, {', '.join(f'{text} as {name(column)}' for column, text in texts.items())} from {source}"
        isolated.execute(f"copy ({copied}) to {literal(str(clean))} (format parquet)").fetchall()
    columns = tuple(texts)
    picked = ", ".join(map(name, columns))
    connection.execute(f"create or replace temp table {READ}_raw as select * from read_parquet({file_list([clean])})").fetchall()
    connection.execute(f"create or replace temp view {READ} as select _wm_row, {NO_VERDICT}, {picked} from {READ}_raw")
    return Shape(columns)


def is_utf8(encoding: str) -> bool:
    """Whether text in this encoding is read as UTF-8, with or without its mark."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def texts_sql(connection: Connection, relation: str) -> dict[str, str]:
    """SQL of each column's value as text, by the column's name; of one that is nested, as JSON."""
    nested = ("STRUCT", "MAP", "UNION", "LIST")
    described = [(str(column), str(kind)) for column, kind, *_ in rows(connection, f"describe {relation}")]
    as_json = {column for column, kind in described if kind.startswith(nested) or kind.endswith("]")}
    return {column: f"cast({f'to_json({name(column)})' if column in as_json else name(column)} as varchar)" for column, _ in described}


def drop_read(connection: Connection) -> None:
    connection.execute(f"drop view if exists {READ}")
    connection.execute(f"drop table if exists {READ}_raw")
