"""P(an order within a horizon) for every person of a world and any number of instants: given what can be observed, and given the latent state too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml.simulator import catalogue as cat
from ml.simulator.catalogue import EVENT
from ml.simulator.journeys import DEVICE_WEIGHTS, GONE, PURCHASE, Step, Tables, in_order, journey_steps, last_start_ms, tables_of
from ml.simulator.oracle.emissions import contents_likelihood
from ml.simulator.oracle.filtering import Filtered, filter_visits, move_shares
from ml.simulator.oracle.horizon import APP_PLACE, APP_SHARES, DEVICE_PRIOR, KIND_SHARES, Outlook, outlook
from ml.simulator.oracle.observed import Observed, observed_visits
from ml.simulator.oracle.waiting import day_share, gap_share, not_started, start_shares
from ml.simulator.people import DEVICE_SLOTS, Bools, People, draw_people
from ml.simulator.rows import Array, Rows, steps_of
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Floats, Stream
from ml.simulator.truth import person_ids
from ml.simulator.visits import GAP_MOST_MS, HOUR_MS, SLOTS
from waymark.core.errors import SettingsError

BLOCK_CUSTOMERS = 2_500
TABLE = "truth_propensity"
SCHEMA = pa.schema([
    ("person_id", pa.string()), ("as_of_at", pa.timestamp("us")), ("horizon_days", pa.int64()), ("p_observable", pa.float64()), ("p_visit_state", pa.float64()),
    ("p_latent", pa.float64()), ("is_converted", pa.bool_()), ("first_seen_at", pa.timestamp("us")), ("last_seen_at", pa.timestamp("us")),
])  # fmt: skip


def mondays(spec: WorldSpec, horizon_days: int = 7) -> tuple[datetime, ...]:
    """The Mondays, 00:00 UTC, after the world's first day whose horizon ends inside its window."""
    first = datetime.combine(spec.start, datetime.min.time()) + timedelta(days=1)
    first += timedelta(days=-first.weekday() % 7)
    last = datetime.combine(spec.start, datetime.min.time()) + timedelta(days=spec.days - horizon_days)
    return tuple(first + timedelta(days=7 * week) for week in range(max((last - first).days // 7 + 1, 0)))


def oracle_scores(spec: WorldSpec, as_of: Sequence[datetime] | None = None, horizon_days: int = 7) -> pa.Table:
    """One row for each person seen before an instant and each instant of `as_of` (UTC midnights; default: `mondays`), ordered by both.

    p_observable: P(an order in [as_of_at, as_of_at + horizon) | all rows of the person before as_of_at), exact but for what the README measures.
    p_visit_state: knowing in addition the type, whether there was an account before the window, the phone, the devices and the last visit's stage.
    p_latent: knowing the stage that the person has moved to as well, or that they left for good. is_converted: what happened.
    Raises SettingsError for an instant that is no midnight UTC inside the window, or for a horizon under a day.
    """
    instants = np.array([_epoch_ms(moment, spec) for moment in (mondays(spec, horizon_days) if as_of is None else as_of)], dtype=np.int64)
    if horizon_days < 1:
        raise SettingsError(f"horizon_days is {horizon_days}", where="oracle_scores", remedy="Use a whole number from 1 on.")
    tables = tables_of(spec)
    end = last_start_ms(spec)
    # what lies ahead differs only where the window's end or a drift comes near
    kinds: dict[tuple[int, int], Outlook] = {}
    ahead = []
    for instant in instants.tolist():
        key = (min(end, instant + horizon_days * DAY_MS) - instant, int(np.clip((tables.drift_at - instant) // DAY_MS, 0, horizon_days)))
        kinds[key] = kinds.get(key) or outlook(tables, instant, instant + key[0], horizon_days)
        ahead.append(kinds[key])
    parts = [
        _block_scores(spec, first, tables=tables, instants=instants, ahead=ahead, horizon_days=horizon_days)
        for first in range(0, spec.customers, BLOCK_CUSTOMERS)
    ]
    return pa.concat_tables(parts)


def write_propensity(truth: Path, spec: WorldSpec, as_of: Sequence[datetime] | None = None, horizon_days: int = 7) -> Path:
    """Writes `oracle_scores` beside the other truth tables; returns the file."""
    path = truth / f"{TABLE}.parquet"
    pq.write_table(oracle_scores(spec, as_of, horizon_days), path, compression="zstd")
    return path


def _epoch_ms(moment: datetime, spec: WorldSpec) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    milliseconds = round(aware.timestamp() * 1000)
    if milliseconds % DAY_MS or not spec.start_ms < milliseconds < spec.end_ms:
        raise SettingsError(f"{moment} is no midnight UTC inside the world's window", where="oracle_scores", remedy="Use days after the first, at 00:00 UTC.")
    return milliseconds


@dataclass
class Points:
    """Persons at instants: place of the last visit that began before the instant, the instant, and its place in the grid."""

    visit: Array
    at: Array
    grid: Array


def _block_scores(spec: WorldSpec, first: int, *, tables: Tables, instants: Array, ahead: list[Outlook], horizon_days: int) -> pa.Table:
    count = min(BLOCK_CUSTOMERS, spec.customers - first)
    people = draw_people(spec, first, count, Stream(spec.seed, "people"))
    steps = list(journey_steps(people, spec, Stream(spec.seed, "journeys")))
    rows = in_order([step.rows for step in steps])
    visits = observed_visits(rows, is_identified=spec.is_identified)
    points = points_at(visits, count, instants)
    if not len(points.visit):
        return SCHEMA.empty_table()
    filtered = filter_visits(visits, tables, spec)
    seen = _Seen(visits, filtered, people, steps)
    after, ongoing = _states_at(seen, points, rows, tables, spec)
    moves = move_shares(tables.moves[tables.regime(visits.first_at[points.visit])], filtered.pull[points.visit])
    believed = np.einsum("nefks,nkst->nefkt", after, moves)
    knows_stage, knows_all = seen.known(points, moves)
    devices = seen.devices(points)
    found = np.zeros((3, len(points.visit)))
    for grid, view in enumerate(ahead):
        here = np.flatnonzero(points.grid == grid)
        looks = _Look(visits, seen, points, here, view)
        found[0, here] = looks.chance(believed[here], devices[here])
        true_devices = seen.true_devices[visits.local[points.visit[here]]]
        found[1, here] = looks.chance(knows_stage[here], true_devices)
        found[2, here] = looks.chance(knows_all[here], true_devices)
    buying = seen.stage[points.visit] == PURCHASE
    # a visit under way: in the stage of purchase its order is still to come, and nothing else can be said better
    found[0] = ongoing + (1.0 - ongoing) * found[0]
    orders = _orders_at(rows, count, visits.local[points.visit], points.at, horizon_days)
    pending = buying & (visits.ended_at[points.visit] >= points.at) & orders
    found[1:, pending] = 1.0
    local = visits.local[points.visit]
    return pa.table({
        "person_id": person_ids(people.number[local]), "as_of_at": _instants(points.at), "horizon_days": np.full(len(local), horizon_days),
        "p_observable": found[0], "p_visit_state": found[1], "p_latent": found[2], "is_converted": orders,
        "first_seen_at": _instants(seen.first_at[local]), "last_seen_at": _instants(np.minimum(visits.ended_at[points.visit], points.at - 1)),
    }, schema=SCHEMA)  # fmt: skip


def _instants(milliseconds: Array) -> pa.Array:
    return pa.array(milliseconds * 1000).cast(pa.timestamp("us"))


def points_at(visits: Observed, count: int, instants: Array) -> Points:
    """By person, then instant."""
    # one long sorted line of (person, first row): a person's visits before an instant end where the instant would be put in
    span = np.int64(1) << 44
    line = visits.local * span + visits.first_at
    wanted = np.arange(count)[:, None] * span + instants
    places = np.searchsorted(line, wanted) - 1
    opens = np.searchsorted(visits.local, np.arange(count))
    person, grid = np.nonzero(places >= opens[:, None])
    return Points(places[person, grid], instants[grid], grid)


class _Seen:
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

    def devices(self, points: Points) -> Floats:
        """P(app share | the devices seen), (n, shares)."""
        with np.errstate(divide="ignore"):
            table = np.maximum(np.log(KIND_SHARES), -1e6)
        weight = self._kinds[points.visit] @ table.T + np.log(DEVICE_PRIOR)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True))
        folded = np.zeros((len(weight), len(APP_SHARES)))
        np.add.at(folded.T, APP_PLACE, weight.T)
        return np.asarray(folded / folded.sum(axis=1, keepdims=True))

    def known(self, points: Points, moves: Floats) -> tuple[Floats, Floats]:
        """The same as a filtered state, by who knows type and stage of the last visit, and by who knows the stage moved to: (n, 2, 2, 4, 6) each."""
        local, every = self.visits.local[points.visit], np.arange(len(points.visit))
        e, f, k = self.people.is_existing[local].astype(np.int64), self.people.has_phone[local].astype(np.int64), self.people.type[local]
        by_stage, by_move = np.zeros((len(every), 2, 2, 4, 6)), np.zeros((len(every), 2, 2, 4, 6))
        by_stage[every, e, f, k] = moves[every, k, self.stage[points.visit]]
        by_move[every, e, f, k, self.moved[points.visit]] = 1.0
        return by_stage, by_move


class _Look:
    """Points of one instant with what lies ahead of them."""

    def __init__(self, visits: Observed, seen: _Seen, points: Points, here: Array, view: Outlook) -> None:
        at, place = points.at[here], points.visit[here]
        ended = np.minimum(visits.ended_at[place], at - 1)
        hours_in, past = ended % DAY_MS / HOUR_MS, at // DAY_MS - ended // DAY_MS
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
        return np.asarray(hits / left)


def _states_at(seen: _Seen, points: Points, rows: Rows, tables: Tables, spec: WorldSpec) -> tuple[Floats, Floats]:
    """P(existing, phone, type, stage of the last visit | what was seen), and P(an order of a visit under way is still to come), at each point.

    A visit whose last row before the instant is under nine minutes old may go on. With C the likelihood of what was seen if that was all, P that of it as a
    beginning, and G the share of gaps that are longer than the silence, its likelihood is C + (P - C) G.
    """
    visits, filtered = seen.visits, seen.filtered
    after, ongoing = filtered.after[points.visit].copy(), np.zeros(len(points.visit))
    numbers = steps_of(rows.serial)
    near = np.flatnonzero(visits.ended_at[points.visit] > points.at - GAP_MOST_MS)
    for instant in np.unique(points.at[near]).tolist():
        here = near[points.at[near] == instant]
        place = points.visit[here]
        seen_rows = rows.take(np.isin(numbers, np.unique(numbers)[place]) & (rows.occurred < instant))
        begun = observed_visits(seen_rows, is_identified=spec.is_identified)
        begun.was_logged_in = visits.was_logged_in[place]
        known = visits.take(visits.ended_at < instant - GAP_MOST_MS)
        whole = contents_likelihood(begun, known, tables, np.full(len(place), SLOTS))
        beginning = contents_likelihood(begun, known, tables, begun.last_slot)
        longer = 1.0 - gap_share(instant - begun.ended_at)
        likelihood = whole + (beginning - whole) * longer[:, None, None, None]
        state = filtered.before[place] * likelihood[:, :, :, None, :]
        state /= state.sum(axis=(1, 2, 3, 4), keepdims=True)
        ongoing[here] = state[..., PURCHASE].sum(axis=(1, 2, 3)) * ~begun.buys
        state[~begun.buys, ..., PURCHASE] = 0.0
        after[here] = state / np.maximum(state.sum(axis=(1, 2, 3, 4), keepdims=True), 1e-300)
    return after, ongoing


def _orders_at(rows: Rows, count: int, local: Array, at: Array, horizon_days: int) -> Bools:
    """Whether each person at each instant has an order within the horizon."""
    bought = rows.event == EVENT["order_completed"]
    span = np.int64(1) << 44
    line = np.sort(rows.local[bought] * span + rows.occurred[bought])
    start = np.searchsorted(line, local * span + at)
    return np.asarray(np.searchsorted(line, local * span + at + horizon_days * DAY_MS) > start)
