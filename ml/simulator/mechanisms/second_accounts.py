"""Second accounts (off unless asked for): for each sign-up, with probability `rate`, the person signs up once more, some later day, as if a stranger.

Another cookie, another account, another e-mail, no phone: no identifier joins the two. In worlds that have `names` the forms are about the same person, one
of the two names misspelt, so only a comparison of names, birth dates and addresses finds it. The truth's persons, devices, components and sessions leave second
accounts out; `truth_second_accounts` says whose they are.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE
from ml.simulator.people import digits
from ml.simulator.rendering import anonymous_ids, spread
from ml.simulator.rows import Array, Rows, customers_of, foreign_key
from ml.simulator.spec import MAX_CUSTOMERS
from ml.simulator.streams import Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids
from ml.simulator.visits import HOUR_MS

COPY = 92
KIND = "second_account"
SCRIPT = (EVENT["page_viewed"], EVENT["signed_up"], EVENT["product_viewed"], EVENT["checkout_started"])
WAITS_MS = (0, 90_000, 150_000, 400_000)
PAGES = (PAGE["/"], PAGE["/account"], 0, PAGE["/checkout"])

TRUTHS = {
    "truth_second_accounts": pa.schema([
        ("person_id", TEXT), ("user_id", TEXT), ("email", TEXT), ("anonymous_id", TEXT), ("first_user_id", TEXT), ("signed_up_at", TIME),
    ]),
}  # fmt: skip


def apply(block: Block, rate: float, stream: Stream) -> None:
    events, people = block.events, block.people
    near = events.take((events.event == EVENT["signed_up"]) & (stream.uniform("picked", events.serial) < rate))
    number = customers_of(near.serial)
    left = block.spec.end_ms - HOUR_MS - near.occurred
    came = near.occurred + HOUR_MS + (stream.uniform("wait", near.serial) * (left - HOUR_MS)).astype(np.int64)
    account = pc.binary_join_element_wise("u", digits(MAX_CUSTOMERS + number + 1, 8), "")
    first, last = (_drawn(stream, name, number, table) for name, table in (("first", cat.FIRST_NAMES), ("last", cat.LAST_NAMES)))
    email = pc.binary_join_element_wise(last, "_", first, digits((number * 7919 + 13) % MAX_CUSTOMERS, 7), "@", cat.MAIL_DOMAINS[1], "")

    visit = np.repeat(np.arange(len(near)), len(SCRIPT))
    step = np.tile(np.arange(len(SCRIPT)), len(near))
    occurred = came[visit] + np.asarray(WAITS_MS)[step]
    product = np.where(step >= 2, stream.below("product", near.serial, len(cat.PRODUCTS))[visit], -1)
    rows = Rows.blank(
        near.serial[visit], local=near.local[visit], event=np.asarray(SCRIPT)[step], channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred,
        received=occurred + 500, delivered=occurred + 500, foreign=foreign_key(number + 1, COPY)[visit],
        agent=np.asarray(cat.DESKTOPS)[stream.below("agent", number, len(cat.DESKTOPS))][visit],
        page=np.where(step == 2, cat.FIRST_PRODUCT_PAGE + product, np.asarray(PAGES)[step]), product=product, copy=COPY + step,
    )  # fmt: skip
    places = pa.array(visit)
    has_account, types_email = step > 0, (step == 1) | (step == 3)
    given = {"user_id": spread(has_account, account.take(places.filter(pa.array(has_account)))),
             "email": spread(types_email, email.take(places.filter(pa.array(types_email))))}  # fmt: skip
    block.batches.append(Batch(KIND, rows, given=given))
    block.truth["truth_second_accounts"] = pa.table({
        "person_id": person_ids(number), "user_id": account, "email": email, "anonymous_id": anonymous_ids(foreign_key(number + 1, COPY)),
        "first_user_id": people.user_id.take(pa.array(near.local)), "signed_up_at": instants(came + WAITS_MS[1]),
    })  # fmt: skip


def _drawn(stream: Stream, name: str, number: Array, table: tuple[str, ...]) -> pa.Array:
    return pa.array(table).take(pa.array(stream.below(name, number, len(table))))
