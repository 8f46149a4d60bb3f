"""A small bar chart as PNG bytes, drawn here: importing a plotting library would cost a run more than all its charts."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

_BAR, _GROUND = b"\x4f\x6b\xd8", b"\xf2\xf4\xf8"


def bars_png(values: Sequence[float], *, width: int = 480, height: int = 72) -> bytes:
    """One bar a value, the greatest as high as the picture, all from zero. values: none below zero; more than fit are summed with their neighbours."""
    bars = _at_most(values, width // 2)
    step = width // max(len(bars), 1)
    top = max(bars, default=0) or 1
    heights = [max(round(value / top * height), 1) if value else 0 for value in bars]
    gap = 1 if step > 2 else 0
    lines = []
    for y in range(height):
        row = b"".join(_BAR * (step - gap) + _GROUND * gap if height - y <= tall else _GROUND * step for tall in heights)
        lines.append(b"\0" + row + _GROUND * (width - step * len(heights)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"".join(lines), 9)) + _chunk(b"IEND", b"")


def bars_markdown(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """The chart with its title, its first and last label and its greatest value, as markdown that Dagster's UI renders."""
    if not values:
        return f"{title}: nothing yet"
    picture = base64.b64encode(bars_png(values)).decode()
    return f"**{title}**, {labels[0]} to {labels[-1]}, at most {max(values):,.0f}\n\n![{title}](data:image/png;base64,{picture})"


def _at_most(values: Sequence[float], most: int) -> list[float]:
    size = -(-len(values) // most) if values else 1
    return [sum(values[start : start + size]) for start in range(0, len(values), size)]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
