"""The oracle's parts against the world itself: the law of waits, the look ahead, what is read from rows; and its probabilities against what happened."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score

from ml.simulator import Drift, WorldSpec
from ml.simulator.catalogue import EVENT
from ml.simulator.journeys import State, first_state, in_order, journey_steps, last_start_ms, tables_of
from ml.simulator.oracle import mondays, oracle_scores
from ml.simulator.oracle.filtering import filter_visits
from ml.simulator.oracle.horizon import APP_SHARES, outlook
from ml.simulator.oracle.observed import KINDS, Observed, observed_visits
from ml.simulator.oracle.points import Look, Seen, believed_states, places_at
from ml.simulator.oracle.waiting import HOUR_SHARES, not_started, start_shares, wait_likelihood
from ml.simulator.people import People, draw_people
from ml.simulator.rows import steps_of
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Stream
from ml.simulator.visits import GAP_MOST_MS, HOUR_MS, SITE
from waymark.core.errors import SettingsError

Floats = npt.NDArray[np.float64]
Z = stats.norm.ppf(1 - 0.5e-4)  # a band that a true claim leaves once in ten thousand tries
IDENTIFIED = WorldSpec(customers=4_000, seed=11, mechanisms={}, is_identified=True)
PROBABILITIES = ("p_observable", "p_visit_state", "p_latent")


@cache
def scores_of(customers: int, seed: int, is_identified: bool = True) -> pa.Table:
    return oracle_scores(WorldSpec(customers=customers, seed=seed, mechanisms={}, is_identified=is_identified))


def numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def misses(chance: Floats, happened: Floats, group: npt.NDArray[np.int64]) -> Floats:
    """How many standard deviations the number of orders lies from its expectation, by group.

    Horizons of a week from Monday to Monday do not overlap, so a person's surprises are uncorrelated and the variance is that of independent draws.
    """
    expected, found, variance = (np.bincount(group, weights) for weights in (chance, happened, chance * (1 - chance)))
    enough = variance > 8  # below that, a normal band is no band
    return np.asarray((found - expected)[enough] / np.sqrt(variance[enough]))


def calibration(chance: Floats, happened: Floats) -> tuple[Floats, Floats]:
    """(intercept, slope) of a logistic regression of what happened on the log-odds, and their standard errors."""
    odds = np.clip(np.log(chance) - np.log1p(-chance), -30, 30)
    design = np.stack([np.ones_like(odds), odds], axis=1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = design @ weights
        return float(np.logaddexp(0, margin).sum() - happened @ margin), design.T @ (1 / (1 + np.exp(-margin)) - happened)

    found = optimize.minimize(loss, np.array([0.0, 1.0]), jac=True).x
    share = 1 / (1 + np.exp(-(design @ found)))
    return found, np.sqrt(np.diag(np.linalg.inv(design.T @ (design * (share * (1 - share))[:, None]))))


# --- the law of waits


def test_the_hour_of_the_next_visit_is_distributed_as_the_world_draws_it() -> None:
    spec = WorldSpec(customers=6_000, days=1_200, mechanisms={})  # so long that the window's end cuts next to no wait
    people = draw_people(spec, 0, spec.customers, Stream(3, "people"))
    steps = list(journey_steps(people, spec, Stream(3, "journeys")))
    expected, found = np.zeros((4, 24)), np.zeros((4, 24))
    for step, following in pairwise(steps):
        at = np.searchsorted(step.visits.who, following.visits.who)
        ended, start, kind = step.ended[at], following.visits.start, people.type[following.visits.who]
        for day in range(4):
            expected[day] += start_shares(ended % DAY_MS / HOUR_MS, day)[np.arange(len(at)), kind, following.visits.stage].sum(axis=0)
        hours = (start - ended // DAY_MS * DAY_MS) // HOUR_MS
        found += np.bincount(hours[hours < 96], minlength=96).reshape(4, 24)
    assert found.sum() > 10_000
    enough = expected > 5
    assert stats.chi2.sf(((found - expected)[enough] ** 2 / expected[enough]).sum(), enough.sum()) > 1e-4
    assert stats.poisson.sf(found[~enough].sum() - 1, expected[~enough].sum()) > 1e-4


@pytest.mark.parametrize("hours_in", [0.4, 9.0, 17.6, 21.9, 22.5, 23.9])
def test_starts_and_waits_sum_to_one(hours_in: float) -> None:
    moment = np.array([hours_in])
    days = [start_shares(moment, day).sum(axis=3) for day in range(12)]
    for past in (1, 2, 5, 12):
        assert np.allclose(not_started(moment, np.array([past])), 1 - sum(days[:past]), atol=1e-12)
    # the likelihood of a first row is a density, and agrees with the starts: a row comes seconds to minutes after its visit's start
    ended = np.array([round(hours_in * HOUR_MS)])
    seconds = np.arange(0, round((72 - hours_in) * 3600), 20)
    density = wait_likelihood(np.repeat(ended, len(seconds)), ended + seconds * 1000)
    assert np.allclose(density.sum(axis=0) * 20 / 3600, 1 - not_started(moment, np.array([3])), atol=0.02)
    assert (wait_likelihood(ended, ended + 2 * HOUR_MS) == 0).all()


# --- the look ahead


def clones(people: People, state: State, *, kind: int, stage: int, phone: bool, app: bool) -> None:
    people.type[:], people.has_phone[:], people.device_count[:] = kind, phone, 1
    people.agents[:, 0] = 11 if app else 1
    state.stage[:] = stage


STATES = [  # type, stage, reachable, after_social, has_phone, app, days ahead
    (0, 0, False, False, False, False, 7), (0, 2, True, True, True, False, 7), (1, 1, False, True, True, False, 7), (2, 2, True, False, False, True, 7),
    (3, 4, True, True, True, False, 14), (3, 2, False, False, False, False, 1), (2, 0, True, True, False, True, 21),
]  # fmt: skip


def share_with_order(count: int, place: int, spec: WorldSpec, as_of: int, days: int) -> float:
    kind, stage, reachable, social, phone, app, _ = STATES[place]
    people, stream = draw_people(spec, 0, count, Stream(99, "people")), Stream(place, "clones")
    state = first_state(people, stream)
    clones(people, state, kind=kind, stage=stage, phone=phone, app=app)
    state.time = as_of + state.time % DAY_MS
    # somebody who can be written to has an account or only a subscription: it makes no difference
    state.reachable[:], state.registered[:], state.after_social[:] = reachable, reachable & (people.number % 2 == 0), social
    bought = np.zeros(count, dtype=np.bool_)
    for step in journey_steps(people, spec, stream, state):
        orders = (step.rows.event == EVENT["order_completed"]) & (step.rows.occurred < as_of + days * DAY_MS)
        bought[step.rows.local[orders]] = True
    return float(bought.mean())


def chance_ahead(place: int, spec: WorldSpec, as_of: int, days: int) -> float:
    kind, stage, reachable, social, phone, app, _ = STATES[place]
    view = outlook(tables_of(spec), as_of, min(last_start_ms(spec), as_of + days * DAY_MS), days)
    app_place = int(np.flatnonzero(float(app) == APP_SHARES)[0])
    return float(view.hours[app_place, int(social), kind, stage, 0, :, int(reachable), int(phone)] @ HOUR_SHARES)


@pytest.mark.parametrize("place", range(len(STATES)))
def test_the_look_ahead_agrees_with_simulating_from_the_same_state(place: int) -> None:
    days = STATES[place][-1]
    # a drift three days ahead, and a window that ends long before the horizon does
    spec = WorldSpec(days=60, mechanisms={}, drift=Drift(day=41, forward=0.6, leaving=1.3, channels={"email": 3.0}) if place % 2 else None)
    as_of = spec.start_ms + (38 if days < 14 else 60 - days // 3) * DAY_MS
    count = 6_000
    chance, found = chance_ahead(place, spec, as_of, days), share_with_order(count, place, spec, as_of, days)
    low, high = stats.binom.ppf([0.5e-4, 1 - 0.5e-4], count, chance) / count
    assert low <= found <= high, (chance, found)


@pytest.mark.prove
@pytest.mark.parametrize("place", range(len(STATES)))
def test_the_look_ahead_errs_by_less_than_one_percent(place: int, record_property: pytest.RecordProperty) -> None:
    spec, days, count = WorldSpec(days=120, mechanisms={}), STATES[place][-1], 400_000
    as_of = spec.start_ms + 38 * DAY_MS
    chance, found = chance_ahead(place, spec, as_of, days), share_with_order(count, place, spec, as_of, days)
    spread = Z * (chance * (1 - chance) / count) ** 0.5
    record_property("claim", f"the oracle's look ahead from state {place} is within 1 % of simulation ({chance:.5f}, {found:.5f})")
    record_property("n", count)
    record_property("interval", f"{spread:.5f}")
    assert abs(chance - found) < spread + 0.01 * found


# --- what is seen


def journeys_of(spec: WorldSpec) -> tuple[People, Observed, npt.NDArray[np.int64]]:
    people = draw_people(spec, 0, spec.customers, Stream(spec.seed, "people"))
    steps = list(journey_steps(people, spec, Stream(spec.seed, "journeys")))
    rows = in_order([step.rows for step in steps])
    order = np.argsort(np.concatenate([step.visits.key for step in steps]))
    stage = np.concatenate([step.visits.stage for step in steps])[order]
    rows.stage[:] = 0  # whoever looks at it sees nothing
    return people, observed_visits(rows, is_identified=spec.is_identified), stage


def test_what_is_read_from_rows_is_what_the_visits_were() -> None:
    spec = WorldSpec(customers=300, mechanisms={})
    people = draw_people(spec, 0, 300, Stream(1, "people"))
    steps = list(journey_steps(people, spec, Stream(1, "journeys")))
    seen = observed_visits(in_order([step.rows for step in steps]), is_identified=False)
    order = np.argsort(np.concatenate([step.visits.key for step in steps]))

    def true(name: str) -> npt.NDArray[np.int64]:
        return np.asarray(np.concatenate([getattr(step.visits, name) for step in steps])[order])

    on_site = true("contact") == SITE
    assert (seen.contact == true("contact")).all() and (seen.way_in == true("way_in"))[on_site].all()
    assert ((seen.kind == KINDS.index("app")) == (true("is_app") & on_site)).all()
    for name in ("signs_up", "logs_in", "subscribes", "chats", "buys", "was_logged_in"):
        assert (getattr(seen, name) == true(name)).all(), name
    assert (seen.ended_at == np.concatenate([step.ended for step in steps])[order]).all()
    assert (seen.first_at > true("start")).all()


def test_what_happens_later_changes_no_probability_and_what_is_not_seen_neither() -> None:
    plain = WorldSpec(customers=250, seed=5, mechanisms={})
    drifted = WorldSpec(customers=250, seed=5, mechanisms={}, drift=Drift(day=90, forward=3.0, channels={"email": 5.0}))
    moments = [moment for moment in mondays(plain) if moment <= datetime.combine(plain.start, datetime.min.time()) + timedelta(days=83)]
    one, other = (oracle_scores(spec, moments) for spec in (plain, drifted))
    assert one.select(["person_id", "as_of_at", "p_observable"]).equals(other.select(["person_id", "as_of_at", "p_observable"]))
    later = [oracle_scores(spec, mondays(plain)[-8:])["is_converted"].to_pylist() for spec in (plain, drifted)]
    assert later[0] != later[1]


# --- the probabilities


@pytest.mark.prove
@pytest.mark.parametrize("is_identified", [True, False])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_of_persons_with_equal_probability_that_share_buys(name: str, is_identified: bool) -> None:
    table = scores_of(4_000, 11, is_identified)
    chance, happened = numbers(table, name), numbers(table, "is_converted")
    inside = (chance > 0) & (chance < 1)
    assert not happened[chance == 0].any() and happened[chance == 1].all()
    # bins that expect equally many orders
    order = np.argsort(chance)
    bins = np.empty(len(chance), dtype=np.int64)
    bins[order] = np.minimum(np.cumsum(chance[order]) / chance.sum() * 12, 11).astype(np.int64)
    assert np.abs(misses(chance, happened, bins)).max() < Z
    found, error = calibration(chance[inside], happened[inside])
    assert np.abs((found - [0.0, 1.0]) / error).max() < Z


@pytest.mark.prove
def test_no_part_of_what_was_seen_tells_more_than_the_probability_says() -> None:
    table = scores_of(4_000, 11)
    _, visits, _ = journeys_of(IDENTIFIED)
    at = np.array([(moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1) for moment in mondays(IDENTIFIED)])
    places = places_at(visits, IDENTIFIED.customers, at)
    person, week = np.nonzero(places >= 0)
    place = places[person, week]
    last, chance, happened = visits.take(place), numbers(table, "p_observable"), numbers(table, "is_converted")
    opens = np.searchsorted(visits.local, last.local)
    age = (at[week] - last.ended_at) // DAY_MS
    groups = {name: getattr(last, name) for name in (
        "contact", "kind", "way_in", "phone", "chats", "signs_up", "logs_in", "subscribes", "fills", "checks_out", "buys", "reviews", "was_logged_in",
        "browsed", "products",
    )}  # fmt: skip
    groups |= {"visits": np.minimum(place - opens, 9), "days since": np.minimum(age, 30), "hour": last.ended_at % DAY_MS // HOUR_MS, "week": week}
    surprises = {name: misses(chance, happened, np.asarray(group, dtype=np.int64) + 1) for name, group in groups.items()}
    tried = sum(len(found) for found in surprises.values())
    assert tried > 100
    worst = max((float(np.abs(found).max()), name) for name, found in surprises.items() if len(found))
    assert worst[0] < stats.norm.ppf(1 - 0.5e-4 / tried), worst


def test_the_mean_of_what_is_known_of_the_latent_state_is_the_observable_probability() -> None:
    table = scores_of(4_000, 11)
    chance = numbers(table, "p_observable")
    person = np.unique(table["person_id"].to_pylist(), return_inverse=True)[1]
    bins = np.searchsorted([0.001, 0.01, 0.03, 0.1, 0.2], chance)
    for name in PROBABILITIES[1:]:
        excess = numbers(table, name) - chance
        for place in range(6):
            inside = bins == place
            by_person = np.bincount(person[inside], excess[inside])
            assert abs(by_person.sum()) < Z * np.sqrt((by_person**2).sum()), (name, place)


def test_the_latent_state_tells_clearly_more_and_the_observable_history_clearly_something() -> None:
    table = scores_of(4_000, 11)
    happened = numbers(table, "is_converted")
    person = np.unique(table["person_id"].to_pylist(), return_inverse=True)[1]
    chances = {name: numbers(table, name) for name in PROBABILITIES}
    random = np.random.default_rng(1)
    areas = []
    for _ in range(25):
        weight = random.poisson(1.0, person.max() + 1)[person]
        areas.append([roc_auc_score(happened, chance, sample_weight=weight) for chance in chances.values()])
    gains = np.diff(np.array(areas), axis=1)
    assert (gains.mean(axis=0) > 5 * gains.std(axis=0)).all(), "visit's stage and type tell more than history; the stage moved to more than those"
    assert gains.sum(axis=1).mean() > 0.04
    losses = [-np.where(happened > 0, np.log(np.maximum(chance, 1e-12)), np.log1p(-np.minimum(chance, 1 - 1e-12))) for chance in chances.values()]
    base = happened.mean()
    losses.insert(0, -np.where(happened > 0, np.log(base), np.log1p(-base)))
    for worse, better in pairwise(losses):
        saved = np.bincount(person, worse - better)
        assert saved.sum() > 5 * np.sqrt((saved**2).sum() - saved.sum() ** 2 / len(saved))


@pytest.mark.prove
def test_a_drifted_world_has_its_own_true_probabilities() -> None:
    spec = WorldSpec(customers=2_500, seed=2, mechanisms={}, drift=Drift(day=80, forward=0.35, leaving=1.5, channels={"paid_social": 4.0}))
    table = oracle_scores(spec)
    days = (table["as_of_at"].to_numpy().astype("datetime64[ms]").astype(np.int64) - spec.start_ms) // DAY_MS
    drifted = (days + 7 > 80).astype(np.int64)
    surprise = misses(numbers(table, "p_observable"), numbers(table, "is_converted"), drifted)
    assert len(surprise) == 2 and np.abs(surprise).max() < Z
    blind = oracle_scores(WorldSpec(customers=2_500, seed=2, mechanisms={}))
    assert numbers(table, "is_converted")[drifted == 1].mean() < 0.7 * numbers(blind, "is_converted").mean()


@pytest.mark.prove
def test_of_visits_under_way_that_share_ends_in_an_order_that_was_foreseen() -> None:
    people = draw_people(IDENTIFIED, 0, IDENTIFIED.customers, Stream(IDENTIFIED.seed, "people"))
    steps = list(journey_steps(people, IDENTIFIED, Stream(IDENTIFIED.seed, "journeys")))
    rows = in_order([step.rows for step in steps])
    visits = observed_visits(rows, is_identified=True)
    tables = tables_of(IDENTIFIED)
    seen = Seen(visits, filter_visits(visits, tables, IDENTIFIED), people, steps)
    bought = rows.event == EVENT["order_completed"]
    ordered_at = np.zeros(len(visits), dtype=np.int64)
    ordered_at[np.searchsorted(np.unique(steps_of(rows.serial)), steps_of(rows.serial[bought]))] = rows.occurred[bought]
    chance, happened = [], []
    for day, hour in product(range(181), (10, 14, 18, 21)):  # not at midnight, when few are there
        instant = IDENTIFIED.start_ms + day * DAY_MS + hour * HOUR_MS
        places = places_at(visits, IDENTIFIED.customers, np.array([instant]))[:, 0]
        place = places[(places >= 0) & (visits.ended_at[places] > instant - GAP_MOST_MS)]
        state, coming = believed_states(seen, place, instant, rows, tables=tables, spec=IDENTIFIED)
        assert np.allclose(state.sum(axis=(1, 2, 3, 4)) + (coming > 1 - 1e-12), 1)
        chance.append(coming)
        happened.append(ordered_at[place] >= instant)
    foreseen, came = np.concatenate(chance), np.concatenate(happened).astype(np.float64)
    assert came.sum() > 15 and foreseen.max() > 0.99
    bins = np.searchsorted([0.02, 0.08, 0.2, 0.5, 0.9], foreseen)
    for place in range(6):
        expected, variance = foreseen[bins == place].sum(), (foreseen * (1 - foreseen))[bins == place].sum()
        assert abs(came[bins == place].sum() - expected) < Z * np.sqrt(variance) + 1, place
    # where nothing but a purchase is possible, nothing else is left to look ahead from
    midnight = IDENTIFIED.start_ms + 90 * DAY_MS
    one = places_at(visits, IDENTIFIED.customers, np.array([midnight])).max(axis=0)
    look = Look(seen, one, midnight, outlook(tables, midnight, midnight + DAY_MS, 1))
    assert look.chance(np.zeros((1, 2, 2, 4, 6)), seen.devices(one)).tolist() == [0.0]


@pytest.mark.prove
def test_orders_of_visits_under_way_are_foreseen(record_property: pytest.RecordProperty) -> None:
    spec = WorldSpec(customers=16_000, seed=3, mechanisms={}, is_identified=True)
    days = [datetime.combine(spec.start, datetime.min.time()) + timedelta(days=day) for day in range(1, spec.days - 1)]
    table = oracle_scores(spec, days, 1)
    age = (table["as_of_at"].to_numpy() - table["last_seen_at"].to_numpy()) / np.timedelta64(1, "s")
    chance, happened = numbers(table, "p_observable"), numbers(table, "is_converted")
    under_way = age < 120
    record_property("claim", "orders whose visit spans the instant are foreseen as often as they happen")
    record_property("n", int(under_way.sum()))
    record_property("seed", 3)
    record_property("interval", "normal band at 1e-4")
    assert np.abs(misses(chance, happened, under_way.astype(np.int64))).max() < Z
    assert chance[under_way].max() > 0.7, "a checkout seconds ago is followed by an order"


@pytest.mark.prove
def test_the_probabilities_are_calibrated_in_a_large_world(record_property: pytest.RecordProperty) -> None:
    table = scores_of(40_000, 21)
    happened = numbers(table, "is_converted")
    record_property("claim", "p_observable, p_visit_state and p_latent are calibrated: slope, intercept, 20 bins of equally many expected orders")
    record_property("n", table.num_rows)
    record_property("seed", 21)
    record_property("interval", "normal bands at 1e-4")
    for name in PROBABILITIES:
        chance = numbers(table, name)
        order = np.argsort(chance)
        bins = np.empty(len(chance), dtype=np.int64)
        bins[order] = np.minimum(np.cumsum(chance[order]) / chance.sum() * 20, 19).astype(np.int64)
        assert np.abs(misses(chance, happened, bins)).max() < Z, name
        inside = (chance > 0) & (chance < 1)
        found, error = calibration(chance[inside], happened[inside])
        assert np.abs((found - [0.0, 1.0]) / error).max() < Z, name


def test_scores_are_the_same_whoever_else_is_in_the_world_and_ordered() -> None:
    few, more = (oracle_scores(WorldSpec(customers=count, mechanisms={}), mondays(WorldSpec())[3:5]) for count in (40, 60))
    assert few.equals(more.slice(0, few.num_rows))
    keys = list(zip(more["person_id"].to_pylist(), more["as_of_at"].to_pylist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == len(keys)


def test_impossible_instants_and_horizons_are_refused() -> None:
    spec = WorldSpec(customers=10, mechanisms={})
    with pytest.raises(SettingsError, match="no midnight"):
        oracle_scores(spec, [datetime(2026, 2, 2, 1)])
    with pytest.raises(SettingsError, match="no midnight"):
        oracle_scores(spec, [datetime(2027, 2, 2)])
    with pytest.raises(SettingsError, match="horizon_days is 0"):
        oracle_scores(spec, mondays(spec), 0)
