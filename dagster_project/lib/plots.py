"""A small bar chart as PNG bytes, drawn here: importing a plotting library would cost a run more than all its charts."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

_GROUND, _BAR = b"\xf2\xf4\xf8", b"\x4f\x6b\xd8"  # the palette: bit 0, bit 1
_MOST_BARS = 120


def bars_png(values: Sequence[float], *, width: int = 480, height: int = 72) -> bytes:
    """One bar a value, the greatest as high as the picture, all from zero. values: none below zero; more than fit are summed with their neighbours."""
    bars = _at_most(values)
    step = width // max(len(bars), 1)
    width = step * len(bars) or width
    gap = 1 if step > 2 else 0
    top = max(bars, default=0) or 1
    heights = [max(round(value / top * height), 1) if value else 0 for value in bars]
    lines, above = [], bytes(-(-width // 8))
    for y in range(height):
        bits = "".join(("1" * (step - gap) + "0" * gap) if height - y <= tall else "0" * step for tall in heights)
        line = int(bits.ljust(len(above) * 8, "0"), 2).to_bytes(len(above))
        # Each line is its difference from the one above (PNG's filter 2): almost all zeros, so the picture fits where Dagster's UI shows it at once.
        lines.append(b"\2" + bytes((byte - over) % 256 for byte, over in zip(line, above, strict=True)))
        above = line
    header = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)
    content = zlib.compress(b"".join(lines), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"PLTE", _GROUND + _BAR) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def bars_markdown(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """The chart with its title, first and last label and greatest value, as markdown of under 1,000 characters: longer, Dagster's UI shows a button instead."""
    if not values:
        return f"{title}: nothing yet"
    picture = base64.b64encode(bars_png(values)).decode()
    together = f", {_together(values)} to a bar" if _together(values) > 1 else ""
    return f"**{title}**, {labels[0]} to {labels[-1]}, at most {max(values):,.0f}{together}\n\n![{title}](data:image/png;base64,{picture})"


def _together(values: Sequence[float]) -> int:
    """How many values share a bar."""
    return -(-len(values) // _MOST_BARS) if values else 1


def _at_most(values: Sequence[float]) -> list[float]:
    size = _together(values)
    return [sum(values[start : start + size]) for start in range(0, len(values), size)]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
