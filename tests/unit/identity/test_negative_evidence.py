"""Negative evidence and operators' words against the definition in `reference`: what is refused, since when, and how sure the rest is."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Event, Identifier, Interval, Said, Supposed, minutes
from warehouse_double import WarehouseDouble, rebuilt
from warehouse_double import settings as project_settings
from worlds import random_batches

from waymark.identity import Word, history, preview_words, restated_rows

DEVICE, TABLET = ("anonymous_id", "web:a"), ("anonymous_id", "web:b")
ANN, BEN = ("user_id", "shop:1"), ("user_id", "shop:2")


def event(number: int, at: float, *identifiers: Identifier, key: int | None = None, **more: object) -> Event:
    return Event(f"{number:032x}", minutes(at), key, identifiers, **more)  # type: ignore[arg-type]


def said(number: int, at: float, is_merge: bool, one: Identifier, other: Identifier) -> Said:
    return Said(f"{0xF000 + number:032x}", minutes(at), number, is_merge, (one, other))


def map_of(double: WarehouseDouble) -> dict[Identifier, str]:
    found = double.connection.execute("select identifier_type, identifier_value, customer_id from identity.memberships join identity.nodes using (node_id)")
    return {(kind, value): customer for kind, value, customer in found.fetchall()}


def random_words(stream: random.Random, events: list[Event], count: int) -> list[Said]:
    known = sorted({identifier for item in events for identifier in item.identifiers})
    return [
        said(number, stream.choice([stream.randrange(0, 600), 20 * stream.randrange(0, 30)]), stream.random() < 0.5, *stream.sample(known, 2))
        for number in range(1, count + 1)
    ]


def random_links(stream: random.Random, events: list[Event], count: int) -> list[Supposed]:
    """Of each pair up to two intervals, one after the other, as sure as the threshold or surer."""
    known = sorted({identifier for item in events for identifier in item.identifiers})
    found: dict[frozenset[Identifier], list[Supposed]] = {}
    for _ in range(count if len(known) > 1 else 0):
        pair = (one, other) = tuple(stream.sample(known, 2))
        since, middle, until = (minutes(at) for at in sorted(stream.sample(range(0, 620, 20), 3)))
        first = Supposed((one, other), stream.choice([0.95, 0.97, 0.985, 0.995]), since, stream.choice([None, middle]))
        second = Supposed((one, other), stream.choice([0.96, 0.99]), middle, stream.choice([None, until]))
        found[frozenset(pair)] = [first] if first.valid_to is None or stream.random() < 0.5 else [first, second]
    return [link for links in found.values() for link in links]


def check_world(seed: int, *, limit: int, batches: int, events: int, words: int, links: int = 0) -> None:
    """Increments equal a rebuild, and both equal the definition, now and at every instant, whichever clusters are weighed change by change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "WHOLE_LINKS", [0, 3, 48][seed // 3 % 3])
        _check_world(random.Random(seed), limit=limit, batches=batches, events=events, words=words, links=links)


def _check_world(stream: random.Random, *, limit: int, batches: int, events: int, words: int, links: int) -> None:
    split = random_batches(stream, events=events, batches=batches, people=5, flips=0.2)
    # Values, and order ids a day apart, so that reports of one order contradict each other.
    split = [[replace(item, value=stream.choice([None, 10, 20])) for item in batch] for batch in split]
    spoken = random_words(stream, [item for batch in split for item in batch], words)
    supposed = random_links(stream, [item for batch in split for item in batch], links) if links else []
    double = WarehouseDouble(limit)
    waiting = list(spoken)
    stream.shuffle(waiting)
    for batch in split:
        double.put(batch)
        while waiting and stream.random() < 0.6:
            double.say(waiting.pop())
        # What is supposed changes with what is known: links come, and go again.
        double.supposed = [link for link in supposed if stream.random() < 0.7]
        double.resolve()
        if stream.random() < 0.8:
            double.build_marts()
            double.finish()
    for word in waiting:
        double.say(word)
    double.supposed = supposed
    double.resolve()
    log = list(double.events.values())
    assert double.identity() == rebuilt(log, limit, spoken, supposed).identity()
    assert dict(double.table("memberships")) == reference.memberships(log, limit, spoken, supposed)
    assert joined(double.intervals()) == reference.history(log, limit, spoken, supposed)
    sure = dict(double.connection.execute("select node_id, confidence from identity.membership_history where valid_to is null").fetchall())
    assert sure == pytest.approx(reference.confidences(log, limit, spoken, supposed), abs=2e-6)
    weakest = "select node_id, coalesce(weakest_estimated_link, 'infinity') from identity.membership_history where valid_to is null"
    assert dict(double.connection.execute(weakest).fetchall()) == reference.weakest_links(log, limit, spoken, supposed)
    check_as_known_then(double, log, limit, spoken, supposed)


def joined(intervals: list[Interval]) -> list[Interval]:
    """Of one customer's intervals that follow each other and are differently sure, one."""
    found: list[Interval] = []
    for node, customer, since, until in sorted(intervals, key=lambda row: (row[0], row[2])):
        follows = bool(found) and found[-1][:2] == (node, customer) and found[-1][3] == since
        found.append((node, customer, found.pop()[2] if follows else since, until))
    return found


def check_as_known_then(double: WarehouseDouble, log: list[Event], limit: int, spoken: list[Said], supposed: list[Supposed]) -> None:
    """How sure memberships in clusters with a probable link that was ever in force were, as known at each instant: of no link that came later."""
    clusters, seen, until = dict(double.table("clusters")), reference.first_sights(log), dict(double.table("over_shared_since"))
    concerned = set()
    for link in supposed:
        since = max([link.valid_from, *(seen[end] for end in link.pair if end in seen)])
        ends = [link.valid_to, *(until.get(node) for node in link.nodes)]
        if set(link.pair) <= set(seen) and all(end is None or since < end for end in ends):
            concerned.add(clusters[link.nodes[0]])
    columns = "node_id, valid_from, valid_to, confidence, coalesce(weakest_estimated_link, 'infinity')"
    told = double.connection.execute(f"select {columns} from identity.membership_history").fetchall()
    told = [row for row in told if clusters.get(row[0]) in concerned]
    for at in sorted({at for _, since, until, *_ in told for at in (since, until) if at}):
        then = at + timedelta(microseconds=1)
        known = reference.confidences_before(log, limit, then, spoken, supposed)
        weakest = reference.weakest_links_before(log, limit, then, spoken, supposed)
        found = {node: (sure, strength) for node, since, until, sure, strength in told if since < then and (until is None or then <= until)}
        assert {node: sure for node, (sure, _) in found.items()} == pytest.approx({node: known[node] for node in found}, abs=2e-6)
        assert {node: strength for node, (_, strength) in found.items()} == {node: weakest[node] for node in found}


@settings(max_examples=2, deadline=None)
@given(
    seed=st.integers(0, 2**32), limit=st.sampled_from([1, 2, 3, 6]), batches=st.integers(1, 4), events=st.integers(3, 40), words=st.integers(0, 6),
    links=st.integers(0, 6),
)  # fmt: skip
def test_no_order_of_arrival_changes_what_is_refused(*, seed: int, limit: int, batches: int, events: int, words: int, links: int) -> None:
    check_world(seed, limit=limit, batches=batches, events=events, words=words, links=links)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(120))
