"""Late rows: each customer event, with probability `rate`, is delivered one to twenty days after it happened, in a later file."""

from __future__ import annotations

import numpy as np

from ml.simulator.block import Block
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream

MOST_DAYS = 20


def apply(block: Block, rate: float, stream: Stream) -> None:
    serial = block.events.serial
    block.is_late = stream.uniform("picked", serial) < rate
    days = np.minimum(1 + stream.exponential("delay", serial) * 4, MOST_DAYS)
    delay = np.where(block.is_late, (days * DAY_MS).astype(np.int64), 0)
    block.events.received += delay
    block.events.delivered += delay
