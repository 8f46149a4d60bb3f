"""What an observer sees of each visit: read from rows alone, without the stage, the type or anything else that no source file carries."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.catalogue import among
from ml.simulator.journeys import DIRECT, EMAIL, PUSH
from ml.simulator.people import Bools
from ml.simulator.rows import SLOT_BITS, Array, Rows, steps_of
from ml.simulator.visits import CALL, LANDING, LAST_SITE_SLOT, MAIL_ONLY, SITE, STORE

NOT_SEEN = -1
KINDS = ("phone", "desktop", "tablet", "app")

_KIND_OF_AGENT = np.full(len(cat.AGENTS), NOT_SEEN, dtype=np.int64)
for _kind, _agents in enumerate((cat.PHONES, cat.DESKTOPS, cat.TABLETS, cat.APPS)):
    _KIND_OF_AGENT[list(_agents)] = _kind
_CHANNEL_OF_ENTRY = np.array([cat.ENTRY_CHANNELS.index(entry.channel) if entry.channel in cat.ENTRY_CHANNELS else DIRECT for entry in cat.ENTRIES])


@dataclass
class Observed:
    """One entry a visit, ordered by customer and time.

    local: place of the customer in the block. first_at, ended_at: of its rows, epoch ms. last_slot: place of its last row in a visit's order. kind: of
    device (place in KINDS). way_in: place in cat.ENTRY_CHANNELS. browsed: pages and products after the landing page, `products` of them products.
    phone: a call or a checkout came with (1) or without (0) a number. account: a mail, a call or a visit to a store came with (1) or without (0) an
    account. NOT_SEEN stands where there is nothing to see. was_logged_in: the device was, as the visit began.
    """

    local: Array
    first_at: Array
    ended_at: Array
    last_slot: Array
    contact: Array
    kind: Array
    way_in: Array
    browsed: Array
    products: Array
    phone: Array
    account: Array
    chats: Bools
    signs_up: Bools
    logs_in: Bools
    subscribes: Bools
    fills: Bools
    checks_out: Bools
    buys: Bools
    reviews: Bools
    was_logged_in: Bools

    def __len__(self) -> int:
        return len(self.local)

    def take(self, picked: Array | Bools) -> Observed:
        """The picked visits."""
        return Observed(**{column.name: getattr(self, column.name)[picked] for column in fields(self)})


def observed_visits(rows: Rows, *, is_identified: bool) -> Observed:
    """rows: of one block, in order (journeys.in_order). is_identified: every row names the account, which then says nothing (WorldSpec)."""
    slots = rows.serial & ((1 << SLOT_BITS) - 1)
    rows = rows.take(slots < LAST_SITE_SLOT)
    slots, event = rows.serial & ((1 << SLOT_BITS) - 1), rows.event
    visit = steps_of(rows.serial)
    starts = np.flatnonzero(np.concatenate([[True], visit[1:] != visit[:-1]])[: len(visit)])
    if not len(starts):
        return _nobody()

    def most(values: Array) -> Array:
        return np.maximum.reduceat(values, starts)

    def count(*names: str) -> Array:
        return np.add.reduceat(among(event, *names).astype(np.int64), starts)

    def any_of(*names: str) -> Bools:
        return count(*names) > 0

    local, cookie, kind = rows.local[starts], most(rows.cookie), _KIND_OF_AGENT[most(rows.agent)]
    on_site = (cookie >= 0) | any_of("email_clicked")
    contact = np.select([on_site, any_of("email_opened"), any_of("crm_call_logged")], [SITE, MAIL_ONLY, CALL], STORE)
    entered = _CHANNEL_OF_ENTRY[most(np.where(slots <= LANDING, rows.entry, 0))]
    way_in = np.where(contact == MAIL_ONLY, EMAIL, np.where(kind == KINDS.index("app"), np.where(any_of("push_opened"), PUSH, DIRECT), entered))
    names_account = among(event, "email_opened", "email_clicked", "crm_call_logged", "store_visited") & (not is_identified)
    account = most(np.where(names_account, rows.user, NOT_SEEN))
    phone = most(np.where(among(event, "crm_call_logged", "checkout_started"), (rows.phone > 0).astype(np.int64), NOT_SEEN))
    signs_up, logs_in = any_of("signed_up"), any_of("logged_in")
    return Observed(
        local=local, first_at=rows.occurred[starts], ended_at=most(rows.occurred), last_slot=most(slots), contact=contact, kind=kind, way_in=way_in,
        browsed=np.maximum(count("page_viewed", "product_viewed") - 1, 0), products=count("product_viewed"), phone=phone, account=account,
        chats=any_of("chat_started"), signs_up=signs_up, logs_in=logs_in, subscribes=any_of("newsletter_subscribed"), fills=any_of("product_added_to_cart"),
        checks_out=any_of("checkout_started"), buys=any_of("order_completed"), reviews=any_of("review_posted"),
        was_logged_in=(cookie >= 0) & happened_before(signs_up | logs_in, local * (1 << 10) + np.maximum(cookie, 0)),
    )  # fmt: skip


def _nobody() -> Observed:
    values: Array = np.zeros(0, dtype=np.int64)
    flags: Bools = np.zeros(0, dtype=np.bool_)
    empty: dict[str, Any] = {column.name: flags if column.type == "Bools" else values for column in fields(Observed)}
    return Observed(**empty)


def happened_before(happens: Bools, group: Array) -> Bools:
    """Whether it happened at an earlier entry of the same group. Entries are in the order of time within each group."""
    if not len(group):
        return happens
    order = np.argsort(group, kind="stable")
    total: Array = np.cumsum(happens[order]) - happens[order]
    opens = np.concatenate([[True], group[order][1:] != group[order][:-1]])
    since = total - np.maximum.accumulate(np.where(opens, total, 0))
    found = np.empty(len(group), dtype=np.bool_)
    found[order] = since > 0
    return found
