"""Persons at an instant: what is believed of each, what is true, and what either makes of the days ahead."""

from __future__ import annotations

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.journeys import DEVICE_WEIGHTS, GONE, PURCHASE, Step, Tables
from ml.simulator.oracle.emissions import contents_likelihood
from ml.simulator.oracle.filtering import Filtered, move_shares
from ml.simulator.oracle.horizon import APP_PLACE, APP_SHARES, DEVICE_PRIOR, KIND_SHARES, Outlook
from ml.simulator.oracle.observed import Observed, observed_visits
from ml.simulator.oracle.waiting import day_share, gap_share, not_started, start_shares
from ml.simulator.people import DEVICE_SLOTS, People
from ml.simulator.rows import Array, Rows, steps_of
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Floats
from ml.simulator.visits import GAP_MOST_MS, HOUR_MS, SLOTS


def places_at(visits: Observed, count: int, instants: Array) -> Array:
    """Place of the last visit of each of `count` customers that began before each instant, -1 where there is none: (customers, instants)."""
    # one long sorted line of (person, first row): a person's visits before an instant end where the instant would be put in
    span = np.int64(1) << 44
    line = visits.local * span + visits.first_at
    places = np.searchsorted(line, np.arange(count)[:, None] * span + instants) - 1
    opens = np.searchsorted(visits.local, np.arange(count))
    return np.where(places >= opens[:, None], places, -1)


class Seen:
    """What a block's visits tell of devices and reachability, and what is true behind them."""

    def __init__(self, visits: Observed, filtered: Filtered, people: People, steps: list[Step]) -> None:
        self.visits, self.filtered = visits, filtered
        self.people = people
        keys = np.concatenate([step.visits.key for step in steps])
        order = np.argsort(keys)
        self.stage = np.concatenate([step.visits.stage for step in steps])[order]
        self.moved = np.concatenate([step.moved for step in steps])[order]
        opens = np.searchsorted(visits.local, np.arange(len(people)))
        self.first_at = visits.first_at[np.minimum(opens, max(len(visits) - 1, 0))]
        reaches = np.cumsum(visits.signs_up | visits.subscribes | visits.buys)
        before = np.concatenate([[0], reaches])[opens]
        self.reachable = reaches > before[visits.local]
        self._kinds = np.cumsum(visits.kind[:, None] == np.arange(4), axis=0)
        self._kinds -= np.concatenate([np.zeros((1, 4), dtype=np.int64), self._kinds])[opens][visits.local]
        weights = DEVICE_WEIGHTS * (np.arange(DEVICE_SLOTS) < people.device_count[:, None])
        in_app = (weights * np.isin(people.agents, cat.APPS)).sum(axis=1) / weights.sum(axis=1)
        self.true_devices = (np.abs(in_app[:, None] - APP_SHARES) < 1e-9).astype(np.float64)

    def devices(self, place: Array) -> Floats:
        """P(app share | the devices seen), (n, shares)."""
        with np.errstate(divide="ignore"):
            table = np.maximum(np.log(KIND_SHARES), -1e6)
        weight = self._kinds[place] @ table.T + np.log(DEVICE_PRIOR)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True))
        folded = np.zeros((len(weight), len(APP_SHARES)))
        np.add.at(folded.T, APP_PLACE, weight.T)
        return np.asarray(folded / folded.sum(axis=1, keepdims=True))

    def true_states(self, place: Array, moves: Floats) -> tuple[Floats, Floats]:
        """P(existing, phone, type, stage moved to or GONE), (n, 2, 2, 4, 6), for who knows type and stage of the last visit, and who knows all of it."""
        local, every = self.visits.local[place], np.arange(len(place))
        e, f, k = self.people.is_existing[local].astype(np.int64), self.people.has_phone[local].astype(np.int64), self.people.type[local]
        by_stage, by_move = np.zeros((len(every), 2, 2, 4, 6)), np.zeros((len(every), 2, 2, 4, 6))
        by_stage[every, e, f, k] = moves[every, k, self.stage[place]]
        by_move[every, e, f, k, self.moved[place]] = 1.0
        return by_stage, by_move


