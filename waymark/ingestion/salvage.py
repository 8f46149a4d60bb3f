"""The tolerant reader, for files that DuckDB's strict one refuses: every record gets exactly one outcome.

It runs in Python, line by line, and only for files with something broken in them. A broken quote costs its own physical line: reading
goes on at the next one. Good records are copied as they stand, with their number in front, to a clean file that DuckDB then reads like any
other; so their values cannot differ from those of the fast path.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 20_000
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
    """Where a salvaged file goes: `clean`, a CSV without header (record number, then the record as it stands), and `refused`, Parquet with
    `_wm_row`, `_wm_rule`, `_wm_raw`, `_wm_bytes`."""

    clean: Path
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
    return iter(re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text))


def csv_records(lines: Iterable[str], delimiter: str, width: int) -> Iterator[Record]:
    """One Record per record of a CSV's body; `width` is the header's number of columns. Blank lines are no records."""
    source, waiting = iter(lines), deque[str]()
    whole = _whole_record(delimiter, width)

    def following() -> str | None:
        return waiting.popleft() if waiting else next(source, None)

    while (line := following()) is not None:
        # A line without a quote is one record if its delimiters tally: counting them costs a tenth of matching.
        is_whole = line.count(delimiter) == width - 1 > 0 if '"' not in line else whole.fullmatch(line) is not None
        if is_whole and "\0" not in line and (line.isascii() or not _ESCAPED.search(line)):
            yield Record(line.rstrip("\r\n"))
            continue
        if not line.strip("\r\n"):
            continue
        state, taken, complete = _Fields(delimiter), [line], False
        complete = state.feed(line)
        while not complete and len(taken) < _SPAN_LINES:
            more = following()
            if more is None:
                break
            taken.append(more)
            complete = state.feed(more)
        fields = state.fields
        while len(fields) > width and fields[-1] is None:
            fields.pop()  # delimiters at the end of a line
        if complete and not state.broken and len(fields) == width:
            yield _judged("".join(taken), fields)
            continue
        waiting.extendleft(reversed(taken[1:]))
        yield _judged(line, None, "malformed_row" if complete else "unterminated_quote")


def _judged(text: str, fields: list[str | None] | None, rule: str | None = None) -> Record:
    raw = text.rstrip("\r\n")
    if _ESCAPED.search(text):
        return Record(raw, "invalid_encoding")
    return Record(raw, "nul_byte" if "\0" in text else rule, fields)


def _whole_record(delimiter: str, width: int) -> re.Pattern[str]:
    """Matches a line that is one plain record with `width` fields; whatever it does not match is split with care."""
    mark = re.escape(delimiter)
    field = rf'(?:"(?:[^"\r\n]|"")*+"|(?:[^" {mark}\r\n][^{mark}\r\n]*+)?)'
    return re.compile(rf"{field}(?:{mark}{field}){{{width - 1}}}(?:\r\n|\n|\r)?")


def salvage_csv(path: Path, encoding: str, delimiter: str, columns: list[str], target: Split) -> None:
    """Splits a CSV into good records and refused ones."""
    with open(path, encoding=encoding, errors=_HANDLER, newline="") as handle:
        lines = iter(handle)
        _skip_header(lines, delimiter)
        _write(csv_records(lines, delimiter, len(columns)), encoding, delimiter, target)


def _skip_header(lines: Iterator[str], delimiter: str) -> None:
    state = _Fields(delimiter)
    for line in lines:
        if not line.strip("\r\n") and state.quoted is None:
            continue
        if state.feed(line):
            return


def salvage_lines(path: Path, encoding: str, target: Split) -> None:
    """The same for a file of one JSON text a line; whether it is JSON is asked later, in SQL. Blank lines are no records."""
    with open(path, encoding=encoding, errors=_HANDLER, newline="") as handle:
        _write((_judged(line, None, "malformed_row" if LINE_MARK in line else None) for line in handle if line.strip()), encoding, LINE_MARK, target)


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


def _split(text: str, delimiter: str, width: int) -> Iterator[Record]:
    for record in csv_records(_physical_lines(text), delimiter, width):
        yield record if record.rule or record.fields else Record(record.raw, None, split_record(record.raw, delimiter))


def _write(records: Iterable[Record], encoding: str, delimiter: str, target: Split) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [pa.field("_wm_row", pa.int64()), pa.field("_wm_rule", pa.string()), pa.field("_wm_raw", pa.string()), pa.field("_wm_bytes", pa.binary())]
    schema = pa.schema(fields)
    with open(target.clean, "w", encoding="utf-8", newline="") as good, pq.ParquetWriter(target.refused, schema) as writer:
        rows: list[list[object]] = []
        for number, record in enumerate(records, 1):
            if record.rule is None:
                good.write(f"{number}{delimiter}{record.raw}\n")
                continue
            raw, original = record.raw, None
            if record.rule == "invalid_encoding":
                original = _bytes(raw, encoding)
                raw = _ESCAPED.sub(lambda match: f"\\x{ord(match.group()) - 0xDC00:02x}", raw)
            rows.append([number, record.rule, raw, original])
            if len(rows) >= _BATCH:
                writer.write_table(_table(rows, schema))
                rows = []
        if rows:
            writer.write_table(_table(rows, schema))


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
