"""From a state at an instant to the probability of an order before a horizon: dynamic programming over the hours until it, backwards.

V(cell, type, stage, what is known of the person) is the probability that a visit which starts in that hour, or a later one before the horizon, brings
an order. It is 1 in the stage of purchase, where each visit has one; elsewhere it is the mean, over all that a visit can be, over the stage moved to and
over the hour of the next visit, of V there. The only approximation is that a visit is taken to end at one point of its hour (README: measured error).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.journeys import (
    CHAT,
    CHAT_EFFECT,
    DEVICE_WEIGHTS,
    EMAIL,
    EMAIL_AFTER_SOCIAL,
    ENTRY_EFFECT,
    GONE,
    PURCHASE,
    SIGN_UP,
    SOCIAL_ENTRIES,
    SUBSCRIBE,
    Tables,
)  # fmt: skip
from ml.simulator.oracle.emissions import contact_shares, way_in_shares
from ml.simulator.oracle.filtering import move_shares
from ml.simulator.oracle.observed import KINDS
from ml.simulator.oracle.waiting import HOUR_SHARES, start_shares
from ml.simulator.people import DEVICE_COUNT_WEIGHTS, DEVICE_SLOTS, LEAD_DEVICE_WEIGHTS
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Floats
from ml.simulator.visits import CALL, HOUR_MS, MAIL_ONLY, SITE, STORE

VISIT_HOURS = 0.075  # from a visit's start to its last row, in the mean


def _device_tables() -> tuple[Floats, Floats, Floats]:
    """Over all (device count, lead device): prior (16,), P(kind | it) (16, 4)."""
    prior = (DEVICE_COUNT_WEIGHTS[:, None] * LEAD_DEVICE_WEIGHTS).ravel()
    shares = np.zeros((DEVICE_SLOTS * DEVICE_SLOTS, DEVICE_SLOTS))
    for place, (count, lead) in enumerate(product(range(DEVICE_SLOTS), range(DEVICE_SLOTS))):
        weights = DEVICE_WEIGHTS * (np.arange(DEVICE_SLOTS) <= count)
        shares[place, (lead + np.arange(DEVICE_SLOTS)) % DEVICE_SLOTS] = weights / weights.sum()
    return prior / prior.sum(), shares, np.round(shares[:, KINDS.index("app")], 12)


DEVICE_PRIOR, KIND_SHARES, _APP_SHARES = _device_tables()
# a person's devices matter by how often a visit to the site is in the app: the distinct shares, and which one each (device count, lead device) has
APP_SHARES, APP_PLACE = np.unique(_APP_SHARES, return_inverse=True)


@dataclass
class Outlook:
    """V from a midnight on. hours: (app share, after_social, type, stage, day, hour, reachable, has_phone); days: its mean over each day's curve."""

    hours: Floats
    days: Floats


def outlook(tables: Tables, as_of: int, end: int, days: int) -> Outlook:
    """as_of: epoch ms, a midnight. end: instant from which on no visit starts or counts; days: how many days are looked ahead."""
    visit = np.stack([_visit_outcomes(tables, regime) for regime in (0, 1)])
    regime = tables.regime(as_of + np.arange(days) * DAY_MS)
    # by the hour in which a visit starts: (hour, type, stage, day ahead * 24 + hour)
    starts = np.concatenate([start_shares(np.arange(24.0) + 0.5 + VISIT_HOURS, day) for day in range(days)], axis=3)
    alive = np.clip((end - as_of) / HOUR_MS - np.arange(days * 24), 0.0, 1.0)
    value = np.zeros((4, 5, days * 24, 2, 2, 2, len(APP_SHARES)))  # type, stage, cell, after_social, reachable, has_phone, app share
    for cell in range(days * 24 - 1, -1, -1):
        first = cell // 24 * 24
        ahead = starts[cell % 24, :, :, None, : days * 24 - first]
        following = (ahead @ value[:, :, first:].reshape(4, 5, days * 24 - first, -1)).reshape(4, 5, 2, 2, 2, -1)
        value[:, :, cell] = alive[cell] * np.einsum("kscarfSAR,kSARfc->ksarfc", visit[regime[cell // 24]], following)
        value[:, PURCHASE, cell] = alive[cell]
    hours = value.reshape(4, 5, days, 24, 2, 2, 2, -1).transpose(7, 4, 0, 1, 2, 3, 5, 6)
    return Outlook(np.ascontiguousarray(hours), np.ascontiguousarray(np.einsum("caksdhrf,h->caksdrf", hours, HOUR_SHARES)))


def _visit_outcomes(tables: Tables, regime: int) -> Floats:
    """P(stage moved to, after_social and reachable afterwards | what was before): (type, stage, app share, after_social, reachable, has_phone; 5, 2, 2)."""
    found = np.zeros((4, 5, len(APP_SHARES), 2, 2, 2, 5, 2, 2))
    moves = tables.moves[regime][None]
    signs = 1.0 - (1.0 - SIGN_UP) * (1.0 - SUBSCRIBE)

    def add(before: tuple[int, int, int], after: tuple[int, int], effect: float, share: Floats) -> None:
        """share: (stage, app share)."""
        moved = move_shares(moves, np.exp(np.array([effect])))[0, ..., :GONE]
        found[(slice(None), slice(None), slice(None), *before, slice(None), *after)] += share[None, :, :, None] * moved[:, :, None, :]

    for social, reach, phone in product((0, 1), repeat=3):
        before = (social, reach, phone)
        contact = contact_shares(np.full(1, float(reach)), np.full(1, float(reach or phone)))[0][:, :, None]
        every = np.ones(len(APP_SHARES))
        add(before, (social, reach), EMAIL_AFTER_SOCIAL * social, contact[:, MAIL_ONLY] * every)
        add(before, (social, reach), 0.0, (contact[:, CALL] + contact[:, STORE]) * every)
        for is_app, way in product((False, True), range(len(cat.ENTRY_CHANNELS))):
            entered = way_in_shares(tables.ways_in[regime], bool(reach), is_app)[:, way]
            if not entered.any():
                continue
            came = contact[:, SITE] * entered[:, None] * (APP_SHARES if is_app else 1.0 - APP_SHARES)
            effect = ENTRY_EFFECT[way] + EMAIL_AFTER_SOCIAL * (social and way == EMAIL)
            for chats, gives in product((False, True), repeat=2):
                does = (CHAT if chats else 1.0 - CHAT) * (np.ones(5) if reach and not gives else 0.0 if reach else signs if gives else 1.0 - signs)
                if np.any(does):
                    after = (int(social or SOCIAL_ENTRIES[way]), int(reach or gives))
                    add(before, after, effect + CHAT_EFFECT * chats, came * does[:, None])
    return found
