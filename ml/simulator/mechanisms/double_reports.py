"""Orders reported twice: each order, with probability `rate`, is reported by the shop's server as well, seconds later, under an id of its own.

The server's report has order id, value and currency of the first and names the customer, but no device.
"""

from __future__ import annotations

import numpy as np

from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import EVENT
from ml.simulator.rows import NO_COOKIE
from ml.simulator.streams import Stream

COPY = 5


def apply(block: Block, rate: float, stream: Stream) -> None:
    events = block.events
    rows = block.copies((events.event == EVENT["order_completed"]) & (stream.uniform("picked", events.serial) < rate), COPY)
    wait = 500 + stream.below("wait", rows.serial, 4_000)
    rows.occurred += wait
    rows.received, rows.delivered = rows.occurred + 300, rows.occurred + 300
    rows.cookie = np.full(len(rows), NO_COOKIE)
    rows.agent, rows.page = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    block.batches.append(Batch("double_report", rows))
