"""Crawlers: about `rate` rows per customer event, in visits of 1 to 15 pages by user agents that say bot, crawl or spider.

A third take no cookie. A few put something into a cart, as a real shop's do.
"""

from __future__ import annotations

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT
from ml.simulator.rows import Rows, foreign_key
from ml.simulator.streams import Stream

COPY = 16
MOST_PAGES = 15
MEAN_PAGES = (1 + MOST_PAGES) / 2


def apply(block: Block, rate: float, stream: Stream) -> None:
    near = block.events.take(stream.uniform("picked", block.events.serial) < rate / MEAN_PAGES)
    pages = 1 + stream.below("pages", near.serial, MOST_PAGES)
    visit = np.repeat(np.arange(len(near)), pages)
    number = np.arange(len(visit)) - np.repeat(np.cumsum(pages) - pages, pages)
    serial = near.serial[visit]
    key = serial * MOST_PAGES + number
    product = np.where(stream.uniform("on_product", key) < 0.6, stream.below("product", key, len(cat.PRODUCTS)), -1)
    fills = (product >= 0) & (stream.uniform("cart", key) < 0.01)
    event = np.where(fills, EVENT["product_added_to_cart"], np.where(product >= 0, EVENT["product_viewed"], EVENT["page_viewed"]))
    browsed = np.asarray(cat.BROWSED_PAGES)[stream.below("page", key, len(cat.BROWSED_PAGES))]
    occurred = near.occurred[visit] + number * (1_000 + stream.below("pace", near.serial, 20_000)[visit])
    rows = Rows.blank(
        serial, local=near.local[visit], event=event, channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred, received=occurred + 500,
        delivered=occurred + 500, foreign=np.where(stream.uniform("no_cookie", near.serial)[visit] < 1 / 3, 0, foreign_key(serial, COPY)),
        agent=np.asarray(cat.CRAWLERS)[stream.below("agent", near.serial, len(cat.CRAWLERS))][visit],
        page=np.where(product >= 0, cat.FIRST_PRODUCT_PAGE + product, browsed), product=product, copy=COPY + number,
    )  # fmt: skip
    block.batches.append(Batch("crawler", rows))
