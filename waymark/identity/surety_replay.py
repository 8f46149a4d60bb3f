"""How sure the memberships of large clusters are at each instant, found from what changes there: `confidence.surety` for clusters with an estimated link.

Looked at as a whole at each instant at which anything comes or goes, n identifiers with n changes cost n². Here three figures of each node are kept from one
change to the next: how far it is from the customer's earliest node, the kind of evidence that is needed on the way, and the weakest estimated link on the way
from the customer's earliest account. Each is the best over all ways. So what a new link or member brings is followed as far as it makes anything better
(Dijkstra, 1959), and of what goes those alone are measured anew whose best way it was (Ramalingam and Reps, 1996): about as many steps as rows are written.
Only another earliest account takes a customer's size in steps without writing as many rows, and a link that goes where another way was as good.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import numpy as np

from waymark.identity.confidence import DETERMINISTIC, DIGITS, NEVER, OWN, Flags, Integers, Intervals, Surety, WeighedLinks, grades, ranks, weights


def replay_surety(intervals: Intervals, links: WeighedLinks, cluster: Integers, is_account: Flags) -> tuple[Intervals, Surety]:
    """Pieces of the intervals, each as long as it is as sure as that, by node and time. cluster, is_account: of each node. Of links, only those of the
    intervals' clusters are looked at."""
    strength, grade = grades(links)
    steps = (weights(links), ranks(links), grade)
    pieces: list[_Piece] = []
    of_interval = np.argsort(cluster[intervals.node], kind="stable")
    numbers = cluster[intervals.node[of_interval]]
    was_in_force = np.flatnonzero(links.first < links.end)
    of_link = was_in_force[np.argsort(cluster[links.node[was_in_force]], kind="stable")]
    link_numbers = cluster[links.node[of_link]]
    heads = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
    for start, end in zip(heads.tolist(), [*heads[1:].tolist(), len(numbers)], strict=True):
        low, high = np.searchsorted(link_numbers, [numbers[start], numbers[start] + 1])
        here, there = of_interval[start:end], of_link[low:high]
        spans = Intervals(intervals.node[here], intervals.label[here], intervals.valid_from[here], intervals.valid_to[here])
        accounts = set(spans.node[is_account[spans.node]].tolist())
        replay = _Replay(accounts, links.node[there].tolist(), links.other[there].tolist(), tuple(step[there].tolist() for step in steps))
        pieces += replay.run(_changes(spans, links.first[there], links.end[there]))
    pieces.sort()
    columns = list(zip(*pieces, strict=True))
    node, valid_from, valid_to, label, rank, worst = (np.array(columns[part], dtype=np.int64) for part in (0, 1, 2, 3, 5, 6))
    confidence = np.asarray(np.round(np.exp(-np.array(columns[4], dtype=np.float64)), DIGITS), dtype=np.float64)
    return Intervals(node, label, valid_from, valid_to), Surety(confidence, np.where(node == label, OWN, rank), strength[worst])


# node, valid_from, valid_to, label, distance, rank, grade
_Piece = tuple[int, int, int, int, float, float, float]
# link, its ends
_Joined = tuple[int, int, int]
# figure, node, link, the node before
_Way = tuple[float, int, int, int]
_START = (-1, -1)


@dataclass(frozen=True, slots=True)
class _Change:
    """What comes and goes at one instant. entered: nodes and their labels; ended, begun: places of links."""

    left: list[int] = field(default_factory=list)
    entered: list[tuple[int, int]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)


def _changes(spans: Intervals, link_first: Integers, link_end: Integers) -> list[tuple[int, _Change]]:
    """In order of time; what never ends is left out."""
    found: defaultdict[int, _Change] = defaultdict(_Change)
    for node, label, valid_from, valid_to in zip(*(column.tolist() for column in (spans.node, spans.label, spans.valid_from, spans.valid_to)), strict=True):
        found[valid_from].entered.append((node, label))
        found[valid_to].left.append(node)
    for link, (first, end) in enumerate(zip(link_first.tolist(), link_end.tolist(), strict=True)):
        found[first].begun.append(link)
        found[end].ended.append(link)
    found.pop(NEVER, None)
    return sorted(found.items())


class _Near:
    """The links in force between nodes of one label. label: of each node, kept by the caller; node, other: the links' ends."""

    def __init__(self, label: dict[int, int], node: list[int], other: list[int]) -> None:
        self._label = label
        self._ends = list(zip(node, other, strict=True))
        self._links: defaultdict[int, dict[int, int]] = defaultdict(dict)

    def add(self, link: int) -> None:
        node, other = self._ends[link]
        self._links[node][link], self._links[other][link] = other, node

    def remove(self, link: int) -> None:
        for end in self._ends[link]:
            del self._links[end][link]

    def joined(self, links: list[int]) -> list[_Joined]:
        """Of the links, those whose ends have one label."""
        ends = ((link, *self._ends[link]) for link in links)
        return [(link, node, other) for link, node, other in ends if node in self._label and self._label[node] == self._label.get(other)]

    def of(self, node: int) -> list[tuple[int, int]]:
        """(link, other end) of each that leads to a node of the same label."""
        label = self._label[node]
        return [(link, other) for link, other in self._links[node].items() if self._label.get(other) == label]


