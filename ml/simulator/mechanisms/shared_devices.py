"""Shared devices (off unless asked for): each group of next-door customers has, with probability `rate`, a tablet among them, and each quarter, with the
same probability, a computer in its library. Both have a cookie of their own, at which those of them who have an account log in now and then.

A kiosk is used by hundreds, so counting its neighbours finds it out. Here two to a dozen people share a device, fewer than any limit on neighbours that lets
a person have several devices and addresses; what tells is that two accounts log in at one cookie, in `SECOND_SHARE` of the sessions within minutes.
A session begins with a page that is nobody's by its row. The truth's components and sessions leave shared devices out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.simulator import catalogue as cat
from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE
from ml.simulator.neighbours import neighbours_of
from ml.simulator.rendering import anonymous_ids
from ml.simulator.rows import Array, Rows, foreign_key
from ml.simulator.streams import Stream
from ml.simulator.truth import TEXT, TIME, instants, person_ids
from ml.simulator.visits import HOUR_MS

COPY = 192
SESSIONS = 10  # of a device in the window, at most one a stretch of the window
SECOND_SHARE = 0.4  # of the sessions: somebody else logs in after the first, minutes later
SECOND_AFTER_MS = 8 * 60_000
SCRIPT = (EVENT["page_viewed"], EVENT["logged_in"], EVENT["product_viewed"])
assert COPY + 2 * SESSIONS * len(SCRIPT) <= 1 << 8  # copies are numbered in eight bits (see world.py)
TABLET, LIBRARY = range(2)
KINDS, DEVICE_COPIES = ("tablet", "library"), (72, 73)

TRUTHS = {
    "truth_shared_devices": pa.schema([
        ("anonymous_id", TEXT), ("kind", TEXT), ("session_number", pa.int64()), ("is_second", pa.bool_()), ("person_id", TEXT), ("user_id", TEXT),
        ("logged_in_at", TIME),
    ]),
}  # fmt: skip


@dataclass(frozen=True)
class _Device:
    """The device that each customer of the block could use. number: the device's, of its kind; crowd: how many could; rank: the customer's place among them."""

    kind: int
    number: Array
    crowd: Array
    rank: Array
    exists: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def apply(block: Block, rate: float, stream: Stream) -> None:
    near = neighbours_of(block.people.number, stream.seed)
    has_tablet = (near.size > 1) & (stream.uniform("tablet", near.first) < rate)
    has_library = (near.crowd_size > 1) & (stream.uniform("library", near.quarter) < rate)
    devices = [
        _Device(TABLET, near.first + 1, near.size, near.rank, has_tablet),
        _Device(LIBRARY, near.crowd_first + 1, near.crowd_size, near.crowd_rank, has_library),
    ]
    tables = [_sessions(block, device, stream) for device in devices]
    block.truth["truth_shared_devices"] = pa.concat_tables(tables)


def _sessions(block: Block, device: _Device, stream: Stream) -> pa.Table:
    """Adds the block's rows at these devices; gives their log-ins.

    When a session is, and whose turn, is drawn for the device, so neighbours in other blocks agree.
    """
    spec, people = block.spec, block.people
    first_row = np.full(len(people), np.iinfo(np.int64).max)
    np.minimum.at(first_row, block.events.local, block.events.serial)
    account_at = np.where(people.is_existing, spec.start_ms, np.iinfo(np.int64).max)
    signs_up = block.events.event == EVENT["signed_up"]
    np.minimum.at(account_at, block.events.local[signs_up], block.events.occurred[signs_up] + HOUR_MS)

    local, session = (axis.ravel() for axis in np.meshgrid(np.arange(len(people)), np.arange(SESSIONS), indexing="ij"))
    stretch = (spec.end_ms - spec.start_ms - HOUR_MS) // SESSIONS
    key = (device.number[local] * 2 + device.kind) * SESSIONS + session
    start = spec.start_ms + session * stretch + (stream.uniform("start", key) * (stretch - HOUR_MS)).astype(np.int64)
    crowd = device.crowd[local]
    one = (stream.uniform("one", key) * crowd).astype(np.int64)
    other = (one + 1 + (stream.uniform("other", key) * (crowd - 1)).astype(np.int64)) % crowd
    has_second = stream.uniform("has_second", key) < SECOND_SHARE
    is_first, is_second = device.rank[local] == one, has_second & (device.rank[local] == other)
    came = start + np.where(is_second, SECOND_AFTER_MS, 0)
    keys = foreign_key(device.number, DEVICE_COPIES[device.kind])
    there = device.exists[local] & (is_first | is_second) & (account_at[local] < came) & (first_row[local] < np.iinfo(np.int64).max)
    local, session, came, is_second = local[there], session[there], came[there], is_second[there]

    visit = np.repeat(np.arange(len(local)), len(SCRIPT))
    number = np.tile(np.arange(len(SCRIPT)), len(local))
    kept = (number > 0) | ~is_second[visit]  # the second comes to a page that stands open
    visit, number = visit[kept], number[kept]
    occurred = came[visit] + number * 45_000
    product = np.where(number == 2, stream.below("product", (key[there] * 2 + is_second)[visit], len(cat.PRODUCTS)), -1)
    rows = Rows.blank(
        first_row[local[visit]], local=local[visit], event=np.asarray(SCRIPT)[number], channel=np.full(len(visit), CHANNEL["web"]), occurred=occurred,
        received=occurred + 500, delivered=occurred + 500, foreign=keys[local[visit]], user=(number > 0).astype(np.int64),
        agent=np.full(len(visit), cat.TABLETS[0] if device.kind == TABLET else cat.DESKTOPS[2]), product=product,
        page=np.where(product >= 0, cat.FIRST_PRODUCT_PAGE + product, np.asarray([PAGE["/"], PAGE["/account"], 0])[number]),
        copy=COPY + (device.kind * SESSIONS + session[visit]) * len(SCRIPT) + number,
    )  # fmt: skip
    block.batches.append(Batch("shared_device", rows))
    return pa.table({
        "anonymous_id": anonymous_ids(keys[local]), "kind": [KINDS[device.kind]] * len(local), "session_number": session, "is_second": is_second,
        "person_id": person_ids(people.number[local]), "user_id": people.user_id.take(pa.array(local)), "logged_in_at": instants(came + 45_000),
    }, schema=TRUTHS["truth_shared_devices"])  # fmt: skip
