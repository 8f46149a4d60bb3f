"""Resolution against the definition in `reference`, and increments against a rebuild."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import PADS, Event, minutes
from warehouse_double import WarehouseDouble, rebuilt
from warehouse_double import settings as project_settings
from worlds import random_batches

from waymark.core.errors import SecretError, WaymarkError
from waymark.core.warehouse import connect
from waymark.identity import over_shared, prepare_identity, request_days, resolve_identities

DEVICE, OTHER_DEVICE, USER = ("anonymous_id", "web:a"), ("anonymous_id", "web:b"), ("user_id", "shop:1")


def event(number: int, at: float, *identifiers: reference.Identifier) -> Event:
    return Event(f"{number:032x}", minutes(at), None, identifiers)


def flat(batches: list[list[Event]]) -> list[Event]:
    return list({item.event_id: item for batch in batches for item in batch}.values())


@pytest.mark.parametrize("limit", [1, 2, 4, 20])
@pytest.mark.parametrize("seed", range(6))
def test_a_rebuild_equals_the_definition(seed: int, limit: int) -> None:
    events = flat(random_batches(random.Random(seed), events=70, batches=1, people=8))
    double = rebuilt(events, limit)
    assert dict(double.table("memberships")) == reference.memberships(events, limit)
    assert sorted(double.intervals(), key=lambda row: (row[0], row[2])) == reference.history(events, limit)
    seen = reference.first_sights(events)
    nodes = double.connection.execute(
        "select identifier_type, identifier_value, node_id, first_seen_at, node_customer_id, is_over_shared from identity.nodes"
    ).fetchall()
    excluded = reference.over_shared(events, limit)
    assert {(kind, value): (node, at, customer, shared) for kind, value, node, at, customer, shared in nodes} == {
        found: (reference.node_id(*found), at, reference.node_customer_id(*found), found in excluded) for found, at in seen.items()
    }
    edges = double.connection.execute("select node_a, node_b from identity.edges").fetchall()
    assert sorted(edges) == sorted(tuple(sorted(reference.node_id(*found) for found in link)) for link in reference.links(events))


def check_increments(seed: int, limit: int, batches: int, events: int) -> None:
    double = WarehouseDouble(limit)
    for batch in random_batches(random.Random(seed), events=events, batches=batches, people=5):
        double.run(batch)
    assert double.identity() == rebuilt(double.events.values(), limit).identity()


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([1, 2, 3, 6]), batches=st.integers(2, 5), events=st.integers(3, 50))
def test_increments_equal_a_rebuild(seed: int, limit: int, batches: int, events: int) -> None:
    check_increments(seed, limit, batches, events)


def test_days_that_are_asked_for_are_counted_anew_though_the_table_of_events_lost_them() -> None:
    double = WarehouseDouble()
    events = [event(1, 0, DEVICE, USER), event(2, 5, DEVICE, USER), event(3, 3 * 24 * 60, DEVICE, USER)]
    double.run(events)
    sound = double.identity()
    assert [row[double.connection.table("identity.edges").columns.index("event_count")] for row in double.table("edges")] == [3]
    double.connection.execute("delete from intermediate.int_events_sessionized where event_id = ?", [events[0].event_id])
    double.put(events[:2])
    request_days(double.connection, minutes(0).date(), minutes(0).date())
    double.resolve()
    double.build_marts()
    double.finish()
    assert double.identity() == sound


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(70))
def test_increments_equal_a_rebuild_at_length(seed: int) -> None:
    stream = random.Random(seed)
    check_increments(seed, stream.choice([1, 2, 3, 6]), stream.randrange(2, 9), stream.randrange(3, 150))


def check_unfinished_runs(seed: int, limit: int) -> None:
    """After identity, a crash: the next run has more pending events, and some of the first run's have flipped again."""
    stream = random.Random(seed)
    double = WarehouseDouble(limit)
    for batch in random_batches(stream, events=40, batches=6, people=4, flips=0.5):
        double.put(batch)
        double.resolve()
        if stream.random() < 0.4:
            double.build_marts()
        if stream.random() < 0.4:
            double.build_marts()
            double.finish()
    assert double.identity() == rebuilt(double.events.values(), limit).identity()


