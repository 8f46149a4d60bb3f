"""The definition of identity, sessions and customers, written as plainly as possible: slow Python over lists, with networkx for components."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import combinations, pairwise

import networkx as nx

SECRET_BLOCK = b"identity test secret".ljust(64, b"\0")
PADS = (bytes(byte ^ 0x36 for byte in SECRET_BLOCK), bytes(byte ^ 0x5C for byte in SECRET_BLOCK))
GAP = timedelta(minutes=30)
EPOCH = datetime(2024, 1, 1)

Identifier = tuple[str, str]
Interval = tuple[int, str, datetime, datetime | None]
SessionId = tuple[int, datetime]


@dataclass(frozen=True)
class Event:
    event_id: str
    occurred_at: datetime
    session_key_id: int | None
    identifiers: tuple[Identifier, ...]
    is_counted: bool = True
    is_conversion_event: bool = False
    order_id: str | None = None
    value: int | None = None

    @property
    def node_ids(self) -> list[int]:
        return [node_id(*identifier) for identifier in self.identifiers]


@dataclass(frozen=True)
class Said:
    """An operator's word about two identifiers."""

    event_id: str
    at: datetime
    ordinal: int
    is_merge: bool
    pair: tuple[Identifier, Identifier]

    @property
    def nodes(self) -> tuple[int, int]:
        return node_id(*self.pair[0]), node_id(*self.pair[1])


@dataclass(frozen=True)
class Supposed:
    """A probable link: in force in (valid_from, valid_to], None: still."""

    pair: tuple[Identifier, Identifier]
    probability: float
    valid_from: datetime
    valid_to: datetime | None

    @property
    def nodes(self) -> list[int]:
        return sorted(node_id(*identifier) for identifier in self.pair)


def minutes(count: float) -> datetime:
    return EPOCH + timedelta(minutes=count)


def node_id(kind: str, value: str) -> int:
    return int.from_bytes(hashlib.md5(f"{kind}|{value}".encode()).digest()[:8], "little") >> 1


def node_customer_id(kind: str, value: str) -> str:
    return "c_" + hmac.new(b"identity test secret", f"{kind}|{value}".encode(), hashlib.sha256).hexdigest()[:24]


def first_sights(events: list[Event]) -> dict[Identifier, datetime]:
    seen: dict[Identifier, datetime] = {}
    for event in events:
        for identifier in event.identifiers if event.is_counted else ():
            seen[identifier] = min(seen.get(identifier, event.occurred_at), event.occurred_at)
    return seen


def links(events: list[Event]) -> set[frozenset[Identifier]]:
    return {frozenset(pair) for event in events if event.is_counted for pair in combinations(sorted(set(event.identifiers)), 2)}


def over_shared(events: list[Event], limit: int) -> set[Identifier]:
    neighbours: dict[Identifier, set[Identifier]] = defaultdict(set)
    for link in links(events):
        one, other = link
        neighbours[one].add(other)
        neighbours[other].add(one)
    return {identifier for identifier, others in neighbours.items() if len(others) > limit}


PROBABILITY = {
    ("anonymous_id", "user_id"): 0.99, ("email", "user_id"): 0.999, ("anonymous_id", "email"): 0.98,
}  # fmt: skip


def probability(link: frozenset[Identifier]) -> float:
    return PROBABILITY.get(tuple(sorted(kind for kind, _ in link)), 0.98)  # type: ignore[arg-type]


def standing_words(words: list[Said]) -> dict[frozenset[Identifier], Said]:
    """Of each pair the latest word."""
    found: dict[frozenset[Identifier], Said] = {}
    for word in sorted(words, key=lambda word: (word.at, word.ordinal)):
        found[frozenset(word.pair)] = word
    return found


def forbidden(events: list[Event], words: list[Said]) -> dict[frozenset[Identifier], bool]:
    """Pairs that must not be together, and whether an operator said so."""
    found: dict[frozenset[Identifier], bool] = {}
    in_session: dict[SessionId, set[Identifier]] = defaultdict(set)
    placed = sessions(events)
    for event in events:
        if event.event_id in placed:
            in_session[placed[event.event_id]] |= {identifier for identifier in event.identifiers if identifier[0] == "user_id"}
    for logins in in_session.values():
        found.update({frozenset(pair): False for pair in combinations(sorted(logins), 2)})
    reports = [event for event in events if event.is_counted and event.is_conversion_event and event.order_id and event.identifiers]
    for one, other in combinations(reports, 2):
        is_apart = abs(one.occurred_at - other.occurred_at) > timedelta(days=1) or one.value != other.value
        if one.order_id == other.order_id and is_apart and not set(one.identifiers) & set(other.identifiers):
            found[frozenset((one.identifiers[0], other.identifiers[0]))] = False
    found.update({pair: True for pair, word in standing_words(words).items() if not word.is_merge})
    return found


