"""Semi-Markov journeys: each customer moves through stages, visit by visit, all customers of a block at once.

A visit happens in a stage; its content depends on stage and latent type; then the next stage is drawn (a Markov chain with loops, whose forward
moves depend on type, on how the visit came in and on what came before it), then the time until the next visit (Weibull, by the stage moved to).
The tables below are the model; the README of this folder explains them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.people import COOKIES_PER_DEVICE, DEVICE_SLOTS, Bools, People
from ml.simulator.rows import CUSTOMER_SHIFT, SLOT_BITS, STEP_BITS, Array, Rows
from ml.simulator.spec import DAY_MS, Drift, WorldSpec
from ml.simulator.streams import Floats, Stream
from ml.simulator.visits import CALL, GAP_MOST_MS, HOUR_MS, LAST_SITE_SLOT, MAIL_ONLY, SITE, Visits, visit_rows

AWARENESS, CONSIDERATION, INTENT, PURCHASE, POST_SALE, GONE = range(6)
MAX_STEPS = 1 << STEP_BITS
REST_MS = 2 * HOUR_MS  # least time between two visits: well over any session gap

# From stage (row) to stage (column); the last column is leaving for good.
MOVES = np.array([
    [0.36, 0.38, 0.04, 0.00, 0.00, 0.22],
    [0.07, 0.41, 0.27, 0.02, 0.00, 0.23],
    [0.02, 0.22, 0.24, 0.34, 0.00, 0.18],
    [0.00, 0.11, 0.05, 0.02, 0.68, 0.14],
    [0.05, 0.24, 0.05, 0.03, 0.42, 0.21],
])  # fmt: skip
# How much the odds of moving forward and of leaving are multiplied for each latent type (decided, browser, researcher, loyal).
TYPE_FORWARD = np.array([1.9, 0.45, 0.9, 1.5])
TYPE_LEAVING = np.array([1.2, 1.15, 0.6, 0.5])
FORWARD = np.array([[stage < to < GONE for to in range(6)] for stage in range(5)])
# Weibull sojourn before a visit in each stage: scale in days, shape; and the types' pace.
SOJOURN_DAYS = np.array([8.0, 4.0, 1.3, 0.5, 11.0])
SOJOURN_SHAPE = np.array([0.9, 0.8, 0.75, 0.9, 1.2])
TYPE_PACE = np.array([0.6, 1.2, 1.3, 0.8])

# How a visit comes in, by stage: weights over cat.ENTRY_CHANNELS.
ENTRY_WEIGHTS = np.array([
    # direct organic referral paid_search display paid_social social email push
    [0.10, 0.24, 0.08, 0.14, 0.10, 0.17, 0.15, 0.01, 0.01],
    [0.20, 0.22, 0.07, 0.16, 0.08, 0.08, 0.07, 0.09, 0.03],
    [0.36, 0.12, 0.03, 0.16, 0.07, 0.04, 0.03, 0.15, 0.04],
    [0.46, 0.08, 0.02, 0.16, 0.02, 0.02, 0.02, 0.18, 0.04],
    [0.42, 0.10, 0.02, 0.04, 0.02, 0.03, 0.06, 0.24, 0.07],
])  # fmt: skip
DIRECT, EMAIL, PUSH = (cat.ENTRY_CHANNELS.index(name) for name in ("direct", "email", "push"))
# Log-odds that the way in adds to moving forward, and one interaction: an e-mail after a social touch works better than either alone.
ENTRY_EFFECT = np.array([0.0, 0.10, 0.15, 0.25, -0.10, -0.05, 0.05, 0.35, 0.15])
SOCIAL_ENTRIES = np.array([name in {"paid_social", "social"} for name in cat.ENTRY_CHANNELS])
EMAIL_AFTER_SOCIAL = 0.6
CHAT_EFFECT = 0.5

# What kind of contact a step is, by stage: on the site or in the app, an e-mail opened and left, a call, a visit to a store.
CONTACT_WEIGHTS = np.array([
    [0.91, 0.06, 0.01, 0.02], [0.86, 0.09, 0.02, 0.03], [0.91, 0.05, 0.03, 0.01], [1.00, 0.00, 0.00, 0.00], [0.64, 0.26, 0.04, 0.06],
])  # fmt: skip
SIGN_UP = np.array([0.02, 0.05, 0.14, 0.50, 0.20])
LOG_IN = np.array([0.10, 0.22, 0.35, 0.60, 0.55])
SUBSCRIBE = np.array([0.04, 0.07, 0.05, 0.0, 0.02])
CHAT = np.array([0.01, 0.04, 0.06, 0.02, 0.05])
COOKIE_RENEWAL = 0.06
DEVICE_WEIGHTS = np.array([0.6, 0.25, 0.1, 0.05])

_IS_APP = np.array([agent.is_app for agent in cat.AGENTS])
_HOUR_WEIGHTS = np.array([2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 13, 12, 10, 10, 11, 12, 14, 17, 18, 16, 10, 5], dtype=np.float64)
DAY_CURVE = np.concatenate([[0.0], np.cumsum(_HOUR_WEIGHTS) / _HOUR_WEIGHTS.sum()])  # share of visits before each hour


@dataclass(frozen=True)
class Tables:
    """What holds at a time: before a drift (place 0) and from it on (place 1). moves: (2, 5, 6); ways_in: (2, 5, entry channels)."""

    drift_at: int
    moves: Floats
    ways_in: Floats

    def regime(self, times: Array) -> Array:
        """0 or 1 for each instant."""
        return (times >= self.drift_at).astype(np.int64)


def tables_of(spec: WorldSpec) -> Tables:
    """The tables of a world; without a drift, place 1 equals place 0 and is never reached."""
    drift = spec.drift or Drift(day=spec.days)
    factors = np.where(FORWARD, drift.forward, 1.0)
    factors[:, GONE] = drift.leaving
    channels = np.array([drift.channels.get(name, 1.0) for name in cat.ENTRY_CHANNELS])
    return Tables(spec.start_ms + drift.day * DAY_MS, np.stack([MOVES, MOVES * factors]), np.stack([ENTRY_WEIGHTS, ENTRY_WEIGHTS * channels]))


@dataclass
class State:
    """Where each customer stands; arrays over the block. time and stage: of the next visit."""

    time: Array
    stage: Array
    registered: Bools
    reachable: Bools
    renewals: Array
    logged_in: Bools
    after_social: Bools


@dataclass
class Step:
    """One visit of each customer who makes one: its rows, when it ended (epoch ms) and the stage that follows (GONE: none)."""

    visits: Visits
    rows: Rows
    ended: Array
    moved: Array


def simulate_journeys(people: People, spec: WorldSpec, stream: Stream) -> Rows:
    """All events of a block's customers inside the window, ordered by customer, step and slot."""
    return in_order([step.rows for step in journey_steps(people, spec, stream)])


