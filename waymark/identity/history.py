"""Who was whom as known at each instant: membership intervals of a graph whose links appear, and whose over-shared nodes drop out, in event time.

Works on integer arrays alone: nodes are positions in order of first sight, times are microseconds. So the label of a cluster, its earliest node, is
the least position in it, and the current map is the set of intervals that never end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from waymark.identity.confidence import NEVER, Doubles, Flags, Integers, Intervals, Surety, WeighedLinks, surety
from waymark.identity.constrained import Forbidden, Link, replay_constrained
from waymark.identity.replay import ClusterReplay
from waymark.identity.surety_replay import replay_surety

ABSENT = -1
# Clusters of at most so many links, none of whose nodes drops out, are replayed all at once, link by link; the others one by one. Clusters with forbidden
# pairs, or with links that end, have a replay of their own.
LOCKSTEP_LINKS = 48
# Clusters with an estimated link, and of at most so many links, are weighed as a whole at each change, all clusters at once; larger ones change by change.
WHOLE_LINKS = 48


@dataclass(frozen=True)
class LinkGraph:
    """Nodes in order of (first_seen, type, value), the links that were ever in force, and the pairs that were ever forbidden.

    first_seen, dropped: µs per node, the latter when it became over-shared, or NEVER. link_a, link_b: positions of nodes; link_first: µs, with
    first_seen <= link_first < dropped for both nodes of each link. evidence: None where nobody asks how sure. constraints: what few graphs have.
    """

    first_seen: Integers
    dropped: Integers
    link_a: Integers
    link_b: Integers
    link_first: Integers
    evidence: Evidence | None = None
    constraints: Constraints | None = None


@dataclass(frozen=True)
class Evidence:
    """Of each link: its probability, and whether it is an operator's word or an estimate. Of each node: whether it is an account."""

    probability: Doubles
    is_operators: Flags
    is_estimated: Flags
    is_account: Flags


@dataclass(frozen=True)
class Constraints:
    """rank: of each node by (type, value). link_until: of each link, µs, NEVER = lasts.

    pair_a, pair_b: positions of nodes that must not be together in (pair_since, pair_until]; pair_is_operators: an operator said so.
    """

    rank: Integers
    link_until: Integers
    pair_a: Integers
    pair_b: Integers
    pair_since: Integers
    pair_until: Integers
    pair_is_operators: Flags
    # Of each node the number of the source whose account it is, in clusters with several accounts of one source; 0 for all others.
    account_of: Integers


@dataclass
class Relabelled:
    """What happened, in pieces: `node` got `label` at `at`. Per node the pieces are in order of time; the last of one instant counts."""

    node: list[Integers] = field(default_factory=list)
    label: list[Integers] = field(default_factory=list)
    at: list[Integers] = field(default_factory=list)

    def add(self, node: Integers, label: Integers, at: Integers) -> None:
        self.node.append(node)
        self.label.append(label)
        self.at.append(at)


def linked_clusters(graph: LinkGraph) -> Integers:
    """Cluster number of each node: connected components over all links that were ever in force."""
    # Imported late: a third of a second that Dagster's code location and most commands have no use for.
    from scipy.sparse import coo_array  # type: ignore[import-untyped, unused-ignore]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped, unused-ignore]

    size = len(graph.first_seen)
    links = coo_array((np.ones(len(graph.link_a), dtype=np.int8), (graph.link_a, graph.link_b)), shape=(size, size))
    _, cluster = connected_components(links, directed=False)
    return np.asarray(cluster, dtype=np.int64)


def membership_intervals(graph: LinkGraph, cluster: Integers) -> Intervals:
    """All intervals of all nodes; `cluster` is what `linked_clusters` gave. Links of one instant apply together, and no interval is empty."""
    positions = np.arange(len(graph.first_seen), dtype=np.int64)
    happened = Relabelled()
    happened.add(positions, positions, graph.first_seen)

    count = int(cluster.max()) + 1 if len(cluster) else 0
    link_cluster = cluster[graph.link_a]
    is_constrained = _constrained_clusters(graph, cluster, count)
    is_single = np.bincount(link_cluster, minlength=count) > LOCKSTEP_LINKS
    drops = np.flatnonzero(graph.dropped != NEVER)
    is_single[cluster[drops]] = True
    order = np.lexsort((graph.link_b, graph.link_a, graph.link_first, link_cluster))
    if is_constrained.any():
        in_constrained = is_constrained[link_cluster[order]]
        _replay_constrained(graph, cluster, order[in_constrained], happened)
        order = order[~in_constrained]
    in_single = is_single[link_cluster[order]]
    _replay_in_lockstep(graph, cluster, order[~in_single], happened)
    _replay_one_by_one(graph, cluster, order[in_single], drops, happened)
    happened.add(drops, np.full(len(drops), ABSENT, dtype=np.int64), graph.dropped[drops])
    return _as_intervals(happened)


