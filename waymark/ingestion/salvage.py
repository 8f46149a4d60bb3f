"""The reader of text files: every record gets exactly one outcome.

A broken quote costs its own physical line: reading goes on at the next one. Good records are copied as they stand, with their number in front,
to a clean file that DuckDB's strict reader takes; so what their fields are, it says. Lines that are plain records are told and copied many at
once; only what is left is split line by line.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from waymark.ingestion.clean import Clean
from waymark.ingestion.lines import is_text, odd_lines

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH = 20_000
_BLOCK = 1 << 20  # characters
LINE_MARK = "\x01"  # a raw control character is never part of valid JSON, so no good line holds it
_SPAN_LINES = 10_000  # a quoted field that runs over more lines than this is taken for an unclosed quote
_ESCAPED = re.compile("[\udc00-\udcff]")
_HANDLER = "waymark_escape"


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Keeps undecodable bytes as lone surrogates, in any codec, so that their record can be named."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _escape)


@dataclass(frozen=True)
class Record:
    """One record: its text without the line end, its fields where it was split, or the rule that it breaks."""

    raw: str
    rule: str | None = None
    fields: list[str | None] | None = None


@dataclass(frozen=True)
class Split:
    """Where a file's records go: the good ones under its number to `clean`, the others to `refused`, a Parquet file with `_wm_row`, `_wm_rule`,
    `_wm_raw`, `_wm_bytes`, which is made where there are any."""

    file_id: int
    clean: Clean
    refused: Path


class _Fields:
    """Splits one record's lines into fields, a line at a time."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        self.skipped = "" if delimiter == " " else " "
        self.fields: list[str | None] = []
        self.quoted: list[str] | None = None  # parts of the quoted field that is open
        self.broken = False

    def feed(self, line: str) -> bool:
        """Takes the next physical line, its line end included; True when the record is complete (or broken)."""
        body = line.rstrip("\r\n")
        position, end = 0, len(body)
        if self.quoted is not None:
            after = self._quoted(line, 0)
            if after is None:
                return False
            position = after
            if position >= end or self.broken:
                return True
        while True:
            # One space before a quote is skipped, as DuckDB does; with two the quote is a letter like others.
            start = position + (self.skipped != "" and body[position : position + 1] == self.skipped)
            if start < end and body[start] == '"':
                self.quoted = []
                after = self._quoted(line, start + 1)
                if after is None:
                    return False
                position = after
                if position >= end or self.broken:
                    return True
                continue
            found = body.find(self.delimiter, position)
            if found < 0:
                self.fields.append(body[position:] or None)
                return True
            self.fields.append(body[position:found] or None)
            position = found + 1

    def _quoted(self, line: str, position: int) -> int | None:
        """Reads on in a quoted field; the position after its delimiter (past the end: the record is over), or None if it goes on in the next line."""
        parts = self.quoted if self.quoted is not None else []
        while True:
            found = line.find('"', position)
            if found < 0:
                parts.append(line[position:])
                return None
            parts.append(line[position:found])
            if line[found + 1 : found + 2] == '"':
                parts.append('"')
                position = found + 2
                continue
            position, end = found + 1, len(line.rstrip("\r\n"))
            while self.skipped and position < end and line[position] == self.skipped:
                position += 1
            if position >= end or line[position] != '"':
                break
            parts.append(line[found + 1 : position])  # DuckDB joins quoted parts that only spaces part
            position += 1
        self.fields.append("".join(parts) or None)
        self.quoted = None
        if position >= end:
            return end
        if line[position] != self.delimiter:
            self.broken = True
            return end
        if position + 1 >= end:  # a delimiter at the very end opens one more, empty field
            self.fields.append(None)
            return end
        return position + 1


def split_record(text: str, delimiter: str) -> list[str | None] | None:
    """The fields of the first record of a text, or None where its quotes are broken."""
    state = _Fields(delimiter)
    for line in _physical_lines(text):
        if not line.strip("\r\n") and state.quoted is None:
            continue
        if state.feed(line):
            return None if state.broken else state.fields
    return None if state.quoted is not None else state.fields


def _physical_lines(text: str) -> Iterator[str]:
    return (found.group() for found in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text))


