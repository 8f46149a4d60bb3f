"""Households (off unless asked for): up to four next-door customers of one place are, with probability `rate`, a household of two to four different people.

They have one address and, most of them, one family name (in worlds that have `names`). Half of the households have a telephone of their own: the shop calls
it after a member's checkout. A quarter have a mailbox of their own, which a member's account names in a ticket after signing up. Half have a tablet, at which
members log in after they logged in elsewhere. So rows that are right about who came link different people. The truth's components leave these rows out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE, among
from ml.simulator.neighbours import neighbours_of
from ml.simulator.people import Bools, digits
from ml.simulator.rendering import anonymous_ids
from ml.simulator.rows import Array, Rows, foreign_key
from ml.simulator.streams import Stream
from ml.simulator.truth import TEXT, person_ids
from ml.simulator.visits import HOUR_MS

CALL_COPY, TICKET_COPY, TABLET_COPY = 60, 61, 62
SIZE_WEIGHTS = np.array([0.5, 0.25, 0.25])  # of two, three, four
OWN_FAMILY_NAME = 0.15  # of the members but the first
HAS_TELEPHONE, HAS_MAILBOX, HAS_TABLET = 0.5, 0.25, 0.5
TABLET_VISIT = 0.5  # of a member's log-ins and sign-ups
TABLET_SCRIPT = (EVENT["logged_in"], EVENT["page_viewed"])

TRUTHS = {
    "truth_households": pa.schema([
        ("household_id", TEXT), ("person_id", TEXT), ("member_number", pa.int64()), ("has_family_name", pa.bool_()), ("phone", TEXT), ("email", TEXT),
        ("anonymous_id", TEXT),
    ]),
}  # fmt: skip


@dataclass(frozen=True)
class Membership:
    """One entry a customer. head: the household's first member; outside of households the customer. rank: 0 for the first. is_member: of two or more."""

    head: Array
    rank: Array
    is_member: Bools
    has_head_name: Bools


def membership_of(number: Array, seed: int, rate: float) -> Membership:
    """Who lives with whom, in a world whose rate of households this is. The head of a household may be the only one whom the world reaches."""
    near, stream = neighbours_of(number, seed), Stream(seed, "households")
    size = np.minimum(near.size, 2 + stream.chosen("size", near.first, SIZE_WEIGHTS))
    is_member = (near.size > 1) & (near.rank < size) & (stream.uniform("formed", near.first) < rate)
    own_name = (near.rank > 0) & (stream.uniform("own_name", number) < OWN_FAMILY_NAME)
    return Membership(np.where(is_member, near.first, number), np.where(is_member, near.rank, 0), is_member, is_member & ~own_name)


def apply(block: Block, rate: float, stream: Stream) -> None:
    people, events = block.people, block.events
    home = membership_of(people.number, stream.seed, rate)
    calling = pa.array([code for _, _, code in cat.PLACES], TEXT).take(pa.array(people.place))
    telephone = pc.binary_join_element_wise(calling, "556", digits((home.head * 7919 + 13) % 10_000_000, 7), "")
    mailbox = pc.binary_join_element_wise("family", digits(home.head, 1), "@", cat.MAIL_DOMAINS[0], "")
    has = {name: home.is_member & (stream.uniform(name, home.head) < share)
           for name, share in (("telephone", HAS_TELEPHONE), ("mailbox", HAS_MAILBOX), ("tablet", HAS_TABLET))}  # fmt: skip

    calls = _later(block, has["telephone"][events.local] & (events.event == EVENT["checkout_started"]), CALL_COPY, stream)
    calls.event[:], calls.channel[:] = EVENT["crm_call_logged"], CHANNEL["crm"]
    calls.email = np.where(calls.user > 0, 0, calls.email)
    block.batches.append(Batch("household", calls, given={"phone": telephone.take(pa.array(calls.local))}))

    tickets = _later(block, has["mailbox"][events.local] & (events.event == EVENT["signed_up"]), TICKET_COPY, stream)
    tickets.event[:], tickets.channel[:] = EVENT["support_ticket_opened"], CHANNEL["support"]
    tickets.email[:] = 0
    block.batches.append(Batch("household", tickets, given={"email": mailbox.take(pa.array(tickets.local))}))

    visits = has["tablet"][events.local] & among(events.event, "signed_up", "logged_in") & (stream.uniform("tablet_visit", events.serial) < TABLET_VISIT)
    block.batches.append(Batch("household", _tablet_rows(_later(block, visits, TABLET_COPY, stream), home)))

    members = np.flatnonzero(home.is_member)
    taken, heads = pa.array(members), home.head[members]

    def shared(name: str, texts: pa.Array) -> pa.Array:
        return pc.if_else(pa.array(has[name][members]), texts, pa.scalar(None, TEXT))

    block.truth["truth_households"] = pa.table({
        "household_id": pc.binary_join_element_wise("h", digits(heads, 7), ""), "person_id": person_ids(people.number[members]),
        "member_number": home.rank[members], "has_family_name": home.has_head_name[members], "phone": shared("telephone", telephone.take(taken)),
        "email": shared("mailbox", mailbox.take(taken)), "anonymous_id": shared("tablet", anonymous_ids(foreign_key(heads + 1, TABLET_COPY))),
    })  # fmt: skip


def _later(block: Block, picked: Bools, copy: int, stream: Stream) -> Rows:
    """Rows of their own, without a device, an hour or two after the picked ones; none in the window's last hour."""
    occurred = block.events.occurred + HOUR_MS + (stream.uniform("wait", block.events.serial) * HOUR_MS).astype(np.int64)
    kept = picked & (occurred < block.spec.end_ms - HOUR_MS)
    near, occurred = block.events.take(kept), occurred[kept]
    return Rows.blank(
        near.serial, local=near.local, event=near.event, channel=near.channel, occurred=occurred, received=occurred + 90_000,
        delivered=occurred + 90_000, user=near.user, email=near.email, copy=np.full(len(near), copy),
    )  # fmt: skip


def _tablet_rows(near: Rows, home: Membership) -> Rows:
    visit = np.repeat(np.arange(len(near)), len(TABLET_SCRIPT))
    number = np.tile(np.arange(len(TABLET_SCRIPT)), len(near))
    occurred = near.occurred[visit] + number * 30_000
    local = near.local[visit]
    return Rows.blank(
        near.serial[visit], local=local, event=np.asarray(TABLET_SCRIPT)[number], channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred,
        received=occurred + 500, delivered=occurred + 500, foreign=foreign_key(home.head[local] + 1, TABLET_COPY), user=np.ones(len(visit), dtype=np.int64),
        agent=np.full(len(visit), cat.TABLETS[0]), page=np.asarray([PAGE["/account"], PAGE["/"]])[number], copy=TABLET_COPY + number,
    )  # fmt: skip