def first_links(events: list[Event]) -> dict[frozenset[Identifier], datetime]:
    found: dict[frozenset[Identifier], datetime] = {}
    for event in events:
        for pair in combinations(sorted(set(event.identifiers)), 2) if event.is_counted else ():
            found[frozenset(pair)] = min(found.get(frozenset(pair), event.occurred_at), event.occurred_at)
    return found


def graph_in_force(events: list[Event], limit: int, words: list[Said], supposed: list[Supposed]) -> nx.Graph:
    """Identifiers and the links that join them, those in force between identifiers that are together anyway among them; `p` is an edge's probability.

    `strength` is what a threshold asks of the edge: the probability of an estimated link, infinity for others.
    """
    seen, excluded = first_sights(events), over_shared(events, limit)
    graph = nx.Graph()
    graph.add_nodes_from(identifier for identifier in seen if identifier not in excluded)
    pairs = forbidden(events, words)
    candidates = [(True, probability(link), at, link, math.inf) for link, at in first_links(events).items()]
    merges = [(pair, word) for pair, word in standing_words(words).items() if word.is_merge and pair <= set(seen)]
    candidates += [(False, 1.0, max(word.at, *(seen[end] for end in pair)), pair, math.inf) for pair, word in merges]
    now = [link for link in supposed if link.valid_to is None and set(link.pair) <= set(seen)]
    candidates += [(True, link.probability, max(link.valid_from, *(seen[end] for end in link.pair)), frozenset(link.pair), link.probability) for link in now]
    candidates.sort(key=lambda item: (item[0], -item[1], item[2], sorted(item[3])))
    for is_evidence, _, _, link, _ in candidates:
        one, other = sorted(link)
        if not {one, other} <= set(graph):
            continue
        here, there = (nx.node_connected_component(graph, end) for end in (one, other))
        across = [by_operator for pair, by_operator in pairs.items() if pair & here and pair & there and not pair <= here]
        are_accounts = one[0] == other[0] == "user_id" and one[1].split(":")[0] == other[1].split(":")[0]
        sources = [{value.split(":")[0] for kind, value in side if kind == "user_id"} for side in (here, there)]
        shared_only = is_evidence and not are_accounts and bool(sources[0] & sources[1])
        is_in_force = one in there or not (shared_only or any(by_operator or is_evidence for by_operator in across))
        if is_in_force:
            graph.add_edge(one, other)
    # A link that was refused is in force all the same where later ones have joined its ends.
    together = {identifier: number for number, component in enumerate(nx.connected_components(graph)) for identifier in component}
    for _, sure, _, link, strength in candidates:
        one, other = link
        if one in together and together[one] == together.get(other):
            told = graph.get_edge_data(one, other, {})
            graph.add_edge(one, other, p=max(told.get("p", 0.0), sure), strength=max(told.get("strength", 0.0), strength))
    return graph


def memberships(events: list[Event], limit: int, words: list[Said] | None = None, supposed: list[Supposed] | None = None) -> dict[int, str]:
    """The map that these events, words and probable links, and no others, show."""
    seen = first_sights(events)
    result = {}
    for component in nx.connected_components(graph_in_force(events, limit, words or [], supposed or [])):
        earliest = min(component, key=lambda identifier: (seen[identifier], *identifier))
        result.update({node_id(*identifier): node_customer_id(*earliest) for identifier in component})
    return result