def weigh_intervals(graph: LinkGraph, cluster: Integers, intervals: Intervals) -> tuple[Intervals, Surety]:
    """The intervals, and how sure each is (`confidence.surety`). The graph must have its evidence.

    In clusters with an estimated link an interval holds as long as it is as sure as that: whoever asks for a threshold asks as known then, and must not learn
    of a link that came later. Rows stand in no order of clusters.
    """
    assert graph.evidence is not None
    until = graph.constraints.link_until if graph.constraints else np.full(len(graph.link_a), NEVER, dtype=np.int64)
    end = np.minimum(until, np.minimum(graph.dropped[graph.link_a], graph.dropped[graph.link_b]))
    evidence = graph.evidence
    links = WeighedLinks(graph.link_a, graph.link_b, graph.link_first, end, evidence.probability, evidence.is_operators, evidence.is_estimated)
    is_large = _large_estimated_clusters(graph, cluster)[cluster[intervals.node]]
    if not is_large.any():
        return _weighed_whole(graph, cluster, links, intervals)
    parts = [_joined(*replay_surety(_part(intervals, is_large), links, cluster, evidence.is_account))]
    if not is_large.all():
        parts.append(_weighed_whole(graph, cluster, links, _part(intervals, ~is_large)))
    found = Intervals(*(np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("node", "label", "valid_from", "valid_to")))
    return found, Surety(*(np.concatenate([getattr(sure, name) for _, sure in parts]) for name in ("confidence", "method", "weakest")))


def _part(intervals: Intervals, chosen: Flags) -> Intervals:
    return Intervals(intervals.node[chosen], intervals.label[chosen], intervals.valid_from[chosen], intervals.valid_to[chosen])


def _weighed_whole(graph: LinkGraph, cluster: Integers, links: WeighedLinks, intervals: Intervals) -> tuple[Intervals, Surety]:
    assert graph.evidence is not None
    cut = _cut_where_links_change(graph, cluster, links.end, intervals)
    sure = surety(cut, links, graph.evidence.is_account)
    return (intervals, sure) if cut is intervals else _joined(cut, sure)


def _large_estimated_clusters(graph: LinkGraph, cluster: Integers) -> Flags:
    """By cluster, whether it has an estimated link and more than WHOLE_LINKS."""
    assert graph.evidence is not None
    links = cluster[graph.link_a]
    count = int(cluster.max()) + 1 if len(cluster) else 0
    is_large = np.bincount(links, minlength=count) > WHOLE_LINKS
    return is_large & (np.bincount(links[graph.evidence.is_estimated], minlength=count) > 0)


def _cut_where_links_change(graph: LinkGraph, cluster: Integers, end: Integers, intervals: Intervals) -> Intervals:
    """The intervals of clusters with an estimated link, cut at each instant at which a link or member of the cluster comes or goes; the others as they are."""
    assert graph.evidence is not None
    is_estimated = np.zeros(int(cluster.max()) + 1 if len(cluster) else 0, dtype=np.bool_)
    is_estimated[cluster[graph.link_a[graph.evidence.is_estimated]]] = True
    of_link = np.flatnonzero(is_estimated[cluster[graph.link_a]])
    if not len(of_link):
        return intervals
    # A member that goes takes its links along, though they last.
    of_interval = np.flatnonzero(is_estimated[cluster[intervals.node]])
    at = np.concatenate((graph.link_first[of_link], end[of_link], intervals.valid_from[of_interval], intervals.valid_to[of_interval]))
    of_cluster = np.concatenate((np.tile(cluster[graph.link_a[of_link]], 2), np.tile(cluster[intervals.node[of_interval]], 2)))
    of_cluster, at = of_cluster[at != NEVER], at[at != NEVER]
    instants, rank = np.unique(at, return_inverse=True)
    # Cluster and instant as one number, so that the instants within an interval are found by bisection.
    changes = np.unique(of_cluster * (len(instants) + 1) + rank)
    base = cluster[intervals.node] * (len(instants) + 1)
    first = np.searchsorted(changes, base + np.searchsorted(instants, intervals.valid_from, side="right"))
    last = np.searchsorted(changes, base + np.searchsorted(instants, intervals.valid_to, side="left"))
    cuts = np.maximum(last - first, 0)
    pieces = cuts + 1
    of_piece = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    valid_from, valid_to = intervals.valid_from[of_piece], intervals.valid_to[of_piece]
    following, preceding = number < cuts[of_piece], number > 0
    valid_to[following] = instants[changes[(first[of_piece] + number)[following]] % (len(instants) + 1)]
    valid_from[preceding] = instants[changes[(first[of_piece] + number - 1)[preceding]] % (len(instants) + 1)]
    return Intervals(intervals.node[of_piece], intervals.label[of_piece], valid_from, valid_to)


