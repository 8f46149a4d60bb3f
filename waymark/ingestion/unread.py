"""The texts of a file that no mapping reads, as far as anybody can read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from waymark.core import gzipped

_CHUNK = 1 << 20
_LONGEST = 1 << 26  # characters; of a longer line, pieces are looked at
_OVERLAP = 1 << 10
_TEXTS = 1 << 24  # characters, a list of texts


class UnreadTexts:
    """Lists of lines. is_whole: nothing of the file was beyond reading; known once all were asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_whole = True

    def __iter__(self) -> Iterator[list[str]]:
        """Raises OSError where the disk refuses."""
        texts, length, rest = list[str](), 0, ""
        for chunk in self._chunks():
            lines = (rest + chunk.decode("utf-8", "replace")).split("\n")
            rest = lines.pop()
            if len(rest) > _LONGEST:
                lines.append(rest)
                rest = rest[-_OVERLAP:]
            texts += lines
            length += len(chunk)
            if length > _TEXTS:
                yield texts
                texts, length = [], 0
        yield [*texts, rest]

    def _chunks(self) -> Iterator[bytes]:
        with open(self.path, "rb") as file:
            is_packed = file.read(2) == gzipped.MAGIC
            file.seek(0)
            if not is_packed:
                yield from iter(lambda: file.read(_CHUNK), b"")
                return
        unpacked = gzipped.Unpacked(self.path)
        with unpacked:
            while chunk := unpacked.read(_CHUNK):
                yield chunk
        self.is_whole = unpacked.is_whole
