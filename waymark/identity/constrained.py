"""One cluster in which some pairs must not be together, or whose links end: its partition at each instant, by Kruskal's rule with cannot-links.

Two accounts of one source are one person's by an operator's word or by an estimated link between the two alone: what they share (a device, a mailbox) is shared
by a family too. So a component that has one takes in no other, unless such a link joins them.

At an instant, the links in force are applied in order: an operator's first, then by probability, the surest first, then the earliest seen, then by type and
value of their ends. A link that would put two forbidden identifiers into one component is refused, and stays so at this instant. The result is a function of
the set of links and forbidden pairs alone: which arrived first has no say. Two operator's words rank above the evidence: an operator's merge is refused by
an operator's split only.

The greedy rule keeps the surest links that it can, one by one; to keep the greatest sum of them is NP-hard (multicut; Bansal, Blum, Chawla, 2004), and its
result would be harder to explain than "this link was refused because of that pair".

From one instant to the next, only what a change can reach is made anew. Two components conflict where a pair lies across them, or both have an account of one
source. Components that grow conflict with all that they conflicted with before, so what was refused stays so:
- a link between two that do not conflict joins them, wherever it stands in the order; one within a component that holds no conflict changes nothing;
- a link that comes after all that made its components is judged by these as they are;
- a pair that begins across two components changes nothing.
Else (a link or a pair ends, a pair begins within, a link comes before what it would forbid) the components concerned are made anew, beside each that a refused
link leads to; where such a one is joined, it is concerned as well, and all of them are made anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(eq=False, slots=True)
class _Component:
    """label: the least member. sources: of the accounts among the members; hostile: members with a forbidden pair; last: the place of the last link that joined
    parts of it, or a later place; is_mixed: it may hold a conflict."""

    members: set[int]
    label: int
    sources: set[int]
    hostile: set[int]
    last: int = -1
    is_mixed: bool = False


@dataclass(frozen=True)
class _Conflict:
    """What lies across two components."""

    is_shared: bool  # both have an account of one source
    is_forbidden: bool
    is_forbidden_by_operator: bool

    def __bool__(self) -> bool:
        return self.is_shared or self.is_forbidden

    def refuses(self, link: Link) -> bool:
        if self.is_forbidden_by_operator or (self.is_forbidden and not link.is_operators):
            return True
        return self.is_shared and not (link.is_operators or link.joins_accounts)


# Of a node and another: how many pairs forbid them, and how many of these are an operator's.
_Enemies = dict[int, dict[int, tuple[int, int]]]


class Partition:
    """The components of the links in force, under the pairs that are forbidden now. Links are named by their places in `links`, which stand in order.

    moved: nodes whose label may not be what it was; for the caller to look at and to empty. accounts: of the nodes that are accounts, their sources.
    """

    def __init__(self, links: Sequence[Link], accounts: Mapping[int, int], enemies: _Enemies | None = None) -> None:
        self.moved: set[int] = set()
        self._links, self._accounts = links, accounts
        self._enemies: _Enemies = {} if enemies is None else enemies
        self._near: dict[int, set[int]] = {}
        self._components: dict[int, _Component] = {}

    def label(self, node: int) -> int:
        """The least node of its component."""
        return self._components[node].label if node in self._components else node

    def change(self, *, ended: Iterable[int] = (), allowed: Iterable[Forbidden] = (), forbidden: Iterable[Forbidden] = (), arrived: Iterable[int] = ()) -> None:
        """Links and pairs that end, pairs that begin, and links that come into force, at one instant. arrived: in order."""
        concerned: set[_Component] = set()
        for place in ended:
            one, other = self._ends(place)
            self._near[self._links[place].node].discard(place)
            self._near[self._links[place].other].discard(place)
            if one is other:
                concerned.add(one)
        for pair in allowed:
            concerned.update(self._count(pair, -1))
        for pair in forbidden:
            one, other = self._count(pair, 1)
            if one is other:
                concerned.add(one)
        if concerned:
            self._make_anew(concerned)
        for place in arrived:
            self._near.setdefault(self._links[place].node, set()).add(place)
            self._near.setdefault(self._links[place].other, set()).add(place)
            one, other = self._ends(place)
            if place > max(one.last, other.last):
                self._apply(place)
            elif one is other:
                if one.is_mixed:
                    self._make_anew({one})
            elif self._conflict(one, other):
                self._make_anew({one, other})
            else:
                self._join(one, other, place)

    def _apply(self, place: int) -> bool:
        """Judges a link that comes after all that made its components; False where it is refused."""
        one, other = self._ends(place)
        if one is other:
            return True
        conflict = self._conflict(one, other)
        if conflict.refuses(self._links[place]):
            return False
        self._join(one, other, place, is_mixed=bool(conflict))
        return True

    def _make_anew(self, concerned: set[_Component]) -> None:
        while True:
            within: set[int] = set()
            across: dict[int, _Component] = {}
            for component in concerned:
                for place in self._places(component):
                    outside = [end for end in self._ends(place) if end not in concerned]
                    if outside:
                        across[place] = outside[0]
                    else:
                        within.add(place)
            for component in set(across.values()):
                within.update(place for place in self._places(component) if self._ends(place) == (component, component))
            trial = Partition(self._links, self._accounts, self._enemies)
            reached = {across[place] for place in sorted(within | across.keys()) if trial._apply(place) and place in across}
            if not reached:
                break
            concerned |= reached
        for node in [node for component in concerned for node in component.members]:
            self._components[node] = trial._component(node)
            self.moved.add(node)

    def _places(self, component: _Component) -> Iterable[int]:
        return (place for node in component.members for place in self._near.get(node, ()))

    def _ends(self, place: int) -> tuple[_Component, _Component]:
        return self._component(self._links[place].node), self._component(self._links[place].other)

    def _component(self, node: int) -> _Component:
        found = self._components.get(node)
        if found is None:
            sources = {self._accounts[node]} if node in self._accounts else set()
            found = self._components[node] = _Component({node}, node, sources, {node} if node in self._enemies else set())
        return found

    def _conflict(self, one: _Component, other: _Component) -> _Conflict:
        fewer, more = (one, other) if len(one.hostile) <= len(other.hostile) else (other, one)
        across = [pairs for node in fewer.hostile for enemy, pairs in self._enemies[node].items() if self._components.get(enemy) is more]
        return _Conflict(not one.sources.isdisjoint(other.sources), bool(across), any(said for _, said in across))

    def _join(self, one: _Component, other: _Component, place: int, *, is_mixed: bool = False) -> None:
        if one.label != other.label:
            self.moved |= max(one, other, key=lambda component: component.label).members
        kept, gone = (one, other) if len(one.members) >= len(other.members) else (other, one)
        for node in gone.members:
            self._components[node] = kept
        kept.members |= gone.members
        kept.sources |= gone.sources
        kept.hostile |= gone.hostile
        kept.label = min(one.label, other.label)
        kept.last = max(one.last, other.last, place)
        kept.is_mixed = one.is_mixed or other.is_mixed or is_mixed

    def _count(self, pair: Forbidden, more: int) -> tuple[_Component, _Component]:
        """Counts a pair in or out; the components of its two."""
        found = []
        for node, enemy in ((pair.node, pair.other), (pair.other, pair.node)):
            component = self._component(node)
            known = self._enemies.setdefault(node, {})
            count, said = known.pop(enemy, (0, 0))
            if count + more:
                known[enemy] = (count + more, said + more * pair.is_operators)
            if known:
                component.hostile.add(node)
            else:
                del self._enemies[node]
                component.hostile.discard(node)
            found.append(component)
        return found[0], found[1]


def replay_constrained(
    nodes: dict[int, tuple[int, int]], links: Sequence[Link], forbidden: Sequence[Forbidden], never: int, accounts: Mapping[int, int] | None = None
) -> list[tuple[int, int, int]]:
    """All changes of a cluster: (time in µs, node, label), sorted by time; the label is the least node of the component.

    nodes: first sight and drop (`never` where it stays) by node. accounts: the sources of those that are accounts. A node without a change has itself as label
    from its first sight on. A dropped node has no label any more, and none is given here.
    """
    in_order = sorted(links, key=lambda link: link.order)
    arriving: dict[int, list[int]] = {}
    ending: dict[int, list[int]] = {}
    for place, link in enumerate(in_order):
        end = min(link.until, nodes[link.node][1], nodes[link.other][1])
        if link.first < end:
            arriving.setdefault(link.first, []).append(place)
            ending.setdefault(end, []).append(place)
    beginning: dict[int, list[Forbidden]] = {}
    lapsing: dict[int, list[Forbidden]] = {}
    for pair in forbidden:
        if pair.since < pair.until:
            beginning.setdefault(pair.since, []).append(pair)
            lapsing.setdefault(pair.until, []).append(pair)
    partition = Partition(in_order, accounts or {})
    labels = {node: node for node in nodes}
    changes: list[tuple[int, int, int]] = []
    for at in sorted({*arriving, *ending, *beginning, *lapsing} - {never}):
        partition.change(ended=ending.get(at, ()), allowed=lapsing.get(at, ()), forbidden=beginning.get(at, ()), arrived=arriving.get(at, ()))
        for node in sorted(partition.moved & nodes.keys()):
            first_seen, dropped = nodes[node]
            if first_seen <= at < dropped and (label := partition.label(node)) != labels[node]:
                labels[node] = label
                changes.append((at, node, label))
        partition.moved.clear()
    return changes
