"""How sure a membership is: the product of the probabilities of the links on the surest way from the cluster's earliest identifier.

A chain of links holds if all of them do, and they are taken as independent, so a chain's probability is the product, and the surest way is a shortest path by
-log p (Dijkstra, 1959). Two ways side by side make a membership surer than either; to say by how much is #P-hard (network reliability; Valiant, 1979), so the
figure is a lower bound. Rounded, so that it is the same on every machine.

Whether a membership is sure enough for a use is another question: stated probabilities rank kinds of evidence, no threshold asks them, and a chain of sure
links would fall below any threshold by its length alone. What is asked is the weakest estimated link on the way on which that is strongest (a path of maximum
capacity; Hu, 1961). The way leads from the customer's earliest account, or from the earliest identifier where there is none: else one form of long ago, joined
by one doubtful link, would put all in doubt that an account has done. The largest part would do as well, but two that grow in turn would change places with
each identifier, and what counted yesterday would not today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped, unused-ignore]

Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).max)
DIGITS = 6
# By what a membership holds, the strongest that is enough for it.
METHODS = ("own", "deterministic", "operator", "probabilistic")
OWN, DETERMINISTIC, OPERATOR, PROBABILISTIC = range(4)
# A link of probability 1 must not vanish from a sparse matrix.
_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True)
class WeighedLinks:
    """Links with their times in force, (first, end] in µs. is_operators, is_estimated: what kind of evidence."""

    node: Integers
    other: Integers
    first: Integers
    end: Integers
    probability: Doubles
    is_operators: Flags
    is_estimated: Flags


@dataclass(frozen=True)
class Intervals:
    """One row per node and interval (valid_from, valid_to] in which the node's cluster had `label` as its earliest node; valid_to NEVER: still has."""

    node: Integers
    label: Integers
    valid_from: Integers
    valid_to: Integers


@dataclass(frozen=True)
class Surety:
    """One row per interval. method: index of METHODS; weakest: probability of the weakest estimated link on the way, inf where none is needed."""

    confidence: Doubles
    method: Integers
    weakest: Doubles


def surety(intervals: Intervals, links: WeighedLinks, is_account: Flags) -> Surety:
    """Of each interval, by the links in force at its end, or now where it lasts. is_account: of each node.

    An interval's cluster at its end is made of the intervals of the same label that hold at that instant.
    """
    from scipy.sparse import csr_array  # late: see history.linked_clusters
    from scipy.sparse.csgraph import connected_components, dijkstra  # type: ignore[import-untyped, unused-ignore]

    node, label, valid_from, valid_to = intervals.node, intervals.label, intervals.valid_from, intervals.valid_to
    confidence, method, weakest = np.ones(len(node)), np.full(len(node), OWN, dtype=np.int64), np.full(len(node), np.inf)
    if not len(links.node):
        return Surety(confidence, method, weakest)
    vertices, group = _vertices(label, valid_from, valid_to)
    of_vertex = _positions(group, node[vertices])
    kept = _links_of_vertices(of_vertex, group, node[vertices], valid_to[vertices], links)
    one, other, link = kept
    size = len(vertices)
    roots = np.flatnonzero(node[vertices] == label[vertices])
    distance = dijkstra(_shortest(one, other, weights(links)[link], size), directed=False, indices=roots, min_only=True)
    root_of = np.full(int(group.max()) + 1, -1, dtype=np.int64)
    root_of[group[roots]] = roots
    found = np.full(size, PROBABILISTIC, dtype=np.int64)
    rank = ranks(links)[link]
    for code in (PROBABILISTIC, OPERATOR, DETERMINISTIC):
        if code != DETERMINISTIC and not (rank == code).any():
            continue
        part = rank <= code
        pairs = csr_array((np.ones(int(part.sum()), dtype=np.int8), (one[part], other[part])), shape=(size, size))
        piece = connected_components(pairs, directed=False)[1]
        found[piece == piece[root_of[group]]] = code
    found[roots] = OWN
    # A vertex stands for its interval only in the group that ends with it; in another it lends its links.
    is_ending = _is_ending(group, valid_to, vertices)
    confidence[vertices[is_ending]] = np.round(np.exp(-distance[is_ending]), DIGITS)
    method[vertices[is_ending]] = found[is_ending]
    if links.is_estimated[link].any():
        weakest[vertices[is_ending]] = _weakest(kept, links, _starts(group, node[vertices], is_account), size)[is_ending]
    return Surety(confidence, method, weakest)


def _starts(group: Integers, node: Integers, is_account: Flags) -> Integers:
    """The vertex of each group from which its weakest links are asked: its earliest account, else its earliest node."""
    rank = np.where(is_account[node], node, node + len(is_account))
    least = np.full(int(group.max()) + 1, NEVER, dtype=np.int64)
    np.minimum.at(least, group, rank)
    return np.flatnonzero(rank == least[group])