def csv_records(lines: Iterable[str], delimiter: str, width: int) -> Iterator[Record]:
    """One Record per record of a CSV's body; `width` is the header's number of columns. Blank lines are no records."""
    for found in _csv_runs(iter([list(lines)]), delimiter, width):
        if isinstance(found, Record):
            yield found
        else:
            yield from (Record(line.rstrip("\r\n")) for line in found)


def _csv_runs(blocks: Iterator[list[str]], delimiter: str, width: int) -> Iterator[list[str] | Record]:
    """Runs of lines that are plain records, and between them what had to be split with care. Blocks are of lines with their ends."""
    lines: list[str] = []
    odd: deque[int] = deque()  # of these lines, those that are not plain records
    at = 0
    while True:
        if at == len(lines):
            lines, at = next(blocks, []), 0
            if not lines:
                return
            odd = deque(odd_lines(lines, delimiter, width))
        while odd and odd[0] < at:
            odd.popleft()
        end = odd[0] if odd else len(lines)
        if end > at:
            yield lines[at:end]
            at = end
            continue
        if not lines[at].strip("\r\n"):
            at += 1
            continue
        state, taken = _Fields(delimiter), 1
        complete = state.feed(lines[at])
        while not complete and taken < _SPAN_LINES:
            if at + taken == len(lines):
                if not (block := next(blocks, [])):
                    break
                lines, odd, at = lines[at:], deque(index - at for index in odd), 0
                odd.extend(len(lines) + index for index in odd_lines(block, delimiter, width))
                lines += block
            complete = state.feed(lines[at + taken])
            taken += 1
        fields = state.fields
        while len(fields) > width and fields[-1] is None:
            fields.pop()  # delimiters at the end of a line
        if complete and not state.broken and len(fields) == width:
            yield _judged("".join(lines[at : at + taken]), fields)
            at += taken
        else:
            yield _judged(lines[at], None, "malformed_row" if complete else "unterminated_quote")
            at += 1


def _judged(text: str, fields: list[str | None] | None, rule: str | None = None) -> Record:
    raw = text.rstrip("\r\n")
    if _ESCAPED.search(text):
        return Record(raw, "invalid_encoding")
    return Record(raw, "nul_byte" if "\0" in text else rule, fields)


def salvage_csv(path: Path, encoding: str, width: int, target: Split) -> int:
    """Splits the body of a CSV with so many columns. Returns how many records it has."""
    with open(path, encoding=encoding, errors=_HANDLER, newline="") as handle:
        _skip_header(iter(handle.readline, ""), target.clean.delimiter)
        return _write(_csv_runs(_blocks(handle), target.clean.delimiter, width), encoding, target)


def _blocks(handle: TextIO) -> Iterator[list[str]]:
    return iter(lambda: handle.readlines(_BLOCK), [])


def _skip_header(lines: Iterator[str], delimiter: str) -> None:
    state = _Fields(delimiter)
    for line in lines:
        if not line.strip("\r\n") and state.quoted is None:
            continue
        if state.feed(line):
            return


def salvage_lines(path: Path, encoding: str, target: Split) -> int:
    """The same for a file of one JSON text a line; whether it is JSON is asked later, in SQL. Blank lines are no records."""
    with open(path, encoding=encoding, errors=_HANDLER, newline="") as handle:
        return _write(_json_runs(_blocks(handle)), encoding, target)


def _json_runs(blocks: Iterator[list[str]]) -> Iterator[list[str] | Record]:
    for block in blocks:
        lines, text = [line for line in block if not line.isspace()], "".join(block)
        if LINE_MARK in text or "\0" in text or not is_text(text):
            yield from (_judged(line, None, "malformed_row" if LINE_MARK in line else None) for line in lines)
        elif lines:
            yield lines