class Look:
    """Persons at an instant, each with the last visit that began before it (place: (n,)), and what lies ahead of them."""

    def __init__(self, seen: Seen, place: Array, instant: int, view: Outlook) -> None:
        ended = np.minimum(seen.visits.ended_at[place], instant - 1)
        hours_in, past = ended % DAY_MS / HOUR_MS, instant // DAY_MS - ended // DAY_MS
        self.view, self.reachable = view, seen.reachable[place]
        self.social = seen.filtered.after_social[place].astype(np.int64)
        self.stays = not_started(hours_in, past)
        self.starts = np.stack([day_share(hours_in, past + day) for day in range(view.days.shape[4])], axis=3)
        # after the first midnight, a visit's hour still depends on when the last one ended
        self.near = np.flatnonzero(past == 1)
        self.near_starts = start_shares(hours_in[self.near], 1)
        self.starts[self.near, :, :, 0] = 0.0

    def chance(self, state: Floats, devices: Floats) -> Floats:
        """state: P(existing, phone, type, stage moved to or GONE), (n, 2, 2, 4, 6), before the silence until now; devices: weights of app shares."""
        value = np.zeros((len(state), 4, 5, 2, 2))  # type, stage, reachable, has_phone
        for social in (0, 1):
            picked = np.flatnonzero(self.social == social)
            days = self.view.days[:, social]
            mixed = (devices[picked] @ days.reshape(len(days), -1)).reshape(-1, *days.shape[1:])
            value[picked] += np.einsum("nksd,nksdrf->nksrf", self.starts[picked], mixed)
            places = np.flatnonzero(self.social[self.near] == social)
            hours = self.view.hours[:, social, :, :, 0]
            mixed = (devices[self.near[places]] @ hours.reshape(len(hours), -1)).reshape(-1, *hours.shape[1:])
            value[self.near[places]] += np.einsum("nksh,nkshrf->nksrf", self.near_starts[places], mixed)
        by_existing = np.stack([np.where(self.reachable[:, None, None, None], value[:, :, :, 1], value[:, :, :, 0]), value[:, :, :, 1]], axis=1)
        hits = np.einsum("nefks,neksf->n", state[..., :GONE], by_existing)
        left = np.einsum("nefks,nks->n", state[..., :GONE], self.stays) + state[..., GONE].sum(axis=(1, 2, 3))
        # nothing is left where a visit under way can only be a purchase
        return np.asarray(np.divide(hits, left, out=np.zeros_like(hits), where=left > 0))


def moves_after(seen: Seen, place: Array, tables: Tables) -> Floats:
    """P(stage moved to or GONE | type, stage) after each visit, (n, 4, 5, 6)."""
    return move_shares(tables.moves[tables.regime(seen.visits.first_at[place])], seen.filtered.pull[place])


def believed_states(seen: Seen, place: Array, instant: int, rows: Rows, *, tables: Tables, spec: WorldSpec) -> tuple[Floats, Floats]:
    """P(existing, phone, type, stage of the last visit | what was seen before `instant`), and P(an order of a visit under way is still to come).

    A visit whose last row is under nine minutes old may go on. With C the likelihood of what was seen if that was all, P that of it as a beginning, and G the
    share of gaps that are longer than the silence, its likelihood is C + (P - C) G.
    """
    visits, filtered = seen.visits, seen.filtered
    after, coming = filtered.after[place].copy(), np.zeros(len(place))
    near = np.flatnonzero(visits.ended_at[place] > instant - GAP_MOST_MS)
    if not len(near):
        return after, coming
    late = place[near]
    numbers = steps_of(rows.serial)
    begun = observed_visits(rows.take(np.isin(numbers, np.unique(numbers)[late]) & (rows.occurred < instant)), is_identified=spec.is_identified)
    begun.was_logged_in = visits.was_logged_in[late]
    known = visits.take(visits.ended_at < instant - GAP_MOST_MS)
    whole = contents_likelihood(begun, known, tables, np.full(len(late), SLOTS))
    beginning = contents_likelihood(begun, known, tables, begun.last_slot)
    likelihood = whole + (beginning - whole) * (1.0 - gap_share(instant - begun.ended_at))[:, None, None, None]
    state = filtered.before[late] * likelihood[:, :, :, None, :]
    state /= state.sum(axis=(1, 2, 3, 4), keepdims=True)
    coming[near] = state[..., PURCHASE].sum(axis=(1, 2, 3)) * ~begun.buys
    state[~begun.buys, ..., PURCHASE] = 0.0
    after[near] = state / np.maximum(state.sum(axis=(1, 2, 3, 4), keepdims=True), 1e-300)
    return after, coming
