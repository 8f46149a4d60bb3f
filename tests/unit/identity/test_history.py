"""Membership intervals on integer graphs: both ways of replaying, against recomputation at every instant."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise
from time import monotonic

import networkx as nx
import numpy as np
import pytest

from waymark.identity import confidence, history
from waymark.identity.history import NEVER, LinkGraph, linked_clusters, membership_intervals

Row = tuple[int, int, int, int]


def random_graph(seed: int, *, nodes: int, links: int, instants: int, drops: float) -> LinkGraph:
    stream = random.Random(seed)
    first_seen = sorted(stream.randrange(instants) for _ in range(nodes))
    dropped = [stream.randrange(first + 1, instants + 2) if stream.random() < drops else NEVER for first in first_seen]
    found = []
    for _ in range(links):
        a, b = stream.sample(range(nodes), 2)
        at = max(first_seen[a], first_seen[b], stream.randrange(instants))
        if at < min(dropped[a], dropped[b]):
            found.append((a, b, at))
    pairs = list({(a, b): (a, b, at) for a, b, at in found}.values())
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 3)
    return LinkGraph(np.array(first_seen, dtype=np.int64), np.array(dropped, dtype=np.int64), columns[:, 0], columns[:, 1], columns[:, 2])


def labels_before(graph: LinkGraph, at: int) -> dict[int, int]:
    known = nx.Graph()
    alive = {node for node in range(len(graph.first_seen)) if graph.first_seen[node] < at <= graph.dropped[node]}
    known.add_nodes_from(alive)
    known.add_edges_from(
        (int(a), int(b)) for a, b, first in zip(graph.link_a, graph.link_b, graph.link_first, strict=True) if first < at and int(a) in alive and int(b) in alive
    )
    return {node: min(component) for component in nx.connected_components(known) for node in component}


def intervals(graph: LinkGraph) -> list[Row]:
    found = membership_intervals(graph, linked_clusters(graph))
    return sorted(zip(found.node.tolist(), found.valid_from.tolist(), found.valid_to.tolist(), found.label.tolist(), strict=True))


@pytest.mark.parametrize("lockstep_links", [0, 3, 48])
@pytest.mark.parametrize("drops", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(12))
def test_intervals_are_the_map_recomputed_at_every_instant(seed: int, drops: float, lockstep_links: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOCKSTEP_LINKS", lockstep_links)
    instants = 40 if seed % 3 else 6
    graph = random_graph(seed, nodes=30, links=20 + 4 * seed, instants=instants, drops=drops)
    rows = intervals(graph)
    for at in range(instants + 3):
        assert {node: label for node, start, end, label in rows if start < at <= end} == labels_before(graph, at)
    assert all(start < end for _, start, end, _ in rows)
    for row, following in pairwise(rows):
        if row[0] == following[0] and row[2] == following[1]:
            assert row[3] != following[3], "two touching intervals of one node with one customer should be one"


def test_a_node_that_drops_out_of_a_ring_splits_nothing_and_out_of_a_star_splits_all() -> None:
    ring = [(node, (node + 1) % 6, 10) for node in range(6)]
    star = [(6, leaf, 10) for leaf in range(7, 12)]
    columns = np.array(ring + star, dtype=np.int64)
    dropped = np.full(12, NEVER, dtype=np.int64)
    dropped[[2, 6]] = 20
    graph = LinkGraph(np.arange(12, dtype=np.int64) // 12, dropped, columns[:, 0], columns[:, 1], columns[:, 2])
    now = {node: label for node, _, end, label in intervals(graph) if end == NEVER}
    assert now == {0: 0, 1: 0, 3: 0, 4: 0, 5: 0, **{leaf: leaf for leaf in range(7, 12)}}


def test_no_nodes_make_no_intervals() -> None:
    empty = np.array([], dtype=np.int64)
    assert intervals(LinkGraph(empty, empty, empty, empty, empty)) == []


def test_four_hundred_chains_of_five_hundred_take_seconds_not_minutes() -> None:
    chains, length = 400, 500
    stream = np.random.default_rng(1)
    node = np.arange(chains * length).reshape(chains, length)
    times = stream.permutation(chains * (length - 1)).astype(np.int64) + 1
    graph = LinkGraph(
        np.zeros(chains * length, dtype=np.int64),
        np.full(chains * length, NEVER, dtype=np.int64),
        node[:, :-1].ravel().copy(),
        node[:, 1:].ravel().copy(),
        times,
    )
    started = monotonic()
    found = membership_intervals(graph, linked_clusters(graph))
    assert monotonic() - started < 30
    assert np.array_equal(found.label[found.valid_to == NEVER], np.repeat(node[:, 0], length))


def test_the_vertices_of_a_label_and_an_instant_are_its_intervals_that_hold_then() -> None:
    for seed in range(50):
        stream = random.Random(seed)
        rows = [(stream.randrange(3), since, since + stream.randrange(1, 6)) for since in (stream.randrange(8) for _ in range(stream.randrange(1, 20)))]
        label, valid_from, valid_to = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
        valid_to[valid_to > 10] = NEVER
        intervals, groups = confidence._vertices(label, valid_from, valid_to)
        ends = sorted(set(zip(label.tolist(), valid_to.tolist(), strict=True)))
        holding = [
            (number, place)
            for number, (of, at) in enumerate(ends)
            for place in range(len(rows))
            if label[place] == of and valid_from[place] < at <= valid_to[place]
        ]
        assert sorted(zip(groups.tolist(), intervals.tolist(), strict=True)) == holding and sorted(groups.tolist()) == groups.tolist()


def test_intervals_that_follow_each_other_need_memory_by_their_number_and_not_by_its_square() -> None:
    peaks = []
    for count in (500, 2000):
        since = np.arange(count, dtype=np.int64)
        tracemalloc.start()
        intervals, _ = confidence._vertices(np.zeros(count, dtype=np.int64), since, since + 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(intervals) == count
    assert peaks[1] < 5 * peaks[0]
