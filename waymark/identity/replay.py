"""One cluster's links replayed in order of time: small components join larger ones; a node that becomes over-shared drops out and may split its own.

The cost is that of what changes: joining moves the smaller side, a label that changes is written once per member, and a split is searched from all
neighbours of the dropped node at once, until the searches have met or all but one have ended, so that the largest piece is never walked.
"""

from __future__ import annotations

from collections import deque


class ClusterReplay:
    """Components of one cluster. After `run`: the i-th change gave `labels[i]` at `times[i]` to the next `counts[i]` of `nodes`."""

    def __init__(self, *, has_drops: bool) -> None:
        self.nodes: list[int] = []
        self.counts: list[int] = []
        self.labels: list[int] = []
        self.times: list[int] = []
        self._has_drops = has_drops
        self._neighbours: dict[int, set[int]] = {}
        self._component: dict[int, int] = {}
        self._members: dict[int, set[int]] = {}
        self._label: dict[int, int] = {}
        self._next_component = -1

    def run(self, links: list[tuple[int, int, int]], drops: list[tuple[int, int]]) -> None:
        """links: (time, node, node), sorted; drops: (time, node), sorted. A link's time is before the drops of its nodes."""
        drop = 0
        first = 0
        while first < len(links):
            at = links[first][0]
            while drop < len(drops) and drops[drop][0] <= at:
                self._drop(*drops[drop])
                drop += 1
            last = first + 1
            while last < len(links) and links[last][0] == at:
                last += 1
            self._link(at, links[first:last])
            first = last
        for at, node in drops[drop:]:
            self._drop(at, node)

    def _emit(self, at: int, label: int, nodes: set[int]) -> None:
        self.nodes.extend(nodes)
        self.counts.append(len(nodes))
        self.labels.append(label)
        self.times.append(at)

    def _component_of(self, node: int) -> int:
        component = self._component.get(node)
        if component is None:
            component = self._component[node] = node
            self._members[node] = {node}
            self._label[node] = node
            if self._has_drops:
                self._neighbours[node] = set()
        return component

    def _link(self, at: int, links: list[tuple[int, int, int]]) -> None:
        """All links of one instant, together: each component that is joined gets its final label once."""
        above: dict[int, int] = {}

        def top(component: int) -> int:
            while component in above:
                parent = above[component]
                above[component] = above.get(parent, parent)
                component = parent
            return component

        joined: set[int] = set()
        for _, node, other in links:
            one, two = self._component_of(node), self._component_of(other)
            if self._has_drops:
                self._neighbours[node].add(other)
                self._neighbours[other].add(node)
            if len(links) == 1:
                if one != two:
                    self._join(at, [one, two])
                return
            joined.update((one, two))
            one, two = top(one), top(two)
            if one != two:
                above[two] = one
        groups: dict[int, list[int]] = {}
        for component in sorted(joined):
            groups.setdefault(top(component), []).append(component)
        for group in groups.values():
            self._join(at, group)

    def _join(self, at: int, group: list[int]) -> None:
        label = min(self._label[component] for component in group)
        kept = max(group, key=lambda component: len(self._members[component]))
        for component in group:
            if self._label[component] != label:
                self._emit(at, label, self._members[component])
        members = self._members[kept]
        for component in group:
            if component != kept:
                moved = self._members.pop(component)
                del self._label[component]
                for node in moved:
                    self._component[node] = kept
                members |= moved
        self._label[kept] = label

    def _drop(self, at: int, node: int) -> None:
        neighbours = self._neighbours.pop(node)
        for other in neighbours:
            self._neighbours[other].discard(node)
        component = self._component.pop(node)
        members = self._members[component]
        members.discard(node)
        label = self._label[component]
        for piece in self._pieces_apart(neighbours):
            members -= piece
            number = self._next_component
            self._next_component -= 1
            self._members[number] = piece
            self._label[number] = min(piece)
            for other in piece:
                self._component[other] = number
            if self._label[number] != label:
                self._emit(at, self._label[number], piece)
        if not members:
            del self._members[component], self._label[component]
        elif label not in members:
            self._label[component] = min(members)
            self._emit(at, self._label[component], members)

    def _pieces_apart(self, sources: set[int]) -> list[set[int]]:
        """The components of `sources`, but for one (the largest, or nearly), which is not walked to its end."""
        owner = {node: node for node in sources}
        reached = {node: {node} for node in sources}
        frontier = {node: deque([node]) for node in sources}
        apart: list[set[int]] = []
        while len(frontier) > 1:
            for turn in list(frontier):
                search = turn
                if len(frontier) < 2:
                    break
                if search not in frontier:
                    continue
                if not frontier[search]:
                    apart.append(reached.pop(search))
                    del frontier[search]
                    continue
                for other in self._neighbours[frontier[search].popleft()]:
                    met = owner.get(other)
                    if met is None:
                        owner[other] = search
                        reached[search].add(other)
                        frontier[search].append(other)
                    elif met != search:
                        # Two searches met: the smaller one goes on within the larger.
                        if len(reached[met]) > len(reached[search]):
                            met, search = search, met
                        moved = reached.pop(met)
                        for node in moved:
                            owner[node] = search
                        reached[search] |= moved
                        frontier[search].extend(frontier.pop(met))
        return apart
