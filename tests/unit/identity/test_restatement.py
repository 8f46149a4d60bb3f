"""Whatever differs between the marts before and after a run must be named by the restated tables."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from datetime import datetime

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Event, minutes
from warehouse_double import WarehouseDouble
from worlds import random_batches


class Marts:
    """Sessions and customers of all events, as the models make them."""

    def __init__(self, events: dict[str, Event], limit: int) -> None:
        self.events = dict(events)
        log = list(events.values())
        known = reference.memberships(log, limit)
        self.customer = {item.event_id: reference.customer_of(item, known) for item in log}
        self.session = reference.sessions(log)
        self.members: dict[reference.SessionId, set[tuple[Event, str | None]]] = defaultdict(set)
        for event_id, session in self.session.items():
            self.members[session].add((events[event_id], self.customer[event_id]))
        self.clusters: dict[str, set[int]] = defaultdict(set)
        for node, customer in known.items():
            self.clusters[customer].add(node)


class Scope:
    """What identity names for re-statement."""

    def __init__(self, double: WarehouseDouble) -> None:
        self.keys: dict[int, datetime] = dict(double.connection.execute("from identity.restated_session_keys").fetchall())
        self.events, self.customers, self.orders = (
            {value for (value,) in double.connection.execute(f"from identity.{name}").fetchall()}
            for name in ("restated_events", "restated_customers", "restated_orders")
        )
        self.placements: set[tuple[str, datetime]] = set(double.connection.execute("from identity.restated_placements").fetchall())
        assert len(self.keys) == len(double.table("restated_session_keys")), "one row per key"
        assert len(self.events) == len(double.table("restated_events")) and len(self.customers) == len(double.table("restated_customers"))

    def has_instant(self, event: Event) -> bool:
        return event.is_counted and event.session_key_id in self.keys and self.keys[event.session_key_id] <= event.occurred_at


def check_scope(scope: Scope, before: Marts, after: Marts) -> None:
    for event_id, event in after.events.items():
        old = before.events.get(event_id)
        changed = old != event or before.customer.get(event_id) != after.customer[event_id] or before.session.get(event_id) != after.session.get(event_id)
        if not changed:
            continue
        # The row that is written anew must be in scope, and so must the row that it replaces.
        assert event_id in scope.events or (scope.has_instant(event) and (old is None or scope.has_instant(old)))
        # A conversion that becomes nobody's, or was, is in no customer's scope.
        assert event_id in scope.events or not event.is_conversion_event or None not in (before.customer.get(event_id), after.customer[event_id])
        if event_id in after.session:
            assert scope.has_instant(event), "an event in scope by its id alone would find no session"
        assert {before.customer.get(event_id), after.customer[event_id]} - {None} <= scope.customers
        orders = {item.order_id for item in (old, event) if item and item.is_conversion_event and old != event}
        assert orders - {None} <= scope.orders
    for session in set(before.members) | set(after.members):
        if before.members.get(session) != after.members.get(session):
            key, started_at = session
            assert scope.keys[key] <= started_at
            touched = before.members.get(session, set()) | after.members.get(session, set())
            assert {customer for _, customer in touched} - {None} <= scope.customers
    for customer in set(before.clusters) | set(after.clusters):
        if before.clusters.get(customer) != after.clusters.get(customer):
            assert customer in scope.customers
    for event in after.events.values():
        if event.is_conversion_event and event.event_id in scope.events:
            # Reports of one order are judged together, and a conversion's journey is looked up among its customer's.
            assert event.order_id is None or event.order_id in scope.orders
            assert {before.customer.get(event.event_id), after.customer[event.event_id]} - {None} <= scope.customers
    judged_anew = {item.order_id for _, item in both_contents(before, after) if item.is_conversion_event} - {None}
    for event in after.events.values():
        if event.is_conversion_event and event.order_id in judged_anew:
            assert event.event_id in scope.events
            assert event.session_key_id is None or not event.is_counted or scope.has_instant(event)
    check_sessions_can_be_cut(scope, after)
    check_placements(scope, before, after)


def check_placements(scope: Scope, *states: Marts) -> None:
    """Placements are the named events and those of the named sessions, no other counted event of a session, at every instant that a table may hold.

    states: what the tables may hold; the last is what they will.
    """
    named = {event_id for event_id, _ in scope.placements}
    for event in states[-1].events.values():
        is_named = event.event_id in scope.events or scope.has_instant(event)
        assert (event.event_id in named) == is_named
        held = {(event.event_id, state.events[event.event_id].occurred_at) for state in states if event.event_id in state.events}
        assert not is_named or held <= scope.placements
        assert not is_named or not event.is_counted or event.session_key_id is None or scope.has_instant(event), "its session would be cut without the others"


def both_contents(before: Marts, after: Marts) -> list[tuple[str, Event]]:
    """Old and new contents of events that are new or flipped."""
    changed = [event_id for event_id, event in after.events.items() if before.events.get(event_id) != event]
    return [(event_id, marts.events[event_id]) for event_id in changed for marts in (before, after) if event_id in marts.events]


def check_sessions_can_be_cut(scope: Scope, after: Marts) -> None:
    """Sessionizing only what is in scope gives the sessions of the whole log."""
    part = [event for event in after.events.values() if scope.has_instant(event)]
    assert reference.sessions(part) == {event.event_id: after.session[event.event_id] for event in part}


def check_moved_rows(double: WarehouseDouble, runs_before: int, before: Marts, after: Marts) -> None:
    """The log tells of every event that counts and names whom it named, and of no other, between which customers it went."""
    differing: Counter[tuple[str, str | None]] = Counter()
    for event_id, event in after.events.items():
        old, was = before.events.get(event_id), before.customer.get(event_id)
        is_as_it_was = event.is_counted and old is not None and old.is_counted and old.identifiers == event.identifiers
        if is_as_it_was and was is not None and was != after.customer[event_id]:
            differing[was, after.customer[event_id]] += 1
    told: Counter[tuple[str, str | None]] = Counter()
    logged = double.connection.execute("select customer_before, customer_after, rows_by_table from identity.restatements where run_number > ?", [runs_before])
    for customer, became, rows_by_table in logged.fetchall():
        told[customer, became] += json.loads(rows_by_table).get("marts.fct_events", 0)
    assert +told == differing


def runs_logged(double: WarehouseDouble) -> int:
    return int(double.connection.execute("select coalesce(max(run_number), 0) from identity.restatements").fetchall()[0][0])


def check_runs(seed: int, limit: int, batches: int, events: int, flips: float) -> None:
    double = WarehouseDouble(limit)
    before = Marts({}, limit)
    for batch in random_batches(random.Random(seed), events=events, batches=batches, people=5, flips=flips):
        double.put(batch)
        logged = runs_logged(double)
        double.resolve()
        after = Marts(double.events, limit)
        check_scope(Scope(double), before, after)
        check_moved_rows(double, logged, before, after)
        double.build_marts()
        double.finish()
        before = after


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([1, 2, 3, 8]), batches=st.integers(2, 5), events=st.integers(5, 60), flips=st.sampled_from([0.0, 0.2]))
def test_every_change_is_in_scope(seed: int, limit: int, batches: int, events: int, flips: float) -> None:
    check_runs(seed, limit, batches, events, flips)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(70))
def test_every_change_is_in_scope_at_length(seed: int) -> None:
    stream = random.Random(seed)
    check_runs(seed, stream.choice([1, 2, 3, 8]), stream.randrange(2, 8), stream.randrange(5, 150), stream.choice([0.0, 0.1, 0.4]))


def check_unfinished_runs(seed: int, limit: int) -> None:
    stream = random.Random(seed)
    double = WarehouseDouble(limit)
    unfinished_since = Marts({}, limit)
    built: list[Marts] = []
    for batch in random_batches(stream, events=45, batches=6, people=4, flips=0.4):
        double.put(batch)
        double.resolve()
        after = Marts(double.events, limit)
        check_scope(Scope(double), unfinished_since, after)
        check_placements(Scope(double), unfinished_since, *built, after)
        if stream.random() < 0.5:
            double.build_marts()
            built.append(after)
            if stream.random() < 0.6:
                double.finish()
                unfinished_since, built = after, []


@pytest.mark.prove
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([1, 2, 3]))
def test_every_change_is_in_scope_over_runs_that_did_not_finish(seed: int, limit: int) -> None:
    check_unfinished_runs(seed, limit)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(50))
def test_every_change_is_in_scope_over_runs_that_did_not_finish_at_length(seed: int) -> None:
    check_unfinished_runs(seed, 1 + seed % 3)


def shopper(number: int, at: float, device: str, key: int | None = None, **more: object) -> Event:
    return Event(f"{number:032x}", minutes(at), key, (("anonymous_id", device),), **more)  # type: ignore[arg-type]


def test_a_late_event_restates_from_the_start_of_the_session_that_it_may_extend() -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 0, "a", 1), shopper(2, 20, "a", 1), shopper(3, 200, "a", 1)])
    double.put([shopper(4, 45, "a", 1)])
    double.resolve()
    assert double.table("restated_session_keys") == [(1, minutes(0))]
    assert double.table("restated_events") == [(f"{4:032x}",)]


def test_an_event_before_all_sessions_restates_from_itself() -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 100, "a", 1)])
    double.put([shopper(2, 80, "a", 1)])
    double.resolve()
    assert double.table("restated_session_keys") == [(1, minutes(80))]


def test_an_increment_that_changes_no_customer_restates_only_what_it_touches() -> None:
    double = WarehouseDouble()
    double.run([shopper(number, number, f"d{number}", number) for number in range(1, 40)])
    double.put([shopper(50, 500, "d1", 1), shopper(51, 500, "new", 77)])
    report = double.resolve()
    assert report.changed_clusters == 1
    assert [row[0] for row in double.table("restated_session_keys")] == [1, 77]
    assert len(double.table("restated_events")) == 2
    customers = {reference.node_customer_id("anonymous_id", device) for device in ("d1", "new")}
    assert {row[0] for row in double.table("restated_customers")} == customers


def test_a_login_restates_all_sessions_of_the_device_whose_customer_changes() -> None:
    double = WarehouseDouble()
    user = ("user_id", "u")
    double.run(
        [
            shopper(1, 0, "a", 1),
            shopper(2, 5, "b", 2),
            shopper(3, 300, "b", 2),
            shopper(4, 6, "b"),
            Event(f"{5:032x}", minutes(1), None, (("anonymous_id", "a"), user)),
        ]
    )
    double.put([Event(f"{6:032x}", minutes(900), 9, (("anonymous_id", "b"), user))])
    double.resolve()
    assert double.table("restated_session_keys") == [(2, datetime(1, 1, 1)), (9, minutes(900))]
    assert double.table("restated_events") == [(f"{4:032x}",), (f"{6:032x}",)]


def log_of(double: WarehouseDouble) -> list[tuple[object, ...]]:
    columns = "customer_before, customer_after, why, identifier_count, rows_by_table"
    return sorted(double.connection.execute(f"select {columns} from identity.restatements").fetchall(), key=str)


def test_of_a_customer_that_comes_apart_each_part_is_told_its_own_rows() -> None:
    device, tablet, mail, user = ("anonymous_id", "a"), ("anonymous_id", "b"), ("email", "m"), ("user_id", "u")
    double = WarehouseDouble(limit=2)
    double.run([Event(f"{1:032x}", minutes(0), 1, (user, device)), Event(f"{2:032x}", minutes(1), 2, (user, tablet)), shopper(3, 2, "b"), shopper(4, 3, "b")])
    double.run([Event(f"{5:032x}", minutes(9), None, (user, mail))])
    before = reference.node_customer_id(*device)
    assert log_of(double) == sorted([
        (before, None, "guard_crossing", 1, "{}"),
        (before, reference.node_customer_id(*tablet), "guard_crossing", 1, '{"marts.fct_events":3}'),
    ], key=str)  # fmt: skip


def test_rows_that_go_to_a_customer_to_whom_no_identifier_went_are_told() -> None:
    """A device of one account becomes nobody's; what another account did on it was the first one's, and is its own now."""
    device, mail, ann, ben = ("anonymous_id", "a"), ("email", "m"), ("user_id", "shop:1"), ("user_id", "shop:2")
    double = WarehouseDouble(limit=2)
    double.run([Event(f"{1:032x}", minutes(0), 1, (device, ann)), Event(f"{2:032x}", minutes(50), 1, (device, ben))])
    double.run([Event(f"{3:032x}", minutes(90), None, (device, mail))])
    before = reference.node_customer_id(*device)
    assert log_of(double) == sorted([
        (before, None, "guard_crossing", 1, "{}"),
        (before, reference.node_customer_id(*ann), "guard_crossing", 1, '{"marts.fct_events":1}'),
        (before, reference.node_customer_id(*ben), "guard_crossing", 0, '{"marts.fct_events":1}'),
    ], key=str)  # fmt: skip


def test_a_second_report_of_an_order_restates_the_first_ones_customer() -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 50, "a", 1, is_conversion_event=True, order_id="o"), shopper(2, 60, "c", 3)])
    double.put([shopper(3, 40, "b", 2, is_conversion_event=True, order_id="o")])
    double.resolve()
    assert double.table("restated_orders") == [("o",)]
    assert {row[0] for row in double.table("restated_session_keys")} == {1, 2}
    assert {row[0] for row in double.table("restated_customers")} == {reference.node_customer_id("anonymous_id", device) for device in "ab"}
    assert len(double.table("restated_events")) == 2


def test_a_conversion_of_nobody_whose_session_grows_is_named_with_its_order() -> None:
    double = WarehouseDouble(limit=1)
    device, users = ("anonymous_id", "a"), [("user_id", "u1"), ("user_id", "u2")]
    double.run([Event(f"{number:032x}", minutes(1), None, (device, user)) for number, user in enumerate(users)])
    double.run([shopper(7, 100, "a", 1, is_conversion_event=True, order_id="o")])
    double.put([shopper(8, 90, "a", 1)])
    double.resolve()
    assert double.table("restated_session_keys") == [(1, minutes(90))]
    assert double.table("restated_events") == [(f"{7:032x}",), (f"{8:032x}",)]
    assert double.table("restated_orders") == [("o",)]


def test_the_least_instant_of_several_runs_is_kept_until_the_run_is_finished() -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 1000, "a", 1)])
    double.put([shopper(2, 500, "a", 1)])
    double.resolve()
    double.build_marts()
    double.put([shopper(3, 2000, "a", 1)])
    double.resolve()
    assert double.table("restated_session_keys") == [(1, minutes(500))]
    double.finish()
    for name in ("restated_session_keys", "restated_events", "restated_customers", "restated_orders"):
        assert double.table(name) == []


def test_a_full_refresh_empties_the_scopes() -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 0, "a", 1)])
    double.put([shopper(2, 10, "a", 1)])
    double.resolve()
    assert double.table("restated_events")
    double.resolve(full_refresh=True)
    assert double.table("restated_events") == [] and double.table("applied_events") == []


@pytest.mark.parametrize("field", ["node_ids", "customer_id"])
def test_the_old_state_is_needed(field: str) -> None:
    double = WarehouseDouble()
    double.run([shopper(1, 0, "a", 1)])
    double.connection.execute(f"alter table intermediate.int_events_sessionized drop column {field}")
    double.put([shopper(1, 0, "b", 1)])
    with pytest.raises(Exception, match=field):
        double.resolve()