def test_no_order_of_arrival_changes_what_is_refused_at_length(seed: int) -> None:
    stream = random.Random(seed)
    sizes = {"batches": stream.randrange(1, 7), "events": stream.randrange(3, 90), "words": stream.randrange(0, 12)}
    check_world(seed, limit=stream.choice([1, 2, 3, 6]), **sizes, links=seed % 3 * 4)


def test_of_two_log_ins_in_one_session_the_later_one_is_refused_the_device() -> None:
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE, key=1), event(2, 5, DEVICE, ANN, key=1), event(3, 100, TABLET, BEN, key=2)])
    assert len(set(map_of(double).values())) == 2
    double.run([event(4, 20, DEVICE, BEN, key=1)])
    found = map_of(double)
    assert found[DEVICE] == found[ANN] == reference.node_customer_id(*DEVICE)
    assert found[TABLET] == found[BEN] != found[ANN]
    ((node_a, node_b, kind, since, until, source),) = double.table("negative_edges")
    assert {node_a, node_b} == {reference.node_id(*ANN), reference.node_id(*BEN)}
    assert (kind, since, until, source) == ("two_logins_in_one_session", minutes(20), None, f"{4:032x}")


def test_two_accounts_of_one_source_are_two_people_whatever_they_share() -> None:
    mailbox, there = ("email", "hash"), ("user_id", "till:2")
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE, ANN, key=1), event(2, 50, DEVICE, BEN, key=1), event(3, 60, ANN, mailbox), event(4, 70, BEN, mailbox)])
    found = map_of(double)
    assert double.table("negative_edges") == [] and found[ANN] == found[DEVICE] == found[mailbox] != found[BEN]
    double.run([event(5, 80, there, mailbox)])
    assert map_of(double)[there] == found[ANN], "another source's account says nothing of theirs"
    double.supposed = [reference.Supposed((ANN, BEN), 0.96, minutes(0), None)]
    double.run([])
    assert len(set(map_of(double).values())) == 1, "an estimated link is about the two themselves"
    double.supposed = []
    double.run([])
    assert len(set(map_of(double).values())) == 2
    double.say(said(1, 100, True, ANN, BEN))
    double.run([])
    assert len(set(map_of(double).values())) == 1
    shared = WarehouseDouble(one_account=False)
    shared.run([event(1, 0, DEVICE, ANN, key=1), event(2, 50, DEVICE, BEN, key=1)])
    assert len(set(map_of(shared).values())) == 1


