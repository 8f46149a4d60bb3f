"""The definition of identity, sessions and customers, written as plainly as possible: slow Python over lists, with networkx for components."""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

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

    @property
    def node_ids(self) -> list[int]:
        return [node_id(*identifier) for identifier in self.identifiers]


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


def memberships(events: list[Event], limit: int) -> dict[int, str]:
    """The map that these events, and no others, show."""
    seen = first_sights(events)
    excluded = over_shared(events, limit)
    graph = nx.Graph()
    graph.add_nodes_from(identifier for identifier in seen if identifier not in excluded)
    graph.add_edges_from(tuple(link) for link in links(events) if not link & excluded)
    result = {}
    for component in nx.connected_components(graph):
        earliest = min(component, key=lambda identifier: (seen[identifier], *identifier))
        result.update({node_id(*identifier): node_customer_id(*earliest) for identifier in component})
    return result


def known_before(events: list[Event], limit: int, at: datetime) -> dict[int, str]:
    return memberships([event for event in events if event.occurred_at < at], limit)


def history(events: list[Event], limit: int) -> list[Interval]:
    """The map between any two instants at which something was first seen, laid end to end."""
    instants = sorted({event.occurred_at for event in events})
    open_since: dict[int, tuple[str, datetime]] = {}
    intervals: list[Interval] = []
    for at in instants:
        known = known_before(events, limit, at + timedelta(microseconds=1))
        for node, (customer, since) in list(open_since.items()):
            if known.get(node) != customer:
                intervals.append((node, customer, since, at))
                del open_since[node]
        for node, customer in known.items():
            open_since.setdefault(node, (customer, at))
    intervals += [(node, customer, since, None) for node, (customer, since) in open_since.items()]
    return sorted(intervals, key=lambda row: row[:1] + row[2:3])


def customer_of(event: Event, known: dict[int, str]) -> str | None:
    return next((known[node] for node in event.node_ids if node in known), None)


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
