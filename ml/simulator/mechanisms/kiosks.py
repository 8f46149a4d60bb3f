"""Kiosks (off unless asked for): each store visit of a registered customer, with probability `rate`, has them log in at one of the stores' shared devices.

A kiosk's device links strangers. The truth says who is who all the same: its components leave kiosks out, so a world with kiosks asks whether
over-shared identifiers are seen through, not whether plain components equal persons. Kiosk visits stand in no true session.
"""

from __future__ import annotations

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE
from ml.simulator.rows import Rows, foreign_key
from ml.simulator.streams import Stream

COPY = 48
KIOSK_COUNT = 12
SCRIPT = (EVENT["logged_in"], EVENT["page_viewed"])


def apply(block: Block, rate: float, stream: Stream) -> None:
    events = block.events
    near = events.take((events.event == EVENT["store_visited"]) & (events.user == 1) & (stream.uniform("picked", events.serial) < rate))
    visit = np.repeat(np.arange(len(near)), len(SCRIPT))
    number = np.tile(np.arange(len(SCRIPT)), len(near))
    occurred = near.occurred[visit] + 300_000 + number * 20_000
    rows = Rows.blank(
        near.serial[visit], local=near.local[visit], event=np.asarray(SCRIPT)[number], channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred,
        received=occurred + 500, delivered=occurred + 500, foreign=foreign_key(1 + stream.below("kiosk", near.serial, KIOSK_COUNT)[visit], COPY),
        user=np.ones(len(visit), dtype=np.int64), agent=np.full(len(visit), cat.TABLETS[0]), page=np.full(len(visit), PAGE["/stores"]), copy=COPY + number,
    )  # fmt: skip
    block.batches.append(Batch("kiosk", rows))
