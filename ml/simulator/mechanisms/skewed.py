"""Clock-skewed rows: for each customer event, with probability `rate`, a repeat with an id of its own from a clock that is 2 to 30 years ahead."""

from __future__ import annotations

from ml.simulator.block import Batch, Block
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream

COPY = 4
WAIT_MS = 5_000  # its own, so that lateness does not move it


def apply(block: Block, rate: float, stream: Stream) -> None:
    rows = block.copies(stream.uniform("picked", block.events.serial) < rate, COPY)
    rows.received = rows.delivered = rows.occurred + WAIT_MS
    rows.occurred = rows.occurred + ((2 + stream.uniform("years", rows.serial) * 28) * 365 * DAY_MS).astype("int64")
    block.batches.append(Batch("skewed", rows))
