"""One cluster in which some pairs must not be together, or whose links end: its partition at each instant, by Kruskal's rule with cannot-links.

Two accounts of one source are one person's by an operator's word or by an estimated link between the two alone: what they share (a device, a mailbox) is shared
by a family too. So a component that has one takes in no other, unless such a link joins them.

At an instant, the links in force are applied in order: an operator's first, then by probability, the surest first, then the earliest seen, then by type and
value of their ends. A link that would put two forbidden identifiers into one component is refused, and stays so at this instant. The result is a function of
the set of links and forbidden pairs alone: which arrived first has no say. Two operator's words rank above the evidence: an operator's merge is refused by
an operator's split only.

The greedy rule keeps the surest links that it can, one by one; to keep the greatest sum of them is NP-hard (multicut; Bansal, Blum, Chawla, 2004), and its
result would be harder to explain than "this link was refused because of that pair".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Order = tuple[bool, float, int, int, int]


@dataclass(frozen=True)
class Link:
    """In force in (first, until], both in µs. low, high: ranks of its ends by (type, value), low < high. probability: 0 to 1. joins_accounts: it is about two
    accounts of one source, and nothing that they share."""

    node: int
    other: int
    first: int
    until: int
    probability: float
    is_operators: bool
    low: int
    high: int
    joins_accounts: bool = False

    @property
    def order(self) -> Order:
        return (not self.is_operators, -self.probability, self.first, self.low, self.high)


@dataclass(frozen=True)
class Forbidden:
    """In (since, until] the two must not be in one component."""

    node: int
    other: int
    since: int
    until: int
    is_operators: bool


class Components:
    """A union-find that refuses. accounts: of the nodes that are accounts, their sources."""

    def __init__(self, forbidden: Sequence[Forbidden], accounts: Mapping[int, int] | None = None) -> None:
        self._sources: dict[int, set[int]] = {node: {source} for node, source in (accounts or {}).items()}
        self._above: dict[int, int] = {}
        self._least: dict[int, int] = {}
        self._enemies: dict[int, set[tuple[int, bool]]] = {}
        for pair in forbidden:
            self._enemies.setdefault(pair.node, set()).add((pair.other, pair.is_operators))
            self._enemies.setdefault(pair.other, set()).add((pair.node, pair.is_operators))

    def top(self, node: int) -> int:
        root = node
        while (above := self._above.get(root, root)) != root:
            root = above
        while node != root:
            self._above[node], node = root, self._above.get(node, node)
        return root

    def label(self, node: int) -> int:
        """The least node of its component."""
        root = self.top(node)
        return self._least.get(root, root)

    def join(self, link: Link) -> bool:
        """False if the link is refused. A link inside a component is in force and changes nothing."""
        one, two = self.top(link.node), self.top(link.other)
        if one == two:
            return True
        if self._is_forbidden(one, two, link.is_operators):
            return False
        if not (link.is_operators or link.joins_accounts) and not self._sources.get(one, set()).isdisjoint(self._sources.get(two, ())):
            return False
        if len(self._enemies.get(one, ())) < len(self._enemies.get(two, ())):
            one, two = two, one
        self._least[one] = min(self._least.get(one, one), self._least.pop(two, two))
        self._above[two] = one
        if two in self._enemies:
            self._enemies.setdefault(one, set()).update(self._enemies.pop(two))
        if two in self._sources:
            self._sources.setdefault(one, set()).update(self._sources.pop(two))
        return True

    def _is_forbidden(self, one: int, two: int, is_operators: bool) -> bool:
        fewer, other = sorted((one, two), key=lambda root: len(self._enemies.get(root, ())))
        return any(self.top(enemy) == other and (by_operator or not is_operators) for enemy, by_operator in self._enemies.get(fewer, ()))


def components_of(links: Sequence[Link], forbidden: Sequence[Forbidden], accounts: Mapping[int, int] | None = None) -> Components:
    """The components of links that are all in force, under pairs that are all forbidden."""
    found = Components(forbidden, accounts)
    for link in sorted(links, key=lambda link: link.order):
        found.join(link)
    return found


def replay_constrained(
    nodes: dict[int, tuple[int, int]], links: Sequence[Link], forbidden: Sequence[Forbidden], never: int, accounts: Mapping[int, int] | None = None
) -> list[tuple[int, int, int]]:
    """All changes of a cluster: (time in µs, node, label), sorted by time; the label is the least node of the component.

    nodes: first sight and drop (`never` where it stays) by node. accounts: the sources of those that are accounts. A node without a change has itself as label
    from its first sight on. A dropped node has no label any more, and none is given here.
    """
    arrivals: dict[int, list[Link]] = {}
    breaks = {at for pair in forbidden for at in (pair.since, pair.until)} | {dropped for _, dropped in nodes.values()}
    in_order = sorted(links, key=lambda link: link.order)
    for link in in_order:
        arrivals.setdefault(link.first, []).append(link)
        breaks.add(link.until)
    labels = {node: node for node in nodes}
    changes: list[tuple[int, int, int]] = []
    found: Components | None = None
    last: Order | None = None
    for at in sorted(breaks | set(arrivals)):
        if at == never:
            break
        arriving = [link for link in arrivals.get(at, ()) if at < _end(link, nodes)]
        if found is None or at in breaks or (last is not None and arriving and arriving[0].order < last):
            found, last = Components([pair for pair in forbidden if pair.since <= at < pair.until], accounts), None
            arriving = [link for link in in_order if link.first <= at < _end(link, nodes)]
        # Else what arrives comes after all that was applied, and is applied to it: no need to begin anew.
        for link in arriving:
            found.join(link)
            last = link.order
        for node, (first_seen, dropped) in nodes.items():
            if first_seen <= at < dropped and (label := found.label(node)) != labels[node]:
                labels[node] = label
                changes.append((at, node, label))
    return changes


def _end(link: Link, nodes: dict[int, tuple[int, int]]) -> int:
    return min(link.until, nodes[link.node][1], nodes[link.other][1])