def salvage_stored(stored: Iterable[tuple[int, int, str, bytes | None]], encoding: str, delimiter: str | None, columns: list[str], target: Path) -> None:
    """Reads quarantined raw records again: (file_id, row number, text, the bytes where the text is not faithful).

    delimiter: of a CSV; None for one JSON text a record. Writes Parquet: `_wm_file`, `_wm_row`, `_wm_rule`, `_wm_raw`, and the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines: list[list[object]] = []
    for file_id, number, text, content in stored:
        whole = content.decode(encoding, _HANDLER) if content is not None else text
        found = [_judged(whole, [whole])] if delimiter is None else list(_split(whole, delimiter, len(columns)))
        record = found[0] if len(found) == 1 else Record(text, "malformed_row")
        fields = record.fields if record.rule is None and record.fields is not None else [None] * len(columns)
        lines.append([file_id, number, record.rule, text, *fields])
    head = [pa.field("_wm_file", pa.int32()), pa.field("_wm_row", pa.int64()), pa.field("_wm_rule", pa.string()), pa.field("_wm_raw", pa.string())]
    schema = pa.schema(head + [pa.field(column, pa.string()) for column in columns])
    pq.write_table(_table(lines, schema), target)


def copy_without(path: Path, encoding: str, delimiter: str | None, width: int, left_out: Collection[int]) -> Iterator[bytes]:
    """The bytes of a text file without the records of these numbers, which are those of `salvage_csv` or, without a delimiter, `salvage_lines`.

    A record that is kept stays as it is, but for blank lines around it, which go, and a line end that it may gain.
    """
    codec = codecs.lookup("utf-8" if encoding == "utf-8-sig" else encoding).name
    if codec in ("utf-16", "utf-32"):  # each piece would get a mark of the order of bytes
        yield codecs.BOM_UTF16_LE if codec == "utf-16" else codecs.BOM_UTF32_LE
        codec += "-le"
    with open(path, encoding=encoding, errors=_HANDLER, newline="") as handle:
        if delimiter is not None:
            header = _Kept(handle)
            _skip_header(iter(header.readline, ""), delimiter)
            yield "".join(header.lines).encode(codec)
        number = 1
        for run in _csv_runs(_blocks(handle), delimiter, width) if delimiter is not None else _json_runs(_blocks(handle)):
            lines = [run.raw] if isinstance(run, Record) else run
            kept = [line.rstrip("\r\n") for position, line in enumerate(lines, number) if position not in left_out]
            number += len(lines)
            if kept:
                yield _bytes("\n".join(kept) + "\n", codec)


class _Kept:
    """Reads lines, and keeps what it read."""

    def __init__(self, handle: TextIO) -> None:
        self.handle = handle
        self.lines: list[str] = []

    def readline(self) -> str:
        line = self.handle.readline()
        self.lines.append(line)
        return line


def _split(text: str, delimiter: str, width: int) -> Iterator[Record]:
    for record in csv_records(_physical_lines(text), delimiter, width):
        yield record if record.rule or record.fields else Record(record.raw, None, split_record(record.raw, delimiter))


def _write(runs: Iterable[list[str] | Record], encoding: str, target: Split) -> int:
    import pyarrow as pa

    fields = [pa.field("_wm_row", pa.int64()), pa.field("_wm_rule", pa.string()), pa.field("_wm_raw", pa.string()), pa.field("_wm_bytes", pa.binary())]
    schema = pa.schema(fields)
    number = 1
    rows: list[list[object]] = []
    with contextlib.ExitStack() as open_files:
        writer = None
        for run in runs:
            if not isinstance(run, Record):
                target.clean.write(target.file_id, number, run)
                number += len(run)
                continue
            if run.rule is None:
                target.clean.write(target.file_id, number, [run.raw])
            else:
                raw, original = run.raw, None
                if run.rule == "invalid_encoding":
                    original = _bytes(raw, encoding)
                    raw = _ESCAPED.sub(lambda match: f"\\x{ord(match.group()) - 0xDC00:02x}", raw)
                rows.append([number, run.rule, raw, original])
            number += 1
            if len(rows) >= _BATCH:
                writer = writer or open_files.enter_context(_parquet_writer(target.refused, schema))
                writer.write_table(_table(rows, schema))
                rows = []
        if rows:
            writer = writer or open_files.enter_context(_parquet_writer(target.refused, schema))
            writer.write_table(_table(rows, schema))
    return number - 1


def _parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, schema)


def _table(rows: list[list[object]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.table([pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _bytes(text: str, encoding: str) -> bytes:
    """The record's bytes as the file had them."""
    out, position = bytearray(), 0
    codec = "utf-8" if encoding == "utf-8-sig" else encoding
    for match in _ESCAPED.finditer(text):
        out += text[position : match.start()].encode(codec, "replace")
        out.append(ord(match.group()) - 0xDC00)
        position = match.end()
    return bytes(out + text[position:].encode(codec, "replace"))
