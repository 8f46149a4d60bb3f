"""How likely a visit's contents are in each stage. What else they depend on is known from earlier visits, but for two facts about the person.

Axes of every likelihood: is_existing (2), has_phone (2), stage (5). Contents do not depend on the latent type, and a device's kind, a cookie's renewal, a click
before a landing page or a second chat message depend on no latent thing: their factors cancel and are left out.
"""

from __future__ import annotations

import numpy as np

from ml.simulator.journeys import CHAT, CONTACT_WEIGHTS, DIRECT, EMAIL, LOG_IN, PURCHASE, PUSH, SIGN_UP, SUBSCRIBE, Tables
from ml.simulator.oracle.observed import KINDS, NOT_SEEN, Observed, happened_before
from ml.simulator.people import Bools
from ml.simulator.rows import Array
from ml.simulator.streams import Floats
from ml.simulator.visits import (
    ACCOUNT,
    BROWSE,
    BROWSE_MEAN,
    BROWSES,
    CALL,
    CART,
    CART_RATE,
    CHAT_STARTED,
    CHECKOUT,
    CHECKOUT_RATE,
    MAIL_ONLY,
    ORDER,
    PAGES_BASE,
    PHONE_AT_CHECKOUT,
    POST_SALE_STAGE,
    PRODUCT_SHARE,
    REVIEW,
    REVIEW_RATE,
    SITE,
    SLOTS,
    STORE,
    SUBSCRIBED,
)  # fmt: skip

_APP = KINDS.index("app")


def contact_shares(reachable: Floats, callable_: Floats) -> Floats:
    """P(contact | stage): (...,) -> (..., 5, 4). Mails reach the reachable, calls the callable; else the step is a visit to the site."""
    mails, calls = CONTACT_WEIGHTS[:, MAIL_ONLY] * reachable[..., None], CONTACT_WEIGHTS[:, CALL] * callable_[..., None]
    stores = np.broadcast_to(CONTACT_WEIGHTS[:, STORE], mails.shape)
    return np.stack([1.0 - mails - calls - stores, mails, calls, stores], axis=-1)


