"""Rows of the world as columns of small codes; strings are made only when they are written (rendering.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

# A customer has fewer than 2**11 steps and a step fewer than 2**5 rows, so a customer's rows are numbered by place, not by a running count.
SLOT_BITS, STEP_BITS = 5, 11
CUSTOMER_SHIFT = SLOT_BITS + STEP_BITS
NO_COOKIE = -1

Array = npt.NDArray[np.int64]


@dataclass
class Rows:
    """Parallel columns, one entry a row; every column is int64 (codes index the tables of catalogue.py).

    serial: place in the world, customer << 16 | step << 5 | slot; unique among customers' events. local: place of the customer in the block. stage: of
    the visit. occurred, received, delivered: epoch ms; `delivered` decides the file. cookie: device * 16 + renewal of the customer, or NO_COOKIE.
    foreign: key of a device that is nobody's (0: none). user, email, phone: 0 absent, 1 the customer's, 2 the same in another spelling, 3 a
    staff member's. leak: the e-mail stands in the page's URL (1 plain, 2 percent-encoded). amount: cents; 0 means none. order: 0 means none.
    revision: 1 in the other content of a conflict. copy: distinguishes rows made from the same serial, in ids and in order.
    """

    serial: Array
    local: Array
    stage: Array
    event: Array
    channel: Array
    occurred: Array
    received: Array
    delivered: Array
    cookie: Array
    foreign: Array
    user: Array
    email: Array
    phone: Array
    staff_number: Array
    agent: Array
    page: Array
    entry: Array
    leak: Array
    product: Array
    amount: Array
    order: Array
    text: Array
    revision: Array
    copy: Array

    def __len__(self) -> int:
        return len(self.serial)

    def take(self, picked: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Rows:
        """A copy of the picked rows."""
        return Rows(**{column.name: getattr(self, column.name)[picked] for column in fields(self)})

    @classmethod
    def blank(cls, serial: Array, **given: Array) -> Rows:
        """Rows with the given columns, and nothing in the others."""
        empty = {column.name: np.zeros(len(serial), dtype=np.int64) for column in fields(cls) if column.name not in given and column.name != "serial"}
        if "cookie" in empty:
            empty["cookie"] -= 1
        if "product" in empty:
            empty["product"] -= 1
        return cls(serial=serial, **given, **empty)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        if not parts:
            return cls.blank(np.zeros(0, dtype=np.int64))
        return cls(**{column.name: np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)})


def customers_of(serial: Array) -> Array:
    """The customers' numbers in the world."""
    return serial >> CUSTOMER_SHIFT


def steps_of(serial: Array) -> Array:
    """Customer and step in one number: rows of one visit share it."""
    return serial >> SLOT_BITS


def foreign_key(number: Array, copy: int) -> Array:
    """A key for a device that belongs to no customer: apart from all customers' cookies, and from those of other mechanisms."""
    return (np.int64(1) << 60) | (number << 8) | copy


def id_keys(rows: Rows) -> Array:
    """What an event id is made of: copies that repeat an event (numbered 1 and 2) share the event's."""
    return (rows.serial << 8) | np.where(rows.copy <= 2, 0, rows.copy)


def cookie_keys(rows: Rows) -> Array:
    """What an anonymous id is made of; meaningless where there is neither a cookie nor a foreign device."""
    return np.where(rows.foreign > 0, rows.foreign, (customers_of(rows.serial) << 8) | (rows.cookie & 0xFF))