def in_order(parts: list[Rows]) -> Rows:
    """The steps' rows as one table, ordered by customer, step and slot."""
    joined = Rows.joined(parts)
    return joined.take(np.argsort(joined.serial, kind="stable"))


def first_state(people: People, stream: Stream) -> State:
    """Before anybody's first visit."""
    count = len(people)
    return State(
        time=_at_a_daytime(people.first_touch, stream.uniform("first_hour", people.number)), stage=np.where(people.is_existing, POST_SALE, AWARENESS),
        registered=people.is_existing.copy(), reachable=people.is_existing.copy(), renewals=np.zeros((count, DEVICE_SLOTS), dtype=np.int64),
        logged_in=np.zeros((count, DEVICE_SLOTS), dtype=np.bool_), after_social=np.zeros(count, dtype=np.bool_),
    )  # fmt: skip


def last_start_ms(spec: WorldSpec) -> int:
    """A visit that starts at this instant or later could outlive the window, and is not made."""
    return spec.end_ms - LAST_SITE_SLOT * GAP_MOST_MS - HOUR_MS


def journey_steps(people: People, spec: WorldSpec, stream: Stream, state: State | None = None) -> Iterator[Step]:
    """The visits of a block's customers, step by step, from `state` (default: their first visit) to the end of the window."""
    state = first_state(people, stream) if state is None else state
    tables = tables_of(spec)
    active: Array = np.arange(len(people), dtype=np.int64)
    for step in range(MAX_STEPS):
        active = active[state.time[active] < last_start_ms(spec)]
        if not len(active):
            break
        visits = _visits(people, state, active, step, stream, tables=tables)
        rows, ended = visit_rows(people, visits, spec, stream)
        moved = _move_on(people, state, visits, ended, stream, tables=tables)
        yield Step(visits, rows, ended, moved)
        active = active[moved != GONE]


