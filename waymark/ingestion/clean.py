"""Good records of a group's text files, as they stand, each with the number of its file and its own in front: files that DuckDB reads like any CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

Mark = tuple[int, int, int, int]
_CHUNK = 1 << 20
_LEAST_LINE = 1 << 21  # DuckDB's own default of max_line_size, on which the size of its buffers depends


class Clean:
    """Collects records into parts of at most `part_rows`, so that what is made of a part fits in memory. part_rows None: all in one."""

    def __init__(self, folder: Path, delimiter: str, part_rows: int | None) -> None:
        self.folder, self.delimiter, self.part_rows = folder, delimiter, part_rows
        self.parts: list[Path] = []
        self.longest_line = _LEAST_LINE  # bytes, at least
        self._handle: BinaryIO | None = None
        self._room = self._at = 0
        self._ranges: dict[int, list[tuple[Path, int, int]]] = {}  # file id -> where its bytes are

    def write(self, file_id: int, number: int, lines: Sequence[str]) -> None:
        """Adds records that follow each other, the first of them with this number. Each is one line or several, with its end or without."""
        head, mark = f"{file_id}{self.delimiter}", self.delimiter
        while lines:
            handle = self._part()
            taken = lines[: self._room]
            text = "".join([f"{head}{n}{mark}{line}" for n, line in enumerate(taken, number)])
            if "\r" in text or not text.endswith("\n") or text.count("\n") != len(taken):
                ended = [line.rstrip("\r\n") for line in taken]
                text = "".join([f"{head}{n}{mark}{line}\n" for n, line in enumerate(ended, number)])
            data = text.encode()
            handle.write(data)
            self._note(file_id, self._at, self._at + len(data))
            self._at += len(data)
            if len(data) > self.longest_line:
                self.longest_line = max(self.longest_line, max(len(line.encode()) for line in taken) + len(head) + 32)
            number, self._room, lines = number + len(taken), self._room - len(taken), lines[len(taken) :]

    def _note(self, file_id: int, start: int, end: int) -> None:
        ranges = self._ranges.setdefault(file_id, [])
        if ranges and ranges[-1][0] == self.parts[-1]:
            start = ranges.pop()[1]  # a file's records lie together
        ranges.append((self.parts[-1], start, end))

    def _part(self) -> BinaryIO:
        if self._handle is None or self._room == 0:
            self.close()
            self.parts.append(self.folder / f"clean_{len(self.parts)}.csv")
            self._handle = open(self.parts[-1], "wb")  # noqa: SIM115 (`close` closes it)
            self._room, self._at = self.part_rows or 1 << 62, 0
        return self._handle

    def mark(self) -> Mark:
        """Where it stands, for `rewind`."""
        return (len(self.parts), self._at, self._room, self.longest_line)

    def rewind(self, mark: Mark, file_id: int) -> None:
        """Takes back all that was written of a file, which began at the mark."""
        self.close()
        self._ranges.pop(file_id, None)
        count, self._at, self._room, self.longest_line = mark
        for part in self.parts[count:]:
            part.unlink(missing_ok=True)
        del self.parts[count:]
        if self.parts:
            os.truncate(self.parts[-1], self._at)
            self._handle = open(self.parts[-1], "ab")  # noqa: SIM115

    def close(self) -> None:
        """To be called before the parts are read."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def cut_out(self, file_id: int) -> Path:
        """The records of one file, in a part of their own."""
        target = self.folder / "cut.csv"
        with open(target, "wb") as cut:
            for part, start, end in self._ranges.get(file_id, []):
                with open(part, "rb") as whole:
                    whole.seek(start)
                    for at in range(start, end, _CHUNK):
                        cut.write(whole.read(min(_CHUNK, end - at)))
        return target

    def forget(self) -> None:
        self.close()
        for part in self.parts:
            part.unlink(missing_ok=True)