def way_in_shares(weights: Floats, reachable: bool, is_app: bool) -> Floats:
    """P(way in | stage, on the site): weights (5, entry channels) -> the same shape, as journeys.py folds them."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    if not reachable:
        shares[:, DIRECT] += shares[:, EMAIL]
        shares[:, EMAIL] = 0.0
    if is_app:
        pushed = shares[:, EMAIL] + shares[:, PUSH]
        shares = np.zeros_like(shares)
        shares[:, DIRECT], shares[:, PUSH] = 1.0 - pushed, pushed
    else:
        shares[:, DIRECT] += shares[:, PUSH]
        shares[:, PUSH] = 0.0
    return np.asarray(shares, dtype=np.float64)


def contents_likelihood(visits: Observed, known: Observed, tables: Tables, through: Array | None = None) -> Floats:
    """P(contents | existing, phone, stage) of `visits`: (n, 2, 2, 5).

    known: the visits themselves, whole and in order; or, for visits that may be under way, the earlier visits of the same customers. through: the last place in
    a visit's order that is known of, (n,); what comes after it is summed over. Default: all of it.
    """
    earlier = _Earlier(visits, known)
    through = np.full(len(visits), SLOTS) if through is None else through
    likelihood = _contact_and_way_in(visits, earlier, tables)
    on_site = visits.contact == SITE
    free = np.stack([~earlier.registered, np.zeros_like(earlier.registered)], axis=1)[:, :, None]  # without an account: (n, existing, 1)
    unreachable = np.stack([~earlier.reachable, np.zeros_like(earlier.reachable)], axis=1)[:, :, None]

    def happens(applies: Bools, flag: Bools, rates: Floats, slot: int) -> Floats:
        """(n, existing, 5): `applies` (n, existing, 1) says where it can happen at all."""
        can = np.where(flag[:, None, None], np.where(applies, rates, 0.0), np.where(applies, 1.0 - rates, 1.0))
        return np.where((on_site & (through >= slot))[:, None, None], can, 1.0)

    likelihood *= happens(free, visits.signs_up, SIGN_UP, ACCOUNT)[:, :, None, :]
    likelihood *= happens(~free & ~visits.was_logged_in[:, None, None], visits.logs_in, LOG_IN, ACCOUNT)[:, :, None, :]
    likelihood *= happens(unreachable & ~visits.signs_up[:, None, None], visits.subscribes, SUBSCRIBE, SUBSCRIBED)[:, :, None, :]
    likelihood *= np.where(on_site[:, None], _site_likelihood(visits, through), 1.0)[:, None, None, :]
    likelihood *= _phone_likelihood(visits)[:, None, :, None]
    return likelihood


class _Earlier:
    """What the visits before each visit told: the customer signed up, can be reached by mail (were they no customer before the window)."""

    def __init__(self, visits: Observed, known: Observed) -> None:
        reaches = known.signs_up | known.subscribes | known.buys
        if visits is known:
            self.registered = happened_before(known.signs_up, known.local)
            self.reachable = happened_before(reaches, known.local)
        else:
            size = int(max(visits.local.max(initial=0), known.local.max(initial=0))) + 1
            self.registered, self.reachable = (np.bincount(known.local[flag], minlength=size)[visits.local] > 0 for flag in (known.signs_up, reaches))


def _contact_and_way_in(visits: Observed, earlier: _Earlier, tables: Tables) -> Floats:
    count = len(visits)
    reachable = np.stack([earlier.reachable, np.ones(count, dtype=np.bool_)], axis=1)  # (n, existing)
    shares = contact_shares(
        np.broadcast_to(reachable[:, :, None], (count, 2, 2)).astype(np.float64), (reachable[:, :, None] | np.array([False, True])).astype(np.float64)
    )
    likelihood = np.take_along_axis(shares, visits.contact[:, None, None, None, None], axis=-1)[..., 0]
    ways = np.array([[[way_in_shares(weights, bool(reach), bool(app)) for app in (0, 1)] for reach in (0, 1)] for weights in tables.ways_in])
    regime, is_app = tables.regime(visits.first_at), (visits.kind == _APP).astype(np.int64)
    on_site = visits.contact == SITE
    for existing in (0, 1):
        way = ways[regime, reachable[:, existing].astype(np.int64), is_app, :, visits.way_in]
        likelihood[:, existing] *= np.where(on_site[:, None], way, 1.0)[:, None, :]
        # an account where none was opened is that of a customer from before the window
        has_account = earlier.registered | bool(existing)
        likelihood[:, existing] *= ((visits.account == NOT_SEEN) | ((visits.account == 1) == has_account))[:, None, None]
    return likelihood


def _site_likelihood(visits: Observed, through: Array) -> Floats:
    """Pages, products, chat, cart, checkout, order and review of a visit to the site: (n, 5)."""
    seen = visits.browsed[:, None]

    def at_least(pages: Array) -> Floats:
        reached = np.exp(-np.maximum(pages - PAGES_BASE, 0.0) / BROWSE_MEAN)
        return np.where(pages <= 0, 1.0, np.where(pages > BROWSES, 0.0, reached))

    is_whole = through >= BROWSE + BROWSES
    likelihood = at_least(seen) - np.where(is_whole[:, None], at_least(seen + 1), 0.0)
    likelihood *= PRODUCT_SHARE ** visits.products[:, None] * (1.0 - PRODUCT_SHARE) ** np.maximum(seen - visits.products[:, None], 0)

    def told(flag: Bools, rates: Floats, slot: int) -> None:
        nonlocal likelihood
        likelihood *= np.where((through >= slot)[:, None], np.where(flag[:, None], rates, 1.0 - rates), 1.0)

    is_purchase = np.arange(5) == PURCHASE
    told(visits.chats, CHAT, CHAT_STARTED)
    told(visits.fills, CART_RATE, CART)
    told(visits.checks_out, np.where(is_purchase, 1.0, 0.0) + np.where(visits.fills, 1.0, 0.0)[:, None] * np.where(is_purchase, 0.0, CHECKOUT_RATE), CHECKOUT)
    told(visits.buys, is_purchase.astype(np.float64), ORDER)
    told(visits.reviews, np.where(np.arange(5) == POST_SALE_STAGE, REVIEW_RATE, 0.0), REVIEW)
    return likelihood


def _phone_likelihood(visits: Observed) -> Floats:
    """P(number given or not | has_phone): (n, 2)."""
    given = np.where(visits.contact == CALL, 1.0, PHONE_AT_CHECKOUT)
    with_phone = np.select([visits.phone == 1, visits.phone == 0], [given, 1.0 - given], 1.0)
    return np.stack([np.where(visits.phone == 1, 0.0, 1.0), with_phone], axis=1)