def _at_a_daytime(times: Array, draws: Floats) -> Array:
    """The same days, at an hour as shops see them."""
    hours = np.interp(draws, DAY_CURVE, np.arange(25.0))
    return np.asarray(times // DAY_MS * DAY_MS + (hours * HOUR_MS).astype(np.int64), dtype=np.int64)


def _visits(people: People, state: State, who: Array, step: int, stream: Stream, *, tables: Tables) -> Visits:
    """Draws what the visits of this step are, and renews cookies, sign-ups and log-ins in the state."""
    key = (people.number[who] << CUSTOMER_SHIFT) | (step << SLOT_BITS)
    stage = state.stage[who]
    contact = stream.chosen("contact", key, CONTACT_WEIGHTS[stage])
    contact = np.where(((contact == MAIL_ONLY) & ~state.reachable[who]) | ((contact == CALL) & ~(state.reachable[who] | people.has_phone[who])), SITE, contact)
    on_site = contact == SITE

    device = stream.chosen("device", key, np.where(np.arange(DEVICE_SLOTS) < people.device_count[who][:, None], DEVICE_WEIGHTS, 0.0))
    agent = people.agents[who, device]
    is_app = _IS_APP[agent]
    way_in = stream.chosen("way_in", key, tables.ways_in[tables.regime(state.time[who]), stage])
    way_in = np.where(contact == MAIL_ONLY, EMAIL, np.where((way_in == EMAIL) & ~state.reachable[who], DIRECT, way_in))
    way_in = np.where(is_app & on_site, np.where(way_in >= EMAIL, PUSH, DIRECT), np.where(way_in == PUSH, DIRECT, way_in))

    renewed = on_site & ~is_app & (step > 0) & (stream.uniform("renewal", key) < COOKIE_RENEWAL) & (state.renewals[who, device] < COOKIES_PER_DEVICE - 1)
    state.renewals[who, device] += renewed
    was_logged_in = state.logged_in[who, device] & ~renewed
    signs_up = on_site & ~state.registered[who] & (stream.uniform("sign_up", key) < SIGN_UP[stage])
    logs_in = on_site & state.registered[who] & ~was_logged_in & (stream.uniform("log_in", key) < LOG_IN[stage])
    subscribes = on_site & ~state.reachable[who] & ~signs_up & (stream.uniform("subscribe", key) < SUBSCRIBE[stage])
    state.logged_in[who, device] = np.where(on_site, was_logged_in | signs_up | logs_in, state.logged_in[who, device])
    was_registered = state.registered[who]
    state.registered[who] |= signs_up
    state.reachable[who] |= signs_up | subscribes
    return Visits(
        who=who, key=key, start=state.time[who], stage=stage, contact=contact, agent=np.where(on_site, agent, 0), is_app=is_app, way_in=way_in,
        cookie=np.where(on_site, device * COOKIES_PER_DEVICE + state.renewals[who, device], -1), was_logged_in=was_logged_in & on_site, signs_up=signs_up,
        logs_in=logs_in, subscribes=subscribes, chats=on_site & (stream.uniform("chat", key) < CHAT[stage]), buys=on_site & (stage == PURCHASE),
        is_registered=was_registered | signs_up,
    )  # fmt: skip


def _move_on(people: People, state: State, visits: Visits, ended: Array, stream: Stream, *, tables: Tables) -> Array:
    """Draws next stages and times; returns the stages, GONE for who will not come again."""
    who: Array = visits.who
    stage, key = visits.stage, visits.key
    kind = people.type[who]
    on_site = visits.contact == SITE
    by_mail = np.where(on_site, visits.way_in == EMAIL, visits.contact == MAIL_ONLY)
    effect = np.where(on_site, ENTRY_EFFECT[visits.way_in], 0.0) + CHAT_EFFECT * visits.chats + EMAIL_AFTER_SOCIAL * (by_mail & state.after_social[who])
    weights = tables.moves[tables.regime(visits.start), stage] * np.where(FORWARD[stage], (TYPE_FORWARD[kind] * np.exp(effect))[:, None], 1.0)
    weights[:, GONE] *= TYPE_LEAVING[kind]
    moved = stream.chosen("move", key, weights)
    state.after_social[who] |= on_site & SOCIAL_ENTRIES[visits.way_in]
    state.reachable[who] |= visits.buys

    stays = moved != GONE
    who, stage, key, ended = who[stays], moved[stays], key[stays], ended[stays]
    wait_days = SOJOURN_DAYS[stage] * TYPE_PACE[people.type[who]] * stream.weibull("sojourn", key, SOJOURN_SHAPE[stage])
    wished = _at_a_daytime(ended + (wait_days * DAY_MS).astype(np.int64), stream.uniform("hour", key))
    earliest = ended + REST_MS
    state.time[who] = np.where(wished >= earliest, wished, earliest + (stream.uniform("rest", key) * 4 * HOUR_MS).astype(np.int64))
    state.stage[who] = stage
    return moved
