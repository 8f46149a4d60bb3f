"""Reused order ids (off unless asked for): for each order, with probability `rate`, a till in a store gives the same id to a stranger's order.

The very first customer's orders are spared. The stranger is a customer with a lower number, and stands in the row by e-mail alone. The value always differs
from the other's; a fifth of these orders lie within four hours of it, so that neither the id, nor id and day, say that two reports are one order. The
truth's orders and counts leave them out.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT
from ml.simulator.people import consents_of, emails_of, places_of
from ml.simulator.rendering import event_ids, order_ids
from ml.simulator.rows import Rows, customers_of
from ml.simulator.streams import Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids
from ml.simulator.visits import HOUR_MS

COPY = 88
MOST_APART = 50  # numbers between the two customers
SOON_SHARE = 0.2

TRUTHS = {
    "truth_reused_orders": pa.schema([
        ("event_id", TEXT), ("person_id", TEXT), ("order_id", TEXT), ("event_at", TIME), ("value", pa.decimal128(18, 4)), ("currency", TEXT),
        ("other_person_id", TEXT),
    ]),
}  # fmt: skip


def apply(block: Block, rate: float, stream: Stream) -> None:
    events, spec = block.events, block.spec
    other = customers_of(events.serial)
    near = events.take((events.event == EVENT["order_completed"]) & (other > 0) & (stream.uniform("picked", events.serial) < rate))
    other, count = customers_of(near.serial), len(near)
    stranger = other - 1 - (stream.uniform("stranger", near.serial) * np.minimum(other, MOST_APART)).astype(np.int64)
    soon = near.occurred + (stream.uniform("soon", near.serial) * 4 * HOUR_MS).astype(np.int64)
    some_day = spec.start_ms + (stream.uniform("some_day", near.serial) * (spec.end_ms - spec.start_ms - HOUR_MS)).astype(np.int64)
    is_soon = (stream.uniform("is_soon", near.serial) < SOON_SHARE) & (soon < spec.end_ms - HOUR_MS)
    occurred = np.where(is_soon, soon, some_day)
    cents = 1_990 + 500 * stream.below("value", near.serial, 60)
    cents += np.where(cents == near.amount, 250, 0)
    rows = Rows.blank(
        near.serial, local=near.local, event=near.event, channel=np.full(count, CHANNEL["offline"]), occurred=occurred, received=occurred + 600_000,
        delivered=occurred + 600_000, amount=cents, order=near.order, copy=np.full(count, COPY),
    )  # fmt: skip
    people = Stream(stream.seed, "people")
    currency = pa.array(["USD", "EUR"]).take(pa.array(np.isin(places_of(stranger, people), cat.EURO_PLACES).astype(np.int64)))
    given = {"email": emails_of(stranger, people), "currency": currency, "consent": pa.array(cat.CONSENTS).take(pa.array(consents_of(stranger, people)))}
    block.batches.append(Batch("reused_order_id", rows, given=given, persons=stranger))
    block.truth["truth_reused_orders"] = pa.table({
        "event_id": event_ids(rows), "person_id": person_ids(stranger), "order_id": order_ids(rows.order), "event_at": instants(occurred),
        "value": pc.multiply(pa.array(cents).cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.01"))), "currency": currency,
        "other_person_id": person_ids(other),
    })  # fmt: skip