class _Figure:
    """One figure of each node: the least over all ways from where its customer's ways start, on which steps add up, or the greatest of them counts.

    The best ways are kept as a tree, so that it is known whose way something was that goes.
    """

    def __init__(self, near: _Near, steps: list[float], at_start: float, *, adds_up: bool) -> None:
        self.of: dict[int, float] = {}
        self._near = near
        self._steps = steps
        self._at_start = at_start
        self._adds_up = adds_up
        self._via: dict[int, tuple[int, int]] = {}  # of each node but the starts: link, and the node before
        self._next: defaultdict[int, set[int]] = defaultdict(set)

    def forget(self, nodes: list[int], links: list[_Joined]) -> set[int]:
        """Those who lose their figures: the nodes, whoever has a way over one of the links, and all beyond."""
        left = nodes + [end for link, *ends in links for end in ends if end in self._via and self._via[end][0] == link]
        found: set[int] = set()
        while left:
            node = left.pop()
            if self.of.pop(node, None) is not None:
                found.add(node)
                self._leave(node)
                left += self._next.pop(node, ())
        return found

    def follow(self, anew: set[int], starts: list[int], begun: list[_Joined]) -> set[int]:
        """Those whose figures are new or better. anew: nodes without one; starts: those of them where ways start; begun: new links."""
        of, near = self.of, self._near
        ways = [(self._at_start, node, *_START) for node in starts]
        ways += [self._way(other, link, node) for node in anew for link, other in near.of(node) if other in of]
        ways += [self._way(one, link, other) for link, *ends in begun for one, other in (ends, ends[::-1]) if one in of]
        heapify(ways)
        found: set[int] = set()
        while ways:
            figure, node, *via = heappop(ways)
            if node in of and of[node] <= figure:
                continue
            of[node] = figure
            found.add(node)
            self._reach(node, *via)
            for link, other in near.of(node):
                way = self._way(node, link, other)
                if other not in of or way[0] < of[other]:
                    heappush(ways, way)
        return found

    def _way(self, node: int, link: int, beyond: int) -> _Way:
        step = self._steps[link]
        return (self.of[node] + step if self._adds_up else max(self.of[node], step)), beyond, link, node

    def _reach(self, node: int, link: int, before: int) -> None:
        self._leave(node)
        if (link, before) != _START:
            self._via[node] = link, before
            self._next[before].add(node)

    def _leave(self, node: int) -> None:
        if via := self._via.pop(node, None):
            self._next[via[1]].discard(node)


class _Replay:
    """One cluster. steps: by link its weight, rank and grade."""

    def __init__(self, accounts: set[int], node: list[int], other: list[int], steps: tuple[list[float], ...]) -> None:
        self._accounts = accounts
        self._label: dict[int, int] = {}
        self._members: defaultdict[int, set[int]] = defaultdict(set)
        self._account: dict[int, int] = {}  # of each label the earliest account, else the earliest node
        self._near = _Near(self._label, node, other)
        weight, rank, grade = steps
        self._distance = _Figure(self._near, weight, 0.0, adds_up=True)
        self._rank = _Figure(self._near, rank, DETERMINISTIC, adds_up=False)
        self._grade = _Figure(self._near, grade, 0, adds_up=False)
        self._open: dict[int, tuple[int, int, float, float, float]] = {}
        self._pieces: list[_Piece] = []

    def run(self, changes: list[tuple[int, _Change]]) -> list[_Piece]:
        """changes: in order of time."""
        for at, change in changes:
            ended = self._near.joined(change.ended)
            lost = self._apply(change)
            begun = self._near.joined(change.begun)
            entered = {node for node, _ in change.entered}
            restarted = self._restarted(lost, entered)
            changed = set(entered)
            for figure in (self._distance, self._rank):
                anew = self._present(figure.forget(change.left, ended)) | entered
                changed |= anew | figure.follow(anew, [node for node in anew if self._label[node] == node], begun)
            anew = self._present(self._grade.forget([*change.left, *restarted], ended)) | entered
            changed |= anew | self._grade.follow(anew, [node for node in anew if self._account[self._label[node]] == node], begun)
            for node in change.left:
                if node not in self._label:
                    self._close(node, at)
            for node in changed:
                self._tell(node, at)
        for node in list(self._open):
            self._close(node, NEVER)
        return self._pieces

    def _apply(self, change: _Change) -> set[int]:
        """Labels that lost members."""
        lost = set()
        for link in change.ended:
            self._near.remove(link)
        for node in change.left:
            label = self._label.pop(node)
            self._members[label].remove(node)
            lost.add(label)
        for node, label in change.entered:
            self._label[node] = label
            self._members[label].add(node)
        for link in change.begun:
            self._near.add(link)
        return lost

    def _present(self, nodes: set[int]) -> set[int]:
        return {node for node in nodes if node in self._label}

    def _restarted(self, lost: set[int], entered: set[int]) -> set[int]:
        """Members of labels whose earliest account is another now; keeps `_account`."""
        fresh: defaultdict[int, set[int]] = defaultdict(set)
        for node in entered:
            fresh[self._label[node]].add(node)
        found: set[int] = set()
        for label in lost | fresh.keys():
            members = self._members[label]
            was = self._account.get(label)
            eligible = fresh[label] | {was} if was in members else members
            self._account[label] = min(eligible & self._accounts, default=label)
            if self._account[label] != was:
                found |= members
        return found

    def _tell(self, node: int, at: int) -> None:
        now = (self._label[node], self._distance.of[node], self._rank.of[node], self._grade.of[node])
        before = self._open.get(node)
        if before is None or before[1:] != now:
            if before is not None:
                self._close(node, at)
            self._open[node] = (at, *now)

    def _close(self, node: int, at: int) -> None:
        since, label, distance, rank, grade = self._open.pop(node)
        self._pieces.append((node, since, at, label, distance, rank, grade))