def _joined(cut: Intervals, sure: Surety) -> tuple[Intervals, Surety]:
    """Pieces that follow each other and are alike, as one. Pieces of a node stand in order of time."""
    is_head = np.ones(len(cut.node), dtype=np.bool_)
    is_head[1:] = (
        (cut.node[1:] != cut.node[:-1]) | (cut.label[1:] != cut.label[:-1]) | (cut.valid_from[1:] != cut.valid_to[:-1])
        | (sure.confidence[1:] != sure.confidence[:-1]) | (sure.method[1:] != sure.method[:-1]) | (sure.weakest[1:] != sure.weakest[:-1])
    )  # fmt: skip
    heads = np.flatnonzero(is_head)
    tails = np.append(heads[1:], len(cut.node)) - 1
    joined = Intervals(cut.node[heads], cut.label[heads], cut.valid_from[heads], cut.valid_to[tails])
    return joined, Surety(sure.confidence[heads], sure.method[heads], sure.weakest[heads])


def _constrained_clusters(graph: LinkGraph, cluster: Integers, count: int) -> Flags:
    """By cluster, whether a forbidden pair or two accounts of one source lie in it, or a link of it ends."""
    found = np.zeros(count, dtype=np.bool_)
    if (constraints := graph.constraints) is not None:
        together = cluster[constraints.pair_a] == cluster[constraints.pair_b]
        found[cluster[constraints.pair_a[together]]] = True
        found[cluster[graph.link_a[constraints.link_until != NEVER]]] = True
        found[cluster[np.flatnonzero(constraints.account_of)]] = True
    return found


def _replay_constrained(graph: LinkGraph, cluster: Integers, order: Integers, happened: Relabelled) -> None:
    """`order`: the constrained clusters' links, sorted by cluster."""
    constraints = graph.constraints
    assert constraints is not None and graph.evidence is not None
    link_cluster = cluster[graph.link_a[order]]
    pairs: dict[int, list[Forbidden]] = {}
    columns = (constraints.pair_a, constraints.pair_b, constraints.pair_since, constraints.pair_until, constraints.pair_is_operators)
    for a, b, since, until, is_operators in zip(*(column.tolist() for column in columns), strict=True):
        if cluster[a] == cluster[b]:
            pairs.setdefault(int(cluster[a]), []).append(Forbidden(a, b, since, until, is_operators))
    heads = np.concatenate(([0], np.flatnonzero(link_cluster[1:] != link_cluster[:-1]) + 1, [len(order)]))
    for start, end in zip(heads[:-1].tolist(), heads[1:].tolist(), strict=True):
        links = [_link(graph, graph.evidence, constraints, link) for link in order[start:end].tolist()]
        nodes = sorted({node for link in links for node in (link.node, link.other)})
        spans = {node: (int(graph.first_seen[node]), int(graph.dropped[node])) for node in nodes}
        accounts = {node: source for node in nodes if (source := int(constraints.account_of[node]))}
        changes = replay_constrained(spans, links, pairs.get(int(link_cluster[start]), []), NEVER, accounts)
        at, node, label = (np.array([change[part] for change in changes], dtype=np.int64) for part in range(3))
        happened.add(node, label, at)


def _link(graph: LinkGraph, evidence: Evidence, constraints: Constraints, link: int) -> Link:
    a, b = int(graph.link_a[link]), int(graph.link_b[link])
    low, high = sorted((int(constraints.rank[a]), int(constraints.rank[b])))
    return Link(
        a, b, int(graph.link_first[link]), int(constraints.link_until[link]), float(evidence.probability[link]), bool(evidence.is_operators[link]),
        low, high, bool(constraints.account_of[a]) and constraints.account_of[a] == constraints.account_of[b],
    )  # fmt: skip