def confidences(events: list[Event], limit: int, words: list[Said] | None = None, supposed: list[Supposed] | None = None) -> dict[int, float]:
    """By node, the product of probabilities along the surest way from the earliest identifier of its customer."""
    seen = first_sights(events)
    graph = graph_in_force(events, limit, words or [], supposed or [])
    result = {}
    for component in nx.connected_components(graph):
        earliest = min(component, key=lambda identifier: (seen[identifier], *identifier))
        ways = nx.single_source_dijkstra_path(graph, earliest, weight=lambda a, b, edge: -math.log(edge["p"]) + 1e-15)
        for identifier, way in ways.items():
            result[node_id(*identifier)] = math.prod(graph[a][b]["p"] for a, b in pairwise(way))
    return result


def weakest_links(events: list[Event], limit: int, words: list[Said] | None = None, supposed: list[Supposed] | None = None) -> dict[int, float]:
    """By node, the greatest strength with which it is joined to its customer's earliest account, or earliest identifier, by links of at least that strength."""
    seen = first_sights(events)
    graph = graph_in_force(events, limit, words or [], supposed or [])
    strengths = sorted({math.inf, *(edge["strength"] for *_, edge in graph.edges(data=True))}, reverse=True)
    result: dict[int, float] = {}
    for component in nx.connected_components(graph):
        start = min(component, key=lambda identifier: (identifier[0] != "user_id", seen[identifier], *identifier))
        for least in strengths:
            strong = nx.Graph([(a, b) for a, b, edge in graph.subgraph(component).edges(data=True) if edge["strength"] >= least])
            strong.add_node(start)
            for identifier in nx.node_connected_component(strong, start):
                result.setdefault(node_id(*identifier), least)
    return result


def known_before(
    events: list[Event], limit: int, at: datetime, words: list[Said] | None = None, supposed: list[Supposed] | None = None
) -> dict[int, str]:
    return memberships(*_known(events, limit, at, words, supposed))


def confidences_before(
    events: list[Event], limit: int, at: datetime, words: list[Said] | None = None, supposed: list[Supposed] | None = None
) -> dict[int, float]:
    return confidences(*_known(events, limit, at, words, supposed))


def weakest_links_before(
    events: list[Event], limit: int, at: datetime, words: list[Said] | None = None, supposed: list[Supposed] | None = None
) -> dict[int, float]:
    return weakest_links(*_known(events, limit, at, words, supposed))


def _known(
    events: list[Event], limit: int, at: datetime, words: list[Said] | None, supposed: list[Supposed] | None
) -> tuple[list[Event], int, list[Said], list[Supposed]]:
    now = [replace(link, valid_to=None) for link in supposed or [] if link.valid_from < at and (link.valid_to is None or at <= link.valid_to)]
    return [event for event in events if event.occurred_at < at], limit, [word for word in words or [] if word.at < at], now


def history(events: list[Event], limit: int, words: list[Said] | None = None, supposed: list[Supposed] | None = None) -> list[Interval]:
    """The map between any two instants at which something was first seen, laid end to end."""
    ends = {at for link in supposed or [] for at in (link.valid_from, link.valid_to) if at is not None}
    instants = sorted({event.occurred_at for event in events} | {word.at for word in words or []} | ends)
    open_since: dict[int, tuple[str, datetime]] = {}
    intervals: list[Interval] = []
    for at in instants:
        known = known_before(events, limit, at + timedelta(microseconds=1), words, supposed)
        for node, (customer, since) in list(open_since.items()):
            if known.get(node) != customer:
                intervals.append((node, customer, since, at))
                del open_since[node]
        for node, customer in known.items():
            open_since.setdefault(node, (customer, at))
    intervals += [(node, customer, since, None) for node, (customer, since) in open_since.items()]
    return sorted(intervals, key=lambda row: row[:1] + row[2:3])


def customer_of(event: Event, known: dict[int, str]) -> str | None:
    """Whose an event is: an event that does not count is nobody's."""
    return next((known[node] for node in event.node_ids if node in known), None) if event.is_counted else None


def sessions(events: list[Event]) -> dict[str, SessionId]:
    """Session (key, start) of each counted event that has a key."""
    placed: dict[str, SessionId] = {}
    keyed: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.is_counted and event.session_key_id is not None:
            keyed[event.session_key_id].append(event)
    for key, members in keyed.items():
        members.sort(key=lambda event: (event.occurred_at, event.event_id))
        start, last = members[0].occurred_at, members[0].occurred_at
        for event in members:
            if event.occurred_at - last > GAP:
                start = event.occurred_at
            last = event.occurred_at
            placed[event.event_id] = (key, start)
    return placed