def test_two_log_ins_in_two_sessions_say_nothing_until_an_event_joins_the_sessions() -> None:
    double = WarehouseDouble(one_account=False)
    double.run([event(1, 0, DEVICE, ANN, key=1), event(2, 50, DEVICE, BEN, key=1)])
    assert double.table("negative_edges") == [] and len(set(map_of(double).values())) == 1
    double.run([event(3, 25, DEVICE, key=1)])
    assert len(double.table("negative_edges")) == 1 and len(set(map_of(double).values())) == 2
    double.run([replace(event(3, 25, DEVICE, key=1), is_counted=False)])
    assert double.table("negative_edges") == [] and len(set(map_of(double).values())) == 1


def order(number: int, at: float, value: int, *identifiers: Identifier) -> Event:
    return event(number, at, *identifiers, is_conversion_event=True, order_id="o", value=value)


def test_an_order_id_of_two_values_or_of_two_days_keeps_strangers_apart() -> None:
    strangers = [event(1, 0, DEVICE, ANN), event(2, 1, TABLET, ANN)]
    for reports, kept_apart in (
        ([order(3, 10, 5, DEVICE), order(4, 20, 5, TABLET)], False),
        ([order(3, 10, 5, DEVICE), order(4, 20, 6, TABLET)], True),
        ([order(3, 10, 5, DEVICE), order(4, 10 + 24 * 60, 5, TABLET)], False),
        ([order(3, 10, 5, DEVICE), order(4, 11 + 24 * 60, 5, TABLET)], True),
        ([order(3, 10, 5, DEVICE, ANN), order(4, 20, 6, TABLET, ANN)], False),
    ):
        double = WarehouseDouble()
        double.run([*strangers, *reports])
        assert (map_of(double)[DEVICE] != map_of(double)[TABLET]) is kept_apart, reports


def test_the_surest_link_wins_whichever_came_first() -> None:
    """The mailbox of two people stays with the account that confirmed it; the form on the other's device yields."""
    mailbox = ("email", "h")
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE, mailbox), event(2, 50, mailbox, ANN), event(3, 60, DEVICE, BEN, key=1), event(4, 61, DEVICE, ANN, key=1)])
    found = map_of(double)
    assert found[mailbox] == found[ANN] != found[BEN] == found[DEVICE]


def test_a_merge_beats_the_evidence_and_a_split_beats_a_merge_until_the_next_word() -> None:
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE, ANN, key=1), event(2, 5, DEVICE, BEN, key=1)])
    assert map_of(double)[ANN] != map_of(double)[BEN]
    for number, (is_merge, customers) in enumerate([(True, 1), (False, 2), (True, 1), (True, 1), (False, 2)], start=1):
        double.say(said(number, 100, is_merge, ANN, BEN))
        double.run([])
        assert len({map_of(double)[ANN], map_of(double)[BEN]}) == customers


def test_what_an_operator_alone_joined_is_said_to_be_so() -> None:
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE), event(2, 5, TABLET, ANN)])
    double.say(said(1, 50, True, DEVICE, TABLET))
    double.run([])
    found = double.connection.execute("""
        select identifier_value, method, confidence from identity.membership_history join identity.nodes using (node_id)
        where valid_to is null order by identifier_value
    """)
    assert found.fetchall() == [("shop:1", "operator", 0.99), ("web:a", "own", 1.0), ("web:b", "operator", 1.0)]


def test_a_split_holds_against_every_way_round_it() -> None:
    double = WarehouseDouble()
    double.run([event(1, 0, DEVICE, ANN), event(2, 5, TABLET, ANN), event(3, 6, DEVICE, ("email", "h")), event(4, 7, TABLET, ("email", "h"))])
    double.say(said(1, 50, False, DEVICE, TABLET))
    double.run([])
    found = map_of(double)
    assert found[DEVICE] != found[TABLET]
    assert {found[ANN], found["email", "h"]} <= {found[DEVICE], found[TABLET]}
    known = reference.known_before(list(double.events.values()), 3, minutes(50), double.words)
    assert len(set(known.values())) == 1, "as known before the word they were one"