@pytest.mark.prove
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.sampled_from([1, 2, 4]))
def test_runs_that_never_finish_leave_nothing_stale(seed: int, limit: int) -> None:
    check_unfinished_runs(seed, limit)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(50))
def test_runs_that_never_finish_leave_nothing_stale_at_length(seed: int) -> None:
    check_unfinished_runs(seed, 1 + seed % 4)


def test_the_map_as_known_then_is_right_at_five_hundred_random_points() -> None:
    stream = random.Random(7)
    double = WarehouseDouble(limit=3)
    for batch in random_batches(stream, events=160, batches=4, people=10):
        double.run(batch)
    events = list(double.events.values())
    nodes = [node for (node,) in double.connection.execute("select node_id from identity.nodes order by node_id").fetchall()]
    instants = sorted({item.occurred_at for item in events})
    answers = set()
    for _ in range(500):
        node, at = stream.choice(nodes), stream.choice(instants) + timedelta(microseconds=stream.choice([-1, 0, 1, 7_000_000]))
        found = double.connection.execute(
            "select customer_id from identity.membership_history where node_id = ? and valid_from < ? and (valid_to is null or ? <= valid_to)", [node, at, at]
        ).fetchall()
        expected = reference.known_before(events, 3, at).get(node)
        assert found == ([] if expected is None else [(expected,)])
        answers.add(expected)
    assert None in answers and len(answers) > 10


def test_later_events_change_no_earlier_map() -> None:
    events = flat(random_batches(random.Random(3), events=120, batches=1, people=6))
    cut = minutes(150)
    earlier = rebuilt([item for item in events if item.occurred_at < cut], 3)
    later = rebuilt(events, 3)
    question = """
        select node_id, customer_id, valid_from, case when valid_to < $cut then valid_to end as valid_to
        from identity.membership_history where valid_from < $cut order by all
    """
    assert earlier.connection.execute(question, {"cut": cut}).fetchall() == later.connection.execute(question, {"cut": cut}).fetchall()


def test_resolving_again_changes_nothing() -> None:
    batches = random_batches(random.Random(11), events=90, batches=3)
    double = WarehouseDouble()
    for batch in batches[:-1]:
        double.run(batch)
    double.put(batches[-1])
    double.resolve()
    once = double.identity()
    scopes = {name: double.table(name) for name in ("restated_session_keys", "restated_events", "restated_customers", "restated_orders")}
    assert all(scopes.values())
    report = double.resolve()
    assert report.changed_clusters == 0
    assert double.identity() == once
    assert {name: double.table(name) for name in scopes} == scopes


def test_a_late_login_joins_two_devices_and_the_earlier_one_gives_the_id() -> None:
    double = WarehouseDouble()
    double.run([event(1, 10, OTHER_DEVICE), event(2, 5, DEVICE)])
    double.run([event(3, 60, OTHER_DEVICE, USER)])
    report = double.run([event(4, 30, DEVICE, USER)])
    customer = reference.node_customer_id(*DEVICE)
    assert dict(double.table("memberships")) == {reference.node_id(*found): customer for found in (DEVICE, OTHER_DEVICE, USER)}
    assert (report.nodes, report.edges, report.customers, report.changed_clusters) == (3, 2, 1, 2)
    known = double.connection.execute(
        "select customer_id, valid_from, valid_to from identity.membership_history where node_id = ? order by valid_from", [reference.node_id(*OTHER_DEVICE)]
    )
    assert known.fetchall() == [(reference.node_customer_id(*OTHER_DEVICE), minutes(10), minutes(60)), (customer, minutes(60), None)]


def test_an_identifier_with_too_many_neighbours_merges_nobody_until_it_has_fewer() -> None:
    devices = [("anonymous_id", f"web:{letter}") for letter in "abcd"]
    logins = [event(number, number, device, USER) for number, device in enumerate(devices)]
    double = WarehouseDouble(limit=3)
    assert double.run(logins[:3]).customers == 1
    report = double.run(logins[3:])
    assert (report.customers, report.over_shared, report.over_shared_types) == (4, 1, {"user_id": 1})
    assert reference.node_id(*USER) not in dict(double.table("memberships"))
    assert [(shared.identifier_type, shared.neighbour_count, shared.first_seen_at) for shared in over_shared(double.connection, 5)] == [
        ("user_id", 4, minutes(0))
    ]
    report = double.run([replace(logins[1], identifiers=(devices[1],))])
    assert (report.customers, report.over_shared) == (2, 0)
    assert double.identity() == rebuilt(double.events.values(), 3).identity()


