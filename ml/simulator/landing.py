"""From rendered lines to files by time of arrival, in bounded memory: spilled by day as they are made, then sorted and written a day at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa

from ml.simulator.rendering import header
from ml.simulator.rows import Array
from ml.simulator.spec import DAY_MS, WorldSpec

_COMPRESSION = 1  # the text repeats itself so much that higher levels gain a fifth of the size for twice the time


class Spill:
    """Lines by day of delivery, in two files a day: the text, and (delivered, order, length) of each line. Threads may add at once."""

    def __init__(self, folder: Path, spec: WorldSpec) -> None:
        self.folder, self.spec = folder, spec
        self._locks: dict[int, Lock] = {}
        self._guard = Lock()

    def days(self) -> list[int]:
        """Days of delivery with lines, counted from the world's start."""
        return sorted(self._locks)

    def add(self, lines: pa.Array, delivered: Array, order: Array) -> None:
        """lines must be in the order of `delivered` // day; `order` breaks ties of `delivered`, so (delivered, order) is unique in the world."""
        if not len(lines):
            return
        days = (delivered - self.spec.start_ms) // DAY_MS
        offsets = np.frombuffer(lines.buffers()[1], dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
        text = memoryview(lines.buffers()[2])
        keys = np.stack([delivered, order, np.diff(offsets).astype(np.int64)], axis=1)
        cuts = np.flatnonzero(np.diff(days)) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(days)], strict=True):
            day = int(days[first])
            with self._guard:
                lock = self._locks.setdefault(day, Lock())
            with lock, open(self.folder / f"{day}.text", "ab") as text_file, open(self.folder / f"{day}.keys", "ab") as key_file:
                text_file.write(text[int(offsets[first]) : int(offsets[last])])
                key_file.write(keys[first:last].tobytes())

    def sorted_text(self, day: int) -> pa.Buffer:
        """A day's lines in the order of delivery; their spilled form is removed."""
        text_path, key_path = self.folder / f"{day}.text", self.folder / f"{day}.keys"
        keys = np.fromfile(key_path, dtype=np.int64).reshape(-1, 3)
        offsets = np.concatenate([[0], np.cumsum(keys[:, 2])])
        lines = pa.Array.from_buffers(pa.large_binary(), len(keys), [None, pa.py_buffer(offsets), pa.py_buffer(text_path.read_bytes())])
        text_path.unlink()
        key_path.unlink()
        return lines.take(pa.array(np.lexsort((keys[:, 1], keys[:, 0])))).buffers()[2]


def file_name(spec: WorldSpec, number: int) -> str:
    """Name of the file with the deliveries of days number * file_days and after."""
    first = spec.start + timedelta(days=number * spec.file_days)
    return f"events_{first.isoformat()}.csv{'.gz' if spec.gzip else ''}"


def write_files(spill: Spill, folder: Path, spec: WorldSpec, workers: int) -> list[Path]:
    """Writes the files into a folder that nobody reads yet, in the order of their names."""
    files: dict[int, list[int]] = {}
    for day in spill.days():
        files.setdefault(day // spec.file_days, []).append(day)

    def write(number: int) -> Path:
        path = folder / file_name(spec, number)
        with open(path, "wb") as handle:
            # wbits 31 is gzip with an empty header: no file name and no time in it, so equal text gives equal bytes
            squeezer = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, 31) if spec.gzip else None
            put: Callable[[bytes | pa.Buffer], object] = (lambda data: handle.write(squeezer.compress(data))) if squeezer else handle.write
            put(header(has_forms=spec.rate("names") > 0))
            for day in files[number]:
                put(spill.sorted_text(day))
            if squeezer:
                handle.write(squeezer.flush())
        return path

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(write, sorted(files)))
