"""`waymark identity explain`: why two identifiers, or customers, are one person's, or are not."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.identity.linkage.links import LINKS
from waymark.identity.probabilities import OPERATOR_MERGE, PROBABLE
from waymark.pipeline.identifiers import Identifier, find_identifier, require_ended_run

MOST_WAYS, MOST_PAIRS = 3, 10


@dataclass(frozen=True)
class ToldLink:
    """A row of identity.edges. why_not: why it joins nobody now; empty where it is in force."""

    node_a: int
    node_b: int
    kind: str
    probability: float
    told: str
    why_not: str


@dataclass(frozen=True)
class ToldEvidence:
    """lines: for people; customers: all whose identifiers stand in them."""

    lines: list[str]
    customers: frozenset[str]


def explain(project: Project, one: str, other: str) -> ToldEvidence:
    """The surest ways of evidence that are in force, or what there is and why it is not; and what speaks against. Hold the writer lock.

    Raises StorageError before the first run and after one that did not end, WaymarkError where an identifier is not known.
    """
    run = require_ended_run(project)
    with run.open_warehouse() as connection:
        first, second = (find_identifier(connection, run.secret, text) for text in (one, other))
        shown = {first.node_id, second.node_id}
        lines = list(_explained(connection, first, second, project.settings.identity.thresholds.analysis, shown))
        found = rows(connection, "select distinct customer_id from identity.memberships where list_contains(?, node_id)", [sorted(shown)])
    return ToldEvidence(lines, frozenset(str(customer) for (customer,) in found))


def _explained(connection: Connection, one: Identifier, other: Identifier, threshold: float, shown: set[int]) -> Iterator[str]:
    """Lines; adds to `shown` the identifiers that stand in them. threshold: a probable link of less joins nobody."""
    found = rows(connection, "select node_id, customer_id from identity.memberships where node_id in (?, ?)", [one.node_id, other.node_id])
    customers = {int(str(node)): str(customer) for node, customer in found}
    for end in (one, other):
        yield f"{end}: {customers.get(end.node_id) or 'nobody (shared by too many)'}"
    names, links = _links(connection, [one.node_id, other.node_id], threshold)
    together = one.node_id in customers and customers.get(one.node_id) == customers.get(other.node_id)
    if one.node_id == other.node_id:
        yield "They are one identifier."
        return
    if together:
        in_force = [link for link in links if not link.why_not]
        for number in range(1, MOST_WAYS + 1):
            way = surest_way(in_force, one.node_id, other.node_id)
            if not way:
                break
            sure = math.prod(link.probability for link in way)
            yield f"One person, by {'the surest way' if number == 1 else 'another way'} with probability {sure:.6g}:"
            yield from _way(way, names, shown)
            in_force = [link for link in in_force if link not in way]
    else:
        way = surest_way(links, one.node_id, other.node_id)
        yield "Two persons." + ("" if way else " No evidence joins them.")
        if way:
            yield "There is evidence that is not in force:"
            yield from _way(way, names, shown)
    against = _negatives(connection, one.node_id, other.node_id, names, shown)
    yield from (["Against:", *against] if against else ["Nothing speaks against it." if together else "No negative evidence."])


def _way(way: list[ToldLink], names: dict[int, str], shown: set[int]) -> Iterator[str]:
    for link in way:
        shown.update((link.node_a, link.node_b))
        yield f"  {names[link.node_a]} - {names[link.node_b]}: {link.told}{f' [{link.why_not}]' if link.why_not else ''}"


def surest_way(links: list[ToldLink], start: int, end: int) -> list[ToldLink]:
    """Links of the way with the greatest product of probabilities (Dijkstra over -log p); empty where there is none. Among equals the one of least nodes."""
    near: dict[int, list[tuple[float, int, ToldLink]]] = {}
    for link in links:
        weight = -math.log(link.probability)
        near.setdefault(link.node_a, []).append((weight, link.node_b, link))
        near.setdefault(link.node_b, []).append((weight, link.node_a, link))
    waiting: list[tuple[float, int, int]] = [(0.0, 0, start)]
    best: dict[int, tuple[float, int]] = {start: (0.0, 0)}
    came: dict[int, ToldLink] = {}
    while waiting:
        weight, steps, node = heapq.heappop(waiting)
        if node == end:
            break
        if (weight, steps) > best[node]:
            continue
        for more, other, link in sorted(near.get(node, ()), key=lambda found: (found[0], found[1], found[2].kind)):
            reached = (weight + more, steps + 1)
            if other not in best or reached < best[other]:
                best[other], came[other] = reached, link
                heapq.heappush(waiting, (*reached, other))
    way: list[ToldLink] = []
    while end != start and end in came:
        way.append(came[end])
        end = came[end].node_a if came[end].node_b == end else came[end].node_b
    return way[::-1] if end == start else []


def _links(connection: Connection, ends: list[int], threshold: float) -> tuple[dict[int, str], list[ToldLink]]:
    """Names of the nodes, and the links between them, of the clusters that the ends were ever in."""
    connection.execute(
        """
        create or replace temp table explained as
        select node_id from identity.clusters where cluster_id in (select cluster_id from identity.clusters where list_contains(?, node_id))
        union select unnest(?::bigint[])
        """,
        [ends, ends],
    )
    named = rows(
        connection,
        """
        select node_id, identifier_type, identifier_value, m.customer_id, n.is_over_shared
        from identity.nodes n left join identity.memberships m using (node_id)
        where node_id in (select node_id from temp.explained)
        """,
    )
    names = {int(str(node)): str(Identifier(int(str(node)), str(kind), str(value))) for node, kind, value, _, _ in named}
    customer = {node: customer_id for node, _, _, customer_id, _ in named}
    shared = {node for node, _, _, _, is_shared in named if is_shared}
    standing = set(rows(connection, "select node_a, node_b from identity.operator_links where in_force_until is null"))
    # An edge stays when the last interval of its probable link that was sure enough has ended.
    lapsed = rows(
        connection,
        f"""
        select node_a, node_b, max(valid_to) from {LINKS} where probability >= ? and node_a in (select node_id from temp.explained)
        group by node_a, node_b having count(*) = count(valid_to)
        """,
        [threshold],
    )
    ended = {(a, b): since for a, b, since in lapsed}
    found = rows(
        connection,
        """
        select node_a, node_b, evidence_kind, probability, event_count, first_seen_at, last_seen_at, first_event_id, last_event_id, estimation_version
        from identity.edges where node_a in (select node_id from temp.explained) and node_b in (select node_id from temp.explained)
        order by node_a, node_b, evidence_kind
        """,
    )
    links = []
    for a, b, kind, probability, count, first, last, first_event, last_event, version in found:
        if {a, b} & shared:
            why_not = "shared by too many: merges nobody"
        elif kind == OPERATOR_MERGE and (a, b) not in standing:
            why_not = "taken back by a split"
        elif kind == PROBABLE and (a, b) in ended:
            why_not = f"no longer holds since {ended[a, b]}"
        else:
            why_not = "" if customer.get(a) == customer.get(b) else "refused: it would join what must stay apart"
        estimate = f", estimate {version}" if version else ""
        told = f"{kind}, probability {probability}{estimate}, {count:,} events from {first} to {last}, event ids {first_event} … {last_event}"
        links.append(ToldLink(int(str(a)), int(str(b)), str(kind), float(str(probability)), told, why_not))
    return names, [link for link in links if {link.node_a, link.node_b} <= set(names)]


def _negatives(connection: Connection, one: int, other: int, names: dict[int, str], shown: set[int]) -> list[str]:
    """Pairs kept apart, of which one stands with the one identifier's person and one with the other's; the pair itself first."""
    found = rows(
        connection,
        """
        with sides as (
            select node_id, $one as side from identity.memberships where customer_id = (select customer_id from identity.memberships where node_id = $one)
            union select node_id, $other from identity.memberships where customer_id = (select customer_id from identity.memberships where node_id = $other)
            union select $one, $one union select $other, $other
        )

        select distinct n.node_a, n.node_b, n.kind, n.since, n.until, n.source_event_id,
            (n.node_a, n.node_b) = (least($one, $other), greatest($one, $other)) as is_itself
        from identity.negative_edges n
        join sides a on a.node_id = n.node_a
        join sides b on b.node_id = n.node_b
        where a.side <> b.side
        order by is_itself desc, n.since, n.node_a, n.node_b, n.kind limit $most
        """,
        {"one": one, "other": other, "most": MOST_PAIRS},
    )
    shown.update(int(str(node)) for row in found for node in row[:2])
    missing = [node for row in found for node in row[:2] if node not in names]
    if missing:
        named = "select node_id, identifier_type, identifier_value from identity.nodes where list_contains(?, node_id)"
        for node, kind, value in rows(connection, named, [missing]):
            names[int(str(node))] = str(Identifier(int(str(node)), str(kind), str(value)))
    return [
        f"  {names.get(int(str(a)), 'an identifier that is gone')} and {names.get(int(str(b)), 'an identifier that is gone')}: {kind} since {since}"
        + (f" until {until}" if until else "")
        + f", event id {event}"
        for a, b, kind, since, until, event, _ in found
    ]