def _weakest(kept: tuple[Integers, Integers, Integers], links: WeighedLinks, starts: Integers, size: int) -> Doubles:
    """Of each vertex the weakest estimated link on the best way from a start; inf where none is needed. One spanning tree holds the best ways of all."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree  # type: ignore[import-untyped, unused-ignore]

    one, other, link = kept
    strength, grade = grades(links)
    tree = minimum_spanning_tree(_shortest(one, other, (grade[link] + 1).astype(np.float64), size)).tocoo()
    # One more vertex is joined to all starts, so that one search finds every vertex's way back.
    low, high = np.concatenate((tree.row, np.full(len(starts), size))), np.concatenate((tree.col, starts))
    rooted = csr_array((np.ones(len(low), dtype=np.int8), (low, high)), shape=(size + 1, size + 1))
    _, back = breadth_first_order(rooted, size, directed=False)
    back = np.where(back < 0, size, back)
    worst = np.zeros(size + 1, dtype=np.int64)
    worst[np.where(back[tree.col] == tree.row, tree.col, tree.row)] = tree.data.astype(np.int64) - 1
    # Each turn doubles the steps that are looked back.
    while (back[:-1] != size).any():
        worst, back = np.maximum(worst, worst[back]), back[back]
    return strength[worst[:-1]]


def weights(links: WeighedLinks) -> Doubles:
    """Of each link its length: what adds up on a way whose probabilities are multiplied."""
    return np.maximum(-np.log(links.probability), _LEAST_WEIGHT)


def ranks(links: WeighedLinks) -> Integers:
    """Of each link the kind of evidence, an index of METHODS."""
    return np.where(links.is_estimated, PROBABILISTIC, np.where(links.is_operators, OPERATOR, DETERMINISTIC))


def grades(links: WeighedLinks) -> tuple[Doubles, Integers]:
    """(strength by grade, grade of each link): 0 for stated links, of strength inf; estimated ones from 1 on, the surest first, with their probabilities."""
    chances, rank = np.unique(-links.probability[links.is_estimated], return_inverse=True)
    grade = np.zeros(len(links.node), dtype=np.int64)
    grade[links.is_estimated] = rank + 1
    return np.concatenate(([np.inf], -chances)), grade


def _vertices(label: Integers, valid_from: Integers, valid_to: Integers) -> tuple[Integers, Integers]:
    """(interval, group) of each vertex: a group is a label and an instant at which intervals of it end; its vertices are those that hold then."""
    order = np.lexsort((valid_to, label))
    sorted_label, sorted_to = label[order], valid_to[order]
    is_new = np.concatenate(([True], (sorted_label[1:] != sorted_label[:-1]) | (sorted_to[1:] != sorted_to[:-1])))[: len(order)]
    heads = np.flatnonzero(is_new)
    group_label, group_to = sorted_label[heads], sorted_to[heads]
    # An interval holds in the groups of its label from the first that ends after its beginning to its own: groups stand in order of label and time.
    last = np.cumsum(is_new) - 1
    first = np.searchsorted(group_label, sorted_label)
    is_choice = first < last
    if is_choice.any():
        # Label and instant as one number, so that the first group is found by bisection.
        instants = np.unique(group_to)
        keys = group_label * (len(instants) + 1) + np.searchsorted(instants, group_to)
        began = np.searchsorted(instants, valid_from[order[is_choice]], side="right")
        first[is_choice] = np.searchsorted(keys, sorted_label[is_choice] * (len(instants) + 1) + began)
    lengths = last - first + 1
    offset = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    group = np.repeat(first, lengths) + offset
    by_group = np.argsort(group, kind="stable")
    return np.repeat(order, lengths)[by_group].astype(np.int64), group[by_group].astype(np.int64)


def _is_ending(group: Integers, valid_to: Integers, vertices: Integers) -> Flags:
    """Whether a vertex's interval ends at its group's instant: the least end among the group's vertices."""
    least = np.full(int(group.max()) + 1, NEVER, dtype=np.int64)
    np.minimum.at(least, group, valid_to[vertices])
    return np.asarray(valid_to[vertices] == least[group])


@dataclass(frozen=True)
class _Positions:
    """Finds the vertex of a group and node."""

    keys: Integers
    vertex: Integers
    factor: int

    def find(self, group: Integers, node: Integers) -> Integers:
        """The vertex, or -1."""
        wanted = group * self.factor + node
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, self.vertex[at], -1)


def _positions(group: Integers, node: Integers) -> _Positions:
    factor = int(node.max()) + 1
    keys = group * factor + node
    order = np.argsort(keys, kind="stable")
    return _Positions(keys[order], order.astype(np.int64), factor)


def _links_of_vertices(
    of_vertex: _Positions, group: Integers, node: Integers, valid_to: Integers, links: WeighedLinks
) -> tuple[Integers, Integers, Integers]:
    """(vertex, vertex, link) for each link in force at a group's instant between two of its vertices."""
    instant = np.full(int(group.max()) + 1, NEVER, dtype=np.int64)
    np.minimum.at(instant, group, valid_to)
    by_node = np.argsort(links.node, kind="stable")
    starts, stops = np.searchsorted(links.node[by_node], node, side="left"), np.searchsorted(links.node[by_node], node, side="right")
    lengths = stops - starts
    vertex = np.repeat(np.arange(len(node)), lengths)
    offset = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    link = by_node[np.repeat(starts, lengths) + offset]
    in_force = (links.first[link] < instant[group[vertex]]) & (instant[group[vertex]] <= links.end[link])
    vertex, link = vertex[in_force], link[in_force]
    if not len(vertex):
        return vertex, vertex, link
    other = of_vertex.find(group[vertex], links.other[link])
    met = other >= 0
    return vertex[met], other[met], link[met]


def _shortest(one: Integers, other: Integers, weights: Doubles, size: int) -> csr_array:
    """A sparse matrix with the least weight of parallel links: its constructor would add them up."""
    from scipy.sparse import csr_array

    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((weights, high, low))
    low, high, weights = low[order], high[order], weights[order]
    is_first = np.concatenate(([True], (low[1:] != low[:-1]) | (high[1:] != high[:-1])))[: len(low)]
    return csr_array((weights[is_first], (low[is_first], high[is_first])), shape=(size, size))
