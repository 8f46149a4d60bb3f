"""Gzip files as far as they can be read: those that are damaged, and those that are not there yet to their end."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC = b"\x1f\x8b"
_PACKED = 1 << 14  # bytes that are unpacked at a time
_STEP = 1 << 16  # bytes that an unpacking gives at most
_HEADER = 31  # zlib's number for a stream with gzip's header


def opened(path: Path) -> io.BufferedReader:
    """What a gzip file holds, up to where it is damaged or ends too early. `raw.is_whole` is then False."""
    return io.BufferedReader(Unpacked(path), _STEP)


class Unpacked(io.RawIOBase):
    """The bytes of a gzip file, in any number of streams. is_whole: none was beyond reading; known at the end."""

    def __init__(self, path: Path) -> None:
        self.is_whole = True
        self._file = open(path, "rb")  # noqa: SIM115 (closed with this)
        self._unpacking, self._has_begun = zlib.decompressobj(_HEADER), False
        self._packed, self._ready = self._file.read(_PACKED), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: WriteableBuffer) -> int:
        into = memoryview(target)
        while not self._ready and (self._packed or self._has_begun):
            self._ready = memoryview(self._step())
        count = min(len(into), len(self._ready))
        into[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _step(self) -> bytes:
        """The next bytes; b"" also where there may be more."""
        if not self._packed:  # the file ends within a stream
            return self._ended(self._unpacking.flush(), self._unpacking.eof)
        before = self._unpacking.copy()
        try:
            found = self._unpacking.decompress(self._packed, _STEP)
        except zlib.error:
            return self._ended(_up_to_damage(before, self._packed), False)
        if self._unpacking.eof:  # another stream may follow, or zeros that fill up
            self._packed = self._unpacking.unused_data.lstrip(b"\0") or self._file.read(_PACKED)
            self._unpacking, self._has_begun = zlib.decompressobj(_HEADER), False
        else:
            self._packed, self._has_begun = self._unpacking.unconsumed_tail or self._file.read(_PACKED), True
        return found

    def _ended(self, rest: bytes, is_whole: bool) -> bytes:
        self._packed, self._has_begun, self.is_whole = b"", False, is_whole
        return rest


def _up_to_damage(unpacking: zlib._Decompress, packed: bytes) -> bytes:
    """What the packed bytes give in front of the one at which unpacking fails."""
    found = bytearray()
    try:
        for position in range(len(packed)):
            found += unpacking.decompress(packed[position : position + 1])
    except zlib.error:
        pass
    return bytes(found)