def _replay_in_lockstep(graph: LinkGraph, cluster: Integers, order: Integers, happened: Relabelled) -> None:
    """Round k applies the k-th link of every cluster. `order`: the clusters' links, sorted by cluster and time."""
    if not len(order):
        return
    label = np.arange(len(cluster), dtype=np.int64)
    by_cluster = np.argsort(cluster, kind="stable")
    sizes = np.bincount(cluster)
    starts = np.cumsum(sizes) - sizes
    link_cluster = cluster[graph.link_a[order]]
    is_head = np.concatenate(([True], link_cluster[1:] != link_cluster[:-1]))
    heads = np.flatnonzero(is_head)
    rank = np.arange(len(order)) - heads[np.cumsum(is_head) - 1]
    by_rank = order[np.argsort(rank, kind="stable")]
    first = 0
    for links_in_round in np.bincount(rank):
        links = by_rank[first : first + links_in_round]
        first += int(links_in_round)
        one, other = label[graph.link_a[links]], label[graph.link_b[links]]
        is_merge = one != other
        links, kept, lost = links[is_merge], np.minimum(one, other)[is_merge], np.maximum(one, other)[is_merge]
        merged = cluster[graph.link_a[links]]
        lengths = sizes[merged]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        members = by_cluster[np.arange(total) + np.repeat(starts[merged] - (ends - lengths), lengths)]
        is_lost = label[members] == np.repeat(lost, lengths)
        members, of_link = members[is_lost], np.repeat(np.arange(len(links)), lengths)[is_lost]
        label[members] = kept[of_link]
        happened.add(members, kept[of_link], graph.link_first[links][of_link])


def _replay_one_by_one(graph: LinkGraph, cluster: Integers, order: Integers, drops: Integers, happened: Relabelled) -> None:
    """Clusters with many links, or with nodes that drop out. `order`: their links, sorted by cluster and time."""
    if not len(order):
        return
    link_cluster = cluster[graph.link_a[order]]
    heads = np.concatenate(([0], np.flatnonzero(link_cluster[1:] != link_cluster[:-1]) + 1, [len(order)]))
    drops = drops[np.lexsort((drops, graph.dropped[drops], cluster[drops]))]
    drop_cluster = cluster[drops]
    for start, end in zip(heads[:-1].tolist(), heads[1:].tolist(), strict=True):
        links = order[start:end]
        low, high = np.searchsorted(drop_cluster, [link_cluster[start], link_cluster[start] + 1])
        dropping = drops[low:high]
        replay = ClusterReplay(has_drops=len(dropping) > 0)
        replay.run(
            list(zip(graph.link_first[links].tolist(), graph.link_a[links].tolist(), graph.link_b[links].tolist(), strict=True)),
            list(zip(graph.dropped[dropping].tolist(), dropping.tolist(), strict=True)),
        )
        lengths = np.array(replay.counts, dtype=np.int64)
        labels, times = np.array(replay.labels, dtype=np.int64), np.array(replay.times, dtype=np.int64)
        happened.add(np.array(replay.nodes, dtype=np.int64), np.repeat(labels, lengths), np.repeat(times, lengths))


def _as_intervals(happened: Relabelled) -> Intervals:
    node, label, at = np.concatenate(happened.node), np.concatenate(happened.label), np.concatenate(happened.at)
    order = np.argsort(node, kind="stable")
    node, label, at = node[order], label[order], at[order]
    # Of several changes at one instant the last one stands: the others would be empty intervals.
    is_last = np.concatenate(((node[1:] != node[:-1]) | (at[1:] != at[:-1]), [True]))[: len(node)]
    node, label, at = node[is_last], label[is_last], at[is_last]
    is_change = np.concatenate(([True], (node[1:] != node[:-1]) | (label[1:] != label[:-1])))[: len(node)]
    node, label, at = node[is_change], label[is_change], at[is_change]
    ends = np.full(len(node), NEVER, dtype=np.int64)
    is_followed = node[1:] == node[:-1]
    ends[:-1][is_followed] = at[1:][is_followed]
    is_present = label != ABSENT
    return Intervals(node[is_present], label[is_present], at[is_present], ends[is_present])
