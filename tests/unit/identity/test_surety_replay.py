"""Large clusters, weighed change by change, are as sure as if each were weighed as a whole at each change; and what that costs."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from test_history import random_graph

from waymark.identity import history, surety_replay
from waymark.identity.history import NEVER, Constraints, Evidence, LinkGraph, linked_clusters, membership_intervals, weigh_intervals

Row = tuple[int, int, int, int, float, int, float]


def with_evidence(stream: random.Random, graph: LinkGraph, estimated: float) -> LinkGraph:
    count, size = len(graph.link_a), len(graph.first_seen)
    flags = [np.array([stream.random() < share for _ in range(of)], dtype=np.bool_) for of, share in ((count, 0.1), (count, estimated), (size, 0.25))]
    probability = np.array([stream.choice([0.95, 0.97, 0.98, 0.99, 0.999]) for _ in range(count)], dtype=np.float64)
    is_operators, is_estimated, is_account = flags
    return replace(graph, evidence=Evidence(probability, is_operators & ~is_estimated, is_estimated, is_account))


def with_constraints(stream: random.Random, graph: LinkGraph, instants: int) -> LinkGraph:
    """Links that end, pairs that must stay apart, and accounts of one source."""
    size = len(graph.first_seen)
    until = np.array([stream.randrange(first + 1, instants + 3) if stream.random() < 0.3 else NEVER for first in graph.link_first.tolist()], dtype=np.int64)
    pairs = [(*stream.sample(range(size), 2), stream.randrange(instants)) for _ in range(stream.choice([0, 2, 5]))]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 3)
    pair_until = np.array([stream.randrange(since + 1, instants + 3) if stream.random() < 0.4 else NEVER for *_, since in pairs], dtype=np.int64)
    is_operators = np.array([stream.random() < 0.4 for _ in pairs], dtype=np.bool_)
    assert graph.evidence is not None
    sources = np.array([stream.choice([1, 1, 2]) for _ in range(size)], dtype=np.int64)
    rank = np.array(stream.sample(range(size), size), dtype=np.int64)
    account_of = np.where(graph.evidence.is_account, sources, 0)
    return replace(
        graph, constraints=Constraints(rank, until, columns[:, 0], columns[:, 1], columns[:, 2], pair_until, is_operators, account_of)
    )  # fmt: skip


def weighed(graph: LinkGraph, whole_links: int) -> list[Row]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "WHOLE_LINKS", whole_links)
        cluster = linked_clusters(graph)
        found, sure = weigh_intervals(graph, cluster, membership_intervals(graph, cluster))
    columns = (found.node, found.valid_from, found.valid_to, found.label, sure.confidence, sure.method, sure.weakest)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("is_constrained", [False, True])
@pytest.mark.parametrize("drops", [0.0, 0.3])
def test_change_by_change_or_as_a_whole_memberships_are_as_sure(drops: float, is_constrained: bool) -> None:
    for seed in range(60):
        stream = random.Random(seed)
        instants = stream.choice([6, 40])
        graph = random_graph(seed, nodes=30, links=stream.choice([20, 35, 60, 100]), instants=instants, drops=drops)
        graph = with_evidence(stream, graph, stream.choice([0.05, 0.3]))
        if is_constrained:
            graph = with_constraints(stream, graph, instants)
        expected = weighed(graph, 10_000)
        assert weighed(graph, 0) == expected, seed
        assert weighed(graph, 20) == expected, seed


def tree(size: int) -> LinkGraph:
    """Of degree at most 20, one identifier after the other; the first link is an estimated one."""
    stream, free, parents = random.Random(size), [0] * 20, []
    for node in range(1, size):
        place = stream.randrange(len(free))
        parents.append(free[place])
        free[place] = node
        free += [node] * 18
    nodes, nobody = np.arange(size, dtype=np.int64), np.full(size, NEVER, dtype=np.int64)
    flags = np.zeros(size - 1, dtype=np.bool_)
    is_first = nodes[:-1] == 0
    evidence = Evidence(np.where(is_first, 0.955, 0.99), flags, is_first, nodes % 5 == 1)
    return LinkGraph(nodes, nobody, np.array(parents, dtype=np.int64), nodes[1:], nodes[1:] + 1, evidence)


def test_a_large_customer_with_an_estimated_link_takes_steps_and_memory_by_its_changes_and_not_by_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    way = surety_replay._Figure._way

    def counted(figure: surety_replay._Figure, node: int, link: int, other: int) -> surety_replay._Way:
        nonlocal steps
        steps += 1
        return way(figure, node, link, other)

    monkeypatch.setattr(surety_replay._Figure, "_way", counted)
    taken, peaks = [], []
    for size in (500, 1000, 2000):
        graph = tree(size)
        cluster = linked_clusters(graph)
        intervals = membership_intervals(graph, cluster)
        steps = 0
        tracemalloc.start()
        found, _ = weigh_intervals(graph, cluster, intervals)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        taken.append(steps)
        assert len(found.node) < 3 * size
    assert taken[2] < 5 * taken[0] and peaks[2] < 6 * peaks[0]
