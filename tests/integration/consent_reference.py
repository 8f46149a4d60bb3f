"""The rule of docs/consent.md written as plainly as possible: slow Python over lists of acts, one person and moment at a time.

Taken as given are what the events say (acts, countries) and who is who at a moment. Nothing of the models' SQL is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

EVER = datetime.max
STRICTNESS = {"grant": 0, "expire": 1, "withdraw": 2}
Nodes = frozenset[int]
Interval = tuple[str, datetime, datetime | None, str]  # state, from, to, event id


@dataclass(frozen=True)
class Act:
    """One scope of one consent event. until: a grant's expiry; is_statement: what a source states on an ordinary event."""

    event_id: str
    source: str
    at: datetime
    scope: str
    action: str
    nodes: Nodes
    until: datetime | None = None
    is_statement: bool = False

    @property
    def order(self) -> tuple[datetime, int, timedelta, str]:
        """The last stands: the stricter of one instant, of two grants the one that lapses first."""
        return self.at, STRICTNESS[self.action], EVER - (self.until or EVER), self.event_id

    def grants_at(self, at: datetime) -> bool:
        """Whether the scope may be used at the moment, if nothing came after this act."""
        return self.action == "grant" and (self.until is None or at <= self.until)


@dataclass(frozen=True)
class Sighting:
    """An event that tells a jurisdiction."""

    place: str
    at: datetime
    nodes: Nodes


def told_place(told: str, jurisdictions: Mapping[str, Sequence[str]]) -> str:
    """The jurisdiction that an act means: by its name, or by a country of its, whatever the case and the blanks; else what it tells."""
    meant = told.strip().lower()
    by_name = [place for place in jurisdictions if place.strip().lower() == meant]
    by_country = [place for place, countries in jurisdictions.items() if meant in [country.strip().lower() for country in countries]]
    return (by_name + by_country + [told])[0]


@dataclass
class Ledger:
    """rules: scope -> jurisdiction -> is absence a denial; `default` for all others. A scope without rules is granted where nobody said anything."""

    acts: list[Act]
    sightings: list[Sighting] = field(default_factory=list)
    rules: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_node: dict[tuple[int, str], list[Act]] = defaultdict(list)
        self._repeated: dict[Act, set[int]] = defaultdict(set)
        said: dict[tuple[int, str, str], str] = {}
        for act in sorted(self.acts, key=lambda act: act.order):
            for node in act.nodes:
                key = node, act.scope, act.source
                if act.is_statement and said.get(key) == act.action:
                    self._repeated[act].add(node)
                    continue  # a statement that says what was stated before is no act
                if act.is_statement:
                    said[key] = act.action
                self._by_node[node, act.scope].append(act)

    def of(self, nodes: Iterable[int], scope: str) -> list[Act]:
        """All acts on a person's identifiers, each once, in order. A person grants nothing by a statement that one of the identifiers had made before."""
        theirs = frozenset(nodes)
        found = {act for node in theirs for act in self._by_node.get((node, scope), ())}
        granted_before = {act for act in found if act.action == "grant" and self._repeated.get(act, set()) & theirs}
        return sorted(found - granted_before, key=lambda act: act.order)

    def is_absence_denied(self, nodes: Nodes, scope: str, before: datetime) -> bool:
        rules = self.rules.get(scope, {})
        places = {sighting.place for sighting in self.sightings if sighting.at < before and sighting.nodes & nodes}
        default = rules.get("default", False)
        return any(rules.get(place, default) for place in places) if places else default

    def is_allowed(self, nodes: Nodes, scope: str, at: datetime) -> bool:
        """At a moment, by what happened before it. nodes: the person's identifiers as known then."""
        known = [act for act in self.of(nodes, scope) if act.at < at]
        return known[-1].grants_at(at) if known else not self.is_absence_denied(nodes, scope, at)

    def is_allowed_today(self, nodes: Nodes, scope: str, now: datetime) -> bool:
        """At data_now, by all that is known of the person: what happens at data_now counts, and so does a withdrawal by a clock that runs ahead."""
        acts = self.of(nodes, scope)
        known = [act for act in acts if act.at <= now]
        if acts and not _lasts_beyond(acts[-1], max(now, acts[-1].at)):
            return False
        return _lasts_beyond(known[-1], now) if known else not self.is_absence_denied(nodes, scope, EVER)

    def stands_now(self, nodes: Nodes, scope: str, now: datetime) -> Interval | None:
        """Of a person's intervals the one of data_now, or what a clock that runs ahead took back at the very last; None where nothing stands."""
        acts, intervals = self.of(nodes, scope), self.intervals(nodes, scope)
        if acts and acts[-1].at > now and not _lasts_beyond(acts[-1], acts[-1].at):
            return intervals[-1]
        return next((found for found in intervals if found[1] <= now and (found[2] is None or now < found[2])), None)

    def intervals(self, nodes: Nodes, scope: str) -> list[Interval]:
        """Of a person's scope, an act after the other."""
        acts = self.of(nodes, scope)
        found: list[Interval] = []
        for number, act in enumerate(acts):
            end = acts[number + 1].at if number + 1 < len(acts) else None
            if end == act.at:
                continue
            if act.action != "grant":
                found.append(("withdrawn" if act.action == "withdraw" else "expired", act.at, end, act.event_id))
                continue
            lapse = None if act.until is None or (end is not None and act.until >= end) else max(act.until, act.at)
            if lapse is None or lapse > act.at:
                found.append(("granted", act.at, end if lapse is None else lapse, act.event_id))
            if lapse is not None:
                found.append(("expired", lapse, end, act.event_id))
        return found


def _lasts_beyond(act: Act, now: datetime) -> bool:
    return act.action == "grant" and (act.until is None or act.until > now)
