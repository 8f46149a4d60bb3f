"""Exact duplicates: each customer event, with probability `rate`, is written twice, byte for byte: half in the same file or the next, half days later."""

from __future__ import annotations

import numpy as np

from ml.simulator.block import Batch, Block
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream

COPY = 1


def apply(block: Block, rate: float, stream: Stream) -> None:
    rows = block.copies(stream.uniform("picked", block.events.serial) < rate, COPY)
    soon = stream.uniform("soon", rows.serial) < 0.5
    wait = stream.uniform("wait", rows.serial)
    rows.delivered += np.where(soon, wait * 60_000, wait * 10 * DAY_MS).astype(np.int64)
    block.batches.append(Batch("duplicate", rows))
