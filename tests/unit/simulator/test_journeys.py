"""The journeys: what the model says of stages, visits and channels can be seen in the world."""

from __future__ import annotations

from collections import Counter, defaultdict
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from scipy import stats
from scipy.special import gamma

from ml.simulator import WorldSpec
from ml.simulator import catalogue as cat
from ml.simulator.catalogue import EVENT
from ml.simulator.journeys import MOVES, SOJOURN_DAYS, SOJOURN_SHAPE, TYPE_FORWARD, TYPE_PACE, simulate_journeys
from ml.simulator.people import People, draw_people
from ml.simulator.rows import Rows, steps_of
from ml.simulator.streams import Stream
from tests.unit.simulator.conftest import World

AWARENESS, CONSIDERATION, INTENT, PURCHASE, POST_SALE = range(5)


@pytest.fixture(scope="module")
def journeys() -> tuple[People, Rows]:
    spec = WorldSpec()
    people = draw_people(spec, 0, 3_000, Stream(1, "people"))
    return people, simulate_journeys(people, spec, Stream(1, "journeys"))


@pytest.fixture(scope="module")
def moves(journeys: tuple[People, Rows]) -> Counter[tuple[int, int, int]]:
    """(type, stage, next stage) of successive visits of a customer."""
    people, rows = journeys
    _, first = np.unique(steps_of(rows.serial), return_index=True)
    local, stage = rows.local[first], rows.stage[first]
    following = local[1:] == local[:-1]
    return Counter(zip(people.type[local[:-1][following]].tolist(), stage[:-1][following].tolist(), stage[1:][following].tolist(), strict=True))


def test_rows_are_ordered_and_numbered_once(journeys: tuple[People, Rows]) -> None:
    _, rows = journeys
    assert (np.diff(rows.serial) > 0).all()


def test_only_moves_that_the_table_allows_are_made_and_all_of_them_are(moves: Counter[tuple[int, int, int]]) -> None:
    made = {(stage, to) for _, stage, to in moves}
    assert made == {(stage, to) for stage in range(5) for to in range(5) if MOVES[stage, to] > 0}


def test_journeys_loop_and_jump_back(moves: Counter[tuple[int, int, int]]) -> None:
    total = Counter[str]()
    for (_, stage, to), count in moves.items():
        total["back" if to < stage else "stay" if to == stage else "forward"] += count
    assert min(total.values()) > 0.1 * total.total()


def test_latent_types_move_forward_in_the_order_of_their_multipliers(moves: Counter[tuple[int, int, int]]) -> None:
    share = []
    for kind in range(4):
        counts = Counter[bool]()
        for (mover, stage, to), count in moves.items():
            if mover == kind and stage in {CONSIDERATION, INTENT}:
                counts[to > stage] += count
        share.append(counts[True] / counts.total())
    assert np.argsort(share).tolist() == np.argsort(TYPE_FORWARD).tolist()


def test_waits_before_a_visit_are_as_long_as_the_sojourn_of_its_stage(journeys: tuple[People, Rows]) -> None:
    people, rows = journeys
    _, first = np.unique(steps_of(rows.serial), return_index=True)
    local, stage, start = rows.local[first], rows.stage[first], rows.occurred[first]
    # an aftermath may outlast the wait, so a wait is measured from start to start; visits take minutes, waits days
    following = local[1:] == local[:-1]
    waits = np.diff(start)[following] / 86_400_000 / TYPE_PACE[people.type[local[1:][following]]]
    means = [waits[stage[1:][following] == to].mean() for to in range(5)]
    expected = SOJOURN_DAYS * gamma(1 + 1 / SOJOURN_SHAPE)
    assert len(waits) > 5_000
    assert np.argsort(means).tolist() == np.argsort(expected).tolist()
    # the window cuts long waits, and the hour of the day is drawn anew
    assert all(0.8 * mean < found < 1.1 * mean + 0.3 for found, mean in zip(means, expected, strict=True))