def test_order_ids_and_uncounted_events_link_nobody() -> None:
    double = WarehouseDouble()
    order = {"is_conversion_event": True, "order_id": "o1"}
    double.run(
        [replace(event(1, 1, DEVICE), **order), replace(event(2, 2, OTHER_DEVICE), **order), replace(event(3, 3, DEVICE, OTHER_DEVICE), is_counted=False)]
    )
    assert len(set(dict(double.table("memberships")).values())) == 2
    assert double.table("edges") == []


def test_customer_id_depends_on_its_cluster_alone() -> None:
    cluster = [event(1, 10, DEVICE), event(2, 20, DEVICE, USER)]
    alone = dict(rebuilt(cluster, 3).table("memberships"))
    others = flat(random_batches(random.Random(5), events=60, batches=1))
    crowded = dict(rebuilt([*others, *(replace(item, event_id=f"f{item.event_id[1:]}") for item in cluster)], 3).table("memberships"))
    assert {node: crowded[node] for node in alone} == alone


def test_customer_ids_are_a_keyed_digest_of_unicode_and_quotes_too() -> None:
    odd = ("email", "o'Brien|ü — 漢字")
    double = rebuilt([event(1, 1, odd)], 3)
    assert double.table("memberships") == [(reference.node_id(*odd), reference.node_customer_id(*odd))]


def test_two_threads_or_one_give_the_same_tables() -> None:
    events = flat(random_batches(random.Random(9), events=150, batches=1, people=12))
    tables = []
    for threads in (1, 2):
        double = WarehouseDouble()
        double.connection.execute(f"set threads = {threads}")
        double.put(events)
        double.resolve(full_refresh=True)
        tables.append(double.identity())
    assert tables[0] == tables[1]


def test_an_empty_project_resolves_to_nothing() -> None:
    double = WarehouseDouble()
    report = double.run([], full_refresh=True)
    assert (report.nodes, report.edges, report.customers, report.over_shared) == (0, 0, 0, 0)
    assert double.run([]).nodes == 0


def test_a_failure_leaves_everything_as_it_was() -> None:
    double = WarehouseDouble()
    double.run([event(1, 1, DEVICE)], full_refresh=True)
    before = double.identity()
    double.put([event(2, 2, DEVICE, USER)])
    double.connection.execute("alter table marts.fct_sessions rename column started_at to began_at")
    with pytest.raises(Exception, match="started_at"):
        double.resolve()
    assert double.identity() == before
    assert double.table("restated_events") == []


def test_missing_inputs_and_bad_keys_are_named(tmp_path: Path) -> None:
    connection = connect(tmp_path / "warehouse.duckdb")
    prepare_identity(connection)
    prepare_identity(connection)
    with pytest.raises(WaymarkError, match=r"intermediate\.int_events: .*\n.*--full-refresh"):
        resolve_identities(connection, settings=project_settings(3), customer_id_pads=PADS, full_refresh=True)
    with pytest.raises(SecretError, match="64 bytes") as caught:
        resolve_identities(connection, settings=project_settings(3), customer_id_pads=(b"not a block", PADS[1]), full_refresh=True)
    assert "not a block" not in str(caught.value)


def test_a_report_tells_counts_and_no_identifier() -> None:
    double = WarehouseDouble(limit=1)
    report = double.run([event(1, 1, DEVICE, USER), event(2, 2, OTHER_DEVICE, USER)], full_refresh=True)
    metadata = report.as_metadata()
    assert metadata["over_shared_types"] == "user_id: 1"
    assert metadata["nodes"] == 3 and metadata["changed_clusters"] == 2
    assert "shop:1" not in str(metadata) and "shop:1" not in str(over_shared(double.connection, 5))


def test_the_steps_are_told_in_order() -> None:
    double = WarehouseDouble()
    told: list[str] = []
    resolve_identities(double.connection, settings=project_settings(3), customer_id_pads=PADS, full_refresh=False, progress=told.append)
    assert [sentence.split(":")[0] for sentence in told] == ["identity"] * 3
