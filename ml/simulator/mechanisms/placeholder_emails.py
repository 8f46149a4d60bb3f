"""Placeholder addresses (off unless asked for): for each checkout, with probability `rate`, the same person goes to the checkout once more, in a private
window, and types an address that is nobody's: noreply@, test@, none@.

A few addresses are typed by very many strangers, others by a handful, whom no limit on neighbours protects. Who was logged in before is logged in here, so
the rows link accounts of strangers by an address; the cookie is new. The truth's components and sessions leave these rows out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE
from ml.simulator.rendering import anonymous_ids, event_ids
from ml.simulator.rows import Rows, cookie_keys, customers_of, foreign_key
from ml.simulator.streams import Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids

COPY = 84
WAIT_MS = 15 * 60_000
ADDRESSES = ("noreply@noreply.example", "test@test.example", "none@none.example", "no@mail.example", "a@a.example", "na@na.example", "asdf@asdf.example",
             "customer@shop.example", "kein@email.example", "pas@demail.example", "x@xx.example", "nobody@nowhere.example")  # fmt: skip
WEIGHTS = np.array([1.0 / place**1.5 for place in range(1, len(ADDRESSES) + 1)])

TRUTHS = {
    "truth_placeholder_emails": pa.schema([
        ("event_id", TEXT), ("email", TEXT), ("person_id", TEXT), ("user_id", TEXT), ("anonymous_id", TEXT), ("occurred_at", TIME),
    ]),
}  # fmt: skip


def apply(block: Block, rate: float, stream: Stream) -> None:
    events = block.events
    near = events.take((events.event == EVENT["checkout_started"]) & (stream.uniform("picked", events.serial) < rate))
    count = len(near)
    occurred = near.occurred + WAIT_MS + stream.below("wait", near.serial, WAIT_MS)
    rows = Rows.blank(
        near.serial, local=near.local, stage=near.stage, event=near.event, channel=np.full(count, CHANNEL["web"]), occurred=occurred, received=occurred + 500,
        delivered=occurred + 500, foreign=foreign_key(near.serial, COPY), user=near.user, agent=near.agent, page=np.full(count, PAGE["/checkout"]),
        product=near.product, copy=np.full(count, COPY),
    )  # fmt: skip
    typed = pa.array(ADDRESSES, TEXT).take(pa.array(stream.chosen("address", near.serial, WEIGHTS)))
    block.batches.append(Batch("placeholder_email", rows, given={"email": typed}))
    block.truth["truth_placeholder_emails"] = pa.table({
        "event_id": event_ids(rows), "email": typed, "person_id": person_ids(customers_of(rows.serial)),
        "user_id": pc.if_else(pa.array(rows.user > 0), block.people.user_id.take(pa.array(rows.local)), pa.scalar(None, TEXT)),
        "anonymous_id": anonymous_ids(cookie_keys(rows)), "occurred_at": instants(occurred),
    })  # fmt: skip
