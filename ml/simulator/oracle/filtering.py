"""Exact forward filtering of a hidden semi-Markov model: what a person's visits say about the type, the stages and two facts that are not seen.

The hidden state at a visit is (is_existing, has_phone, type, stage); the first three stay as they are. With L_v the likelihood of visit v's contents,
A(x_v) the true table of moves given what the visit did, and f the law of the wait before a visit by type and stage moved to, the recursion is the
forward algorithm (Rabiner 1989, section III; Yu 2010 for explicit durations): a_v = L_v * sum over stages of a_{v-1} A f. Because a wait's end is
seen as the next visit, the state needs no clock, and filtering is exact with 80 numbers a visit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulator.journeys import (
    AWARENESS,
    CHAT_EFFECT,
    EMAIL,
    EMAIL_AFTER_SOCIAL,
    ENTRY_EFFECT,
    FORWARD,
    GONE,
    POST_SALE,
    SOCIAL_ENTRIES,
    TYPE_FORWARD,
    TYPE_LEAVING,
    Tables,
)  # fmt: skip
from ml.simulator.oracle.emissions import contents_likelihood
from ml.simulator.oracle.observed import Observed, happened_before
from ml.simulator.oracle.waiting import start_masses, wait_likelihood
from ml.simulator.people import EXISTING_SHARE, EXISTING_SPAN, FIRST_TOUCH_SPAN, HAS_PHONE_SHARE, TYPE_WEIGHTS, Bools
from ml.simulator.rows import Array
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Floats
from ml.simulator.visits import MAIL_ONLY, SITE


@dataclass
class Filtered:
    """Per visit. before, after: P(existing, phone, type, stage | all earlier visits; and this one's start) without and with its contents, (n, 2, 2, 4, 5), each
    summing to 1. pull: the factor by which what the visit did multiplies the odds of moving forward. after_social: it or an earlier one came by social."""

    before: Floats
    after: Floats
    pull: Floats
    after_social: Bools


def move_shares(moves: Floats, pull: Floats) -> Floats:
    """P(next stage or GONE | type, stage): moves (n or 1, 5, 6), pull (n,) -> (n, 4, 5, 6)."""
    forward = np.where(FORWARD[None, None], TYPE_FORWARD[None, :, None, None] * pull[:, None, None, None], 1.0)
    forward[..., GONE] *= TYPE_LEAVING[None, :, None]
    weights = moves[:, None] * forward
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def pulls(visits: Observed, was_after_social: Bools) -> Floats:
    """What the visits did to the odds of moving forward: exp of the sum of effects, (n,)."""
    on_site = visits.contact == SITE
    by_mail = np.where(on_site, visits.way_in == EMAIL, visits.contact == MAIL_ONLY)
    effect = np.where(on_site, ENTRY_EFFECT[visits.way_in], 0.0) + CHAT_EFFECT * visits.chats + EMAIL_AFTER_SOCIAL * (by_mail & was_after_social)
    return np.asarray(np.exp(effect))


def filter_visits(visits: Observed, tables: Tables, spec: WorldSpec) -> Filtered:
    """visits: all of a block's, whole, ordered by customer and time."""
    count = len(visits)
    opens = np.concatenate([[True], visits.local[1:] != visits.local[:-1]])[:count]
    first = np.maximum.accumulate(np.where(opens, np.arange(count), 0))
    number = np.arange(count) - first
    likelihood = contents_likelihood(visits, visits, tables)
    waits = np.zeros((count, 4, 5))
    waits[1:] = wait_likelihood(visits.ended_at[:-1], visits.first_at[1:]) * ~opens[1:, None, None]
    social = (visits.contact == SITE) & SOCIAL_ENTRIES[visits.way_in]
    was_after = happened_before(social, visits.local)
    pull = pulls(visits, was_after)
    regime = tables.regime(visits.first_at)
    before, after = np.zeros((count, 2, 2, 4, 5)), np.zeros((count, 2, 2, 4, 5))
    # visits with one number are one step: those of the persons who made so many
    by_number = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=1))
    for place, end in enumerate(ends.tolist()):
        here = by_number[ends[place - 1] if place else 0 : end]
        if place:
            last = here - 1
            moves = move_shares(tables.moves[regime[last]], pull[last])[..., :GONE]
            step = np.einsum("nefks,nkst->nefkt", after[last], moves) * waits[here][:, None, None]
        else:
            step = _prior(visits.first_at[here], spec)
        before[here] = step / step.sum(axis=(1, 2, 3, 4), keepdims=True)
        step = before[here] * likelihood[here][:, :, :, None, :]
        after[here] = step / step.sum(axis=(1, 2, 3, 4), keepdims=True)
    return Filtered(before, after, pull, was_after | social)


def _prior(first_at: Array, spec: WorldSpec) -> Floats:
    """P(existing, phone, type, stage) of a person first seen at `first_at`, but for a factor: (n, 2, 2, 4, 5)."""
    day = (first_at - spec.start_ms) // DAY_MS
    same, eve, _ = start_masses(first_at, np.full(len(first_at), np.iinfo(np.int64).min // 4))
    prior = np.zeros((len(first_at), 2, 2, 4, 5))
    for existing, (share, span, stage) in enumerate([(1 - EXISTING_SHARE, FIRST_TOUCH_SPAN, AWARENESS), (EXISTING_SHARE, EXISTING_SPAN, POST_SALE)]):
        days = span * (spec.days - 1)
        on_day, on_eve = (np.clip(days - start, 0.0, 1.0) * (start >= 0) / days for start in (day, day - 1))
        came = share * (on_day * same + on_eve * eve)
        prior[:, existing, :, :, stage] = came[:, None, None] * np.array([1 - HAS_PHONE_SHARE, HAS_PHONE_SHARE])[:, None] * TYPE_WEIGHTS
    return prior