def test_orders_are_placed_in_visits_of_the_purchase_stage_and_in_each_of_them(journeys: tuple[People, Rows]) -> None:
    _, rows = journeys
    assert set(rows.stage[rows.event == EVENT["order_completed"]].tolist()) == {PURCHASE}
    assert set(steps_of(rows.serial[rows.stage == PURCHASE]).tolist()) == set(steps_of(rows.serial[rows.event == EVENT["order_completed"]]).tolist())


def test_some_customers_buy_again_and_most_do_not_buy(journeys: tuple[People, Rows]) -> None:
    people, rows = journeys
    orders = np.bincount(rows.local[rows.event == EVENT["order_completed"]], minlength=len(people))
    assert 0.15 < (orders > 0).mean() < 0.45
    assert 0.15 < (orders > 1).sum() / (orders > 0).sum() < 0.6


def test_refunds_follow_their_order_and_never_exceed_it(journeys: tuple[People, Rows]) -> None:
    _, rows = journeys
    bought = {
        order: (at, amount)
        for order, at, amount, event in zip(rows.order, rows.occurred, rows.amount, rows.event, strict=True)
        if event == EVENT["order_completed"]
    }
    refunds = np.flatnonzero(rows.event == EVENT["order_refunded"])
    assert len(refunds) > 10
    for place in refunds:
        at, amount = bought[rows.order[place]]
        assert rows.occurred[place] > at and 0 < -rows.amount[place] <= amount


def test_a_login_is_followed_by_rows_that_carry_the_account(journeys: tuple[People, Rows]) -> None:
    _, rows = journeys
    by_visit: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for visit, event, user, cookie in zip(steps_of(rows.serial).tolist(), rows.event.tolist(), rows.user.tolist(), rows.cookie.tolist(), strict=True):
        if cookie >= 0:
            by_visit[visit].append((event, user))
    logins = 0
    for seen in by_visit.values():
        at = next((place for place, (event, _) in enumerate(seen) if event in {EVENT["logged_in"], EVENT["signed_up"]}), None)
        if at is not None:
            logins += 1
            assert all(user == 1 for _, user in seen[at:]) and not any(user for _, user in seen[:at])
    assert logins > 100


def test_persons_have_several_devices_and_renewed_cookies(world: World) -> None:
    devices = Counter(d["person_id"] for d in world.truth("devices"))
    numbers = {(d["person_id"], d["device_number"]) for d in world.truth("devices")}
    assert max(devices.values()) >= 4
    assert len(numbers) < len(world.truth("devices")), "some device must have had more than one cookie"
    assert max(Counter(person for person, _ in numbers).values()) >= 3


def test_every_channel_event_and_way_in_occurs(rows: list[dict[str, str]]) -> None:
    assert {row["channel"] for row in rows} == set(cat.CHANNELS)
    assert {row["event_name"] for row in rows} == {export for _, export in cat.EVENTS if export}
    found = {name for row in rows for name in parse_qs(urlsplit(row["page_url"]).query)}
    assert found >= {"utm_source", "utm_medium", "utm_campaign", "gclid", "gbraid", "dclid", "msclkid", "fbclid", "ttclid", "twclid"}
    assert {entry.referrer for entry in cat.ENTRIES} <= {row["referrer"] for row in rows}


def test_systems_without_devices_name_no_device(rows: list[dict[str, str]]) -> None:
    for row in rows:
        if row["channel"] in {"email", "crm", "support", "offline"}:
            assert not row["anonymous_id"] and not row["user_agent"], row


def test_first_touches_spread_over_the_window(journeys: tuple[People, Rows]) -> None:
    people, _ = journeys
    spec, new = WorldSpec(), people.first_touch[~people.is_existing]
    share = (new - spec.start_ms) / (spec.end_ms - spec.start_ms) / (0.92 * (spec.days - 1) / spec.days)
    assert stats.kstest(share, "uniform").pvalue > 1e-4


def test_the_window_holds_every_event(journeys: tuple[People, Rows]) -> None:
    _, rows = journeys
    assert WorldSpec().start_ms <= rows.occurred.min() and rows.occurred.max() < WorldSpec().end_ms
