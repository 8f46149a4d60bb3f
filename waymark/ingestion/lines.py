"""Which lines of a CSV are plain records: told for a block of lines at once, because nearly all of them are.

A line that is not told to be plain may still be a good record, or the first line of one; `salvage` splits it with care.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile("[\udc00-\udcff]")
_QUOTE, _NEWLINE, _RETURN, _SURROGATE, _SURROGATE_NEXT = 34, 10, 13, 0xED, 0xA0


def odd_lines(lines: list[str], delimiter: str, width: int) -> list[int]:
    """Indexes of the lines that are not, each by itself, one plain record with `width` fields. Lines carry their ends."""
    text = "".join(lines)
    data = _bytes_of(text, len(lines), delimiter)
    if data is None or width < 2:
        whole = _whole_record(delimiter, width)
        return [index for index, line in enumerate(lines) if not _is_plain(line, delimiter, width, whole)]
    return _odd_among(data, ord(delimiter), width)


def is_text(text: str) -> bool:
    """False where bytes that could not be decoded stand in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes_of(text: str, line_count: int, delimiter: str) -> bytes | None:
    """The lines as bytes with a line end before the first and after the last; None where bytes alone do not tell where lines and fields end."""
    if not delimiter.isascii() or text.count("\r") != text.count("\r\n"):
        return None
    data = text.encode("utf-8", "surrogatepass")
    whole = b"\n" + data if data.endswith(b"\n") else b"\n" + data + b"\n"
    return whole if whole.count(b"\n") == line_count + 1 else None


def _odd_among(whole: bytes, mark: int, width: int) -> list[int]:
    import numpy as np

    data = np.frombuffer(whole, dtype=np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    starts = ends[:-1] + 1
    quotes, marks = np.flatnonzero(data == _QUOTE), np.flatnonzero(data == mark)
    first_quote, first_mark = np.searchsorted(quotes, starts), np.searchsorted(marks, starts)
    quote_count, mark_count = np.diff(first_quote, append=len(quotes)), np.diff(first_mark, append=len(marks))
    is_odd = quote_count % 2 == 1
    if len(quotes):
        # Of a line's quotes every second one closes. One that opens stands at the start of a field, one that closes at its end, or two are a letter.
        is_closing = (np.arange(len(quotes)) - np.repeat(first_quote, quote_count)) % 2 == 1
        neighbour = np.where(is_closing, data[quotes + 1], data[quotes - 1])
        is_good = (neighbour == mark) | (neighbour == _NEWLINE) | (is_closing & (neighbour == _RETURN)) | (neighbour == _QUOTE)
        is_odd |= np.bincount(np.repeat(np.arange(len(starts)), quote_count)[~is_good], minlength=len(starts)) > 0
        is_outside = (np.searchsorted(quotes, marks) - np.repeat(first_quote, mark_count)) % 2 == 0
        mark_count = np.bincount(np.repeat(np.arange(len(starts)), mark_count)[is_outside], minlength=len(starts))
    if b"\0" in whole or b"\xed" in whole:
        # NUL, and what stands for a byte that could not be decoded: in bytes a surrogate, of which text has none.
        is_no_text = (data == 0) | ((data == _SURROGATE) & (np.roll(data, -1) >= _SURROGATE_NEXT))
        is_odd[np.searchsorted(starts, np.flatnonzero(is_no_text), side="right") - 1] = True
    return np.flatnonzero(is_odd | (mark_count != width - 1)).tolist()


def _is_plain(line: str, delimiter: str, width: int, whole: re.Pattern[str]) -> bool:
    # A line without a quote is one record if its delimiters tally: counting them costs a tenth of matching.
    is_whole = line.count(delimiter) == width - 1 > 0 if '"' not in line else whole.fullmatch(line) is not None
    return is_whole and "\0" not in line and (line.isascii() or not _ESCAPED.search(line))


def _whole_record(delimiter: str, width: int) -> re.Pattern[str]:
    """Matches a line that is one plain record with `width` fields; whatever it does not match is split with care."""
    mark = re.escape(delimiter)
    field = rf'(?:"(?:[^"\r\n]|"")*+"|(?:[^" {mark}\r\n][^{mark}\r\n]*+)?)'
    return re.compile(rf"{field}(?:{mark}{field}){{{width - 1}}}(?:\r\n|\n|\r)?")
