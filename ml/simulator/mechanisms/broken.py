"""Broken rows: for each customer event, with probability `rate`, a torn repeat with an id of its own stands in the file as well.

They are extra rows: no real event is lost by them. Every row of a world is one line, broken ones included.
"""

from __future__ import annotations

from ml.simulator.block import Batch, Block
from ml.simulator.rendering import DAMAGES
from ml.simulator.streams import Stream

COPY = 3
WAIT_MS = 5_000  # its own, so that lateness does not move it


def apply(block: Block, rate: float, stream: Stream) -> None:
    rows = block.copies(stream.uniform("picked", block.events.serial) < rate, COPY)
    rows.received = rows.delivered = rows.occurred + WAIT_MS
    block.batches.append(Batch("broken", rows, damage=stream.below("damage", rows.serial, len(DAMAGES))))
