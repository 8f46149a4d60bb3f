"""Conflicts: each customer event, with probability `rate`, is reported again under its id with other properties and another time.

The other time is up to 250 ms earlier or later, so half of the second reports, which all arrive after the first, are the survivors by the rule
"least (occurred_at, content digest)": taking the first to arrive is wrong. Identifiers and money stay, so the survivor decides nothing else.
"""

from __future__ import annotations

import numpy as np

from ml.simulator.block import Batch, Block
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream

COPY = 2
MOST_SHIFT_MS = 250


def apply(block: Block, rate: float, stream: Stream) -> None:
    picked = stream.uniform("picked", block.events.serial) < rate
    rows = block.copies(picked, COPY)
    shift = 1 + stream.below("shift", rows.serial, MOST_SHIFT_MS)
    rows.occurred += np.where(stream.uniform("earlier", rows.serial) < 0.5, -shift, shift)
    rows.delivered += 1_000 + (stream.uniform("wait", rows.serial) ** 2 * 10 * DAY_MS).astype(np.int64)
    rows.revision += 1
    block.counted[picked] = np.minimum(block.counted[picked], rows.occurred)
    block.batches.append(Batch("conflict", rows))
