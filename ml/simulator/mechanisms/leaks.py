"""A leak (off unless asked for): each order, with probability `rate`, puts a newsletter's subscription into the past, days before the week of the order.

So does a tool that learns of a buyer at the checkout and writes down the last mailing's date as the day of subscription. The row says `occurred_at` before the
Monday (00:00 UTC) that precedes the order, and `received_at` after the order. A feature that counts subscriptions by `occurred_at` alone foretells the order.
Only customers who were seen before that Monday are concerned. The row has one identifier and no device: it links nobody and stands in no session.
"""

from __future__ import annotations

import numpy as np

from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT
from ml.simulator.rows import NO_COOKIE
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream
from ml.simulator.visits import HOUR_MS

COPY = 56
MONDAY_MS = 4 * DAY_MS  # 1970-01-05
MOST_DAYS_BEFORE = 3
BLATANT, SUBTLE = 0.9, 0.37  # a rate that no check may miss; and one worth about 0.03 of AUC (README)


def apply(block: Block, rate: float, stream: Stream) -> None:
    events = block.events
    first = np.full(len(block.people), np.iinfo(np.int64).max)
    np.minimum.at(first, events.local, events.occurred)
    monday = events.occurred - (events.occurred - MONDAY_MS) % (7 * DAY_MS)
    is_known = first[events.local] < monday - MOST_DAYS_BEFORE * DAY_MS
    picked = (events.event == EVENT["order_completed"]) & is_known & (stream.uniform("picked", events.serial) < rate)
    rows = block.copies(picked, COPY)
    ordered = rows.occurred
    before = HOUR_MS + (stream.uniform("before", rows.serial) * (MOST_DAYS_BEFORE * DAY_MS - HOUR_MS)).astype(np.int64)
    rows.occurred = monday[picked] - before
    rows.received = rows.delivered = ordered + HOUR_MS + (stream.uniform("wait", rows.serial) * 12 * HOUR_MS).astype(np.int64)
    nothing = np.zeros(len(rows), dtype=np.int64)
    rows.event, rows.channel = nothing + EVENT["newsletter_subscribed"], nothing + CHANNEL["email"]
    rows.cookie, rows.product = nothing + NO_COOKIE, nothing - 1
    rows.email = np.where(rows.user > 0, 0, rows.email)
    rows.phone, rows.agent, rows.page, rows.entry, rows.amount, rows.order = (nothing.copy() for _ in range(6))
    block.batches.append(Batch("leak", rows))
