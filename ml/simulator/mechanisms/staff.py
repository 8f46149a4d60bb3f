"""Staff: about `rate` rows per customer event, in logged-in visits of four rows by forty people of the house, flagged in the column `staff`."""

from __future__ import annotations

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE
from ml.simulator.rows import Rows, foreign_key
from ml.simulator.streams import Stream

COPY = 32
STAFF_COUNT = 40
SCRIPT = (EVENT["page_viewed"], EVENT["logged_in"], EVENT["page_viewed"], EVENT["product_viewed"])
PAGES = (PAGE["/"], PAGE["/account"], PAGE["/orders"], 0)


def apply(block: Block, rate: float, stream: Stream) -> None:
    near = block.events.take(stream.uniform("picked", block.events.serial) < rate / len(SCRIPT))
    visit = np.repeat(np.arange(len(near)), len(SCRIPT))
    number = np.tile(np.arange(len(SCRIPT)), len(near))
    member = 1 + stream.below("member", near.serial, STAFF_COUNT)[visit]
    event = np.asarray(SCRIPT)[number]
    product = np.where(event == EVENT["product_viewed"], stream.below("product", near.serial, len(cat.PRODUCTS))[visit], -1)
    occurred = near.occurred[visit] + number * 7_000
    is_login = event == EVENT["logged_in"]
    rows = Rows.blank(
        near.serial[visit], local=near.local[visit], event=event, channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred, received=occurred + 500,
        delivered=occurred + 500, foreign=foreign_key(member, COPY), user=3 * (number >= 1), email=3 * is_login, staff_number=member,
        agent=np.full(len(visit), cat.DESKTOPS[0]), page=np.where(product >= 0, cat.FIRST_PRODUCT_PAGE + product, np.asarray(PAGES)[number]),
        product=product, copy=COPY + number,
    )  # fmt: skip
    block.batches.append(Batch("staff", rows))