def customers_of_rows(double: WarehouseDouble) -> dict[tuple[str, str], str | None]:
    """Of each row of the tables with one for an event or a conversion: (table, key) and its customer."""
    keyed = (("marts.fct_events", "event_id", "intermediate.int_events_sessionized"), ("marts.fct_conversions", "conversion_id", "marts.fct_conversions"))
    return {
        (name, key): customer
        for name, column, table in keyed
        for key, customer in double.connection.execute(f"select {column}, customer_id from {table}").fetchall()
    }


def check_announcement(seed: int) -> None:
    stream = random.Random(seed)
    double = WarehouseDouble(limit=3)
    double.run([item for batch in random_batches(stream, events=60, batches=1, people=4) for item in batch])
    word = random_words(stream, list(double.events.values()), 1)[0]
    before, rows_before = double.identity(), customers_of_rows(double)
    announced, rows = preview_words(
        double.connection, [Word("operator_merge" if word.is_merge else "operator_split", *word.nodes, word.at, word.ordinal, word.event_id)],
        settings=project_settings(3), customer_id_pads=reference.PADS,
    )  # fmt: skip
    assert double.identity() == before and double.table("restated_customers") == []
    double.say(word)
    double.resolve()
    logged = double.connection.execute("select customer_before, customer_after, why, identifier_count from identity.restatements").fetchall()
    assert logged == [(change.before, change.after, change.why, change.identifiers) for change in announced]
    assert restated_rows(double.connection) == rows
    moved = {node: (before_id, after_id) for node, before_id, after_id in _moved(dict(before["memberships"]), dict(double.table("memberships")))}
    assert sorted(logged) == sorted(
        (*pair, "operator_merge" if word.is_merge else "operator_split", list(moved.values()).count(pair)) for pair in set(moved.values())
    )
    double.build_marts()
    rows_after = customers_of_rows(double)
    assert rows_before.keys() == rows_after.keys()
    differing = Counter((was, rows_after[row], row[0]) for row, was in rows_before.items() if was != rows_after[row])
    assert differing == {(change.before, change.after, table): count for change in announced for table, count in change.rows_by_table.items()}


def test_what_is_announced_is_what_the_next_run_does() -> None:
    for seed in range(2):
        check_announcement(seed)


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(2, 40))
def test_what_is_announced_is_what_the_next_run_does_at_length(seed: int) -> None:
    check_announcement(seed)


def _moved(before: dict[int, str], after: dict[int, str]) -> list[tuple[int, str, str]]:
    return [(node, customer, after[node]) for node, customer in before.items() if after[node] != customer]


def test_the_log_says_why_a_customer_changed() -> None:
    double = WarehouseDouble(limit=3)

    def why() -> set[str]:
        newest = "select why from identity.restatements where run_number = (select max(run_number) from identity.restatements)"
        return {reason for (reason,) in double.connection.execute(newest).fetchall()}

    double.run([event(1, 0, DEVICE), event(2, 1, TABLET)])
    assert why() == set()
    double.run([event(3, 10, DEVICE, ANN), event(4, 11, TABLET, ANN)])
    assert why() == {"late_login"}
    double.say(said(1, 50, False, DEVICE, TABLET))
    double.run([])
    assert why() == {"operator_split"}
    double.say(said(2, 50, True, DEVICE, TABLET))
    double.run([])
    assert why() == {"operator_merge"}
    double.run([event(number, number, ("anonymous_id", f"web:{number}"), ANN) for number in (20, 21)])
    assert why() == {"guard_crossing"}
    double.run([replace(event(20, 20), is_counted=False), replace(event(4, 11, TABLET), is_counted=True)])
    assert "withdrawn_event" in why() or "guard_crossing" in why()


def test_evidence_counts_events_and_names_the_first_and_the_last() -> None:
    double = WarehouseDouble()
    first = [event(1, 10, DEVICE, ANN), event(2, 10, DEVICE, ANN), event(3, 30, DEVICE, ANN)]
    double.run(first)
    double.put([event(4, 5, DEVICE, ANN)])
    double.resolve()
    double.put([event(5, 40, DEVICE, ANN)])
    double.resolve()
    double.build_marts()
    double.finish()
    columns = "event_count, first_event_id, last_event_id, probability, estimation_version"
    assert double.connection.execute(f"select {columns} from identity.edges").fetchall() == [(5, f"{4:032x}", f"{5:032x}", 0.99, 0)]
    double.run([replace(event(4, 5, DEVICE), is_counted=True), replace(event(5, 40, DEVICE, ANN), is_counted=False)])
    assert double.connection.execute(f"select {columns} from identity.edges").fetchall() == [(3, f"{1:032x}", f"{3:032x}", 0.99, 0)]
