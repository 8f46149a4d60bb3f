"""A constrained cluster over time: against its rule, applied from the beginning at every instant; and what it costs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest

from waymark.identity import constrained
from waymark.identity.constrained import Forbidden, Link, replay_constrained
from waymark.identity.history import NEVER

Cluster = tuple[dict[int, tuple[int, int]], list[Link], list[Forbidden], dict[int, int]]


def partition_at(at: int, cluster: Cluster) -> dict[int, int]:
    """The rule as it is written: the links in force one by one, in order, each refused that would join what must stay apart. Labels of the nodes there are."""
    nodes, links, forbidden, accounts = cluster
    component = {node: {node} for node, (first_seen, dropped) in nodes.items() if first_seen <= at < dropped}
    pairs = [pair for pair in forbidden if pair.since <= at < pair.until]
    for link in sorted(links, key=lambda link: (not link.is_operators, -link.probability, link.first, link.low, link.high)):
        if not (link.first <= at < link.until and link.node in component and link.other in component):
            continue
        here, there = component[link.node], component[link.other]
        if here is there:
            continue
        across = [pair for pair in pairs if (pair.node in here and pair.other in there) or (pair.node in there and pair.other in here)]
        if any(pair.is_operators or not link.is_operators for pair in across):
            continue
        sources = [{accounts[node] for node in side if node in accounts} for side in (here, there)]
        if sources[0] & sources[1] and not (link.is_operators or link.joins_accounts):
            continue
        for node in there:
            component[node] = here
        here |= there
    return {node: min(members) for node, members in component.items()}


def random_cluster(stream: random.Random, most: int) -> Cluster:
    """Of at most so many nodes. Few instants and probabilities, so that much happens at once and much outranks what came before."""
    size, instants = stream.randrange(2, most), stream.choice([4, 12, 30])
    nodes = {}
    for node, first_seen in enumerate(sorted(stream.randrange(instants) for _ in range(size))):
        nodes[node] = (first_seen, stream.randrange(first_seen + 1, instants + 2) if stream.random() < 0.15 else NEVER)
    accounts = {node: stream.choice([1, 1, 1, 2]) for node in nodes if stream.random() < stream.choice([0.2, 0.5])}
    rank = stream.sample(range(size), size)
    links, forbidden = [], []
    for _ in range(stream.randrange(1, 3 * most)):
        one, other = stream.sample(range(size), 2)
        since = max(nodes[one][0], nodes[other][0], stream.randrange(instants))
        until = stream.randrange(since + 1, instants + 3) if stream.random() < 0.25 else NEVER
        low, high = sorted((rank[one], rank[other]))
        are_accounts = one in accounts and accounts.get(other) == accounts[one]
        is_operators = stream.random() < 0.1
        sure = 1.0 if is_operators else stream.choice([0.95, 0.97, 0.98, 0.99, 0.999])
        links.append(Link(one, other, since, until, sure, is_operators, low, high, are_accounts and stream.random() < 0.5))
    for _ in range(stream.choice([0, 1, 3, 6])):
        one, other = stream.sample(range(size), 2)
        since = stream.randrange(instants)
        until = stream.randrange(since + 1, instants + 3) if stream.random() < 0.4 else NEVER
        forbidden.append(Forbidden(one, other, since, until, stream.random() < 0.4))
    return nodes, links, forbidden, accounts


def check(cluster: Cluster) -> None:
    nodes, links, forbidden, accounts = cluster
    changes = replay_constrained(nodes, links, forbidden, NEVER, accounts)
    assert changes == sorted(changes, key=lambda change: change[0])
    labels = {node: node for node in nodes}
    for at in range(36):
        for change in [change for change in changes if change[0] == at]:
            assert labels[change[1]] != change[2], "a change changes something"
            labels[change[1]] = change[2]
        expected = partition_at(at, cluster)
        assert {node: labels[node] for node in expected} == expected


def test_a_cluster_is_at_every_instant_what_the_rule_makes_of_its_links() -> None:
    for seed in range(300):
        check(random_cluster(random.Random(seed), 11))


@pytest.mark.prove
def test_a_cluster_is_at_every_instant_what_the_rule_makes_of_its_links_at_length() -> None:
    for seed in range(300, 4_000):
        check(random_cluster(random.Random(seed), 11 if seed % 4 else 30))


def linked(one: int, other: int, at: int, probability: float) -> Link:
    return Link(one, other, at, NEVER, probability, False, min(one, other), max(one, other))


def street(persons: int) -> Cluster:
    """Neighbours who each log in on the next one's device too, and then confirm an address: each log-in is refused, each address outranks it."""
    links, at = [], 0
    for person in range(persons):
        account, device, mail = 3 * person, 3 * person + 1, 3 * person + 2
        links.append(linked(account, device, at := at + 1, 0.99))
        if person:
            links.append(linked(account - 3, device, at := at + 1, 0.99))
        links.append(linked(account, mail, at := at + 1, 0.999))
    return dict.fromkeys(range(3 * persons), (0, NEVER)), links, [], {3 * person: 1 for person in range(persons)}


def lent(persons: int) -> Cluster:
    """Each device is first its neighbour's, until its owner logs in on it by a surer link: it changes hands, and what came before is judged anew."""
    links, at = [], 0
    for person in range(1, persons):
        before, account, device = 2 * person - 2, 2 * person, 2 * person + 1
        links += [linked(before, device, at := at + 1, 0.98), linked(account, device, at := at + 1, 0.99)]
    return dict.fromkeys(range(2 * persons), (0, NEVER)), links, [], {2 * person: 1 for person in range(persons)}


def chain(persons: int) -> Cluster:
    """One person's many identifiers, which come one after the other, by links of changing weight; and at the end a second account on the last of them."""
    links = [linked(node, node + 1, node, (0.98, 0.99, 0.999)[node % 3]) for node in range(3 * persons - 1)]
    return dict.fromkeys(range(3 * persons), (0, NEVER)), links, [], {0: 1, 3 * persons - 1: 1}


def steps(work: Callable[..., Any], *given: Any) -> int:
    """Lines of `constrained` that a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != constrained.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(*given)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("make", [street, lent, chain])
def test_four_times_the_cluster_costs_about_four_times_the_steps(make: Callable[[int], Cluster]) -> None:
    small, large = (steps(_replay, make(persons)) for persons in (50, 200))
    assert large < 5 * small


def _replay(cluster: Cluster) -> Sequence[tuple[int, int, int]]:
    nodes, links, forbidden, accounts = cluster
    return replay_constrained(nodes, links, forbidden, NEVER, accounts)
