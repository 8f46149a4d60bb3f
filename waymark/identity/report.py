"""What a resolution gives back, and what is over-shared: counts, types and times, never an identifier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast

from waymark.core.warehouse import Connection, rows


@dataclass(frozen=True)
class IdentityReport:
    """Counts after a resolution. over_shared: identifiers that merge nobody, over_shared_types: the same by type; changed_clusters: customer ids,
    old and new, that lost or gained an identifier in this run (in a full refresh: all customers)."""

    nodes: int
    edges: int
    customers: int
    over_shared: int
    over_shared_types: dict[str, int]
    changed_clusters: int
    full_refresh: bool
    seconds: float

    def as_metadata(self) -> dict[str, int | float | bool | str]:
        """Flat values, for run summaries and asset metadata."""
        return {
            "nodes": self.nodes,
            "edges": self.edges,
            "customers": self.customers,
            "over_shared": self.over_shared,
            "over_shared_types": ", ".join(f"{kind}: {count}" for kind, count in sorted(self.over_shared_types.items())),
            "changed_clusters": self.changed_clusters,
            "full_refresh": self.full_refresh,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class OverShared:
    """An identifier with too many neighbours, without the identifier."""

    identifier_type: str
    neighbour_count: int
    first_seen_at: datetime


def over_shared(connection: Connection, limit: int = 20) -> list[OverShared]:
    """The over-shared identifiers with the most neighbours, at most `limit`."""
    found = connection.execute(
        """
        select identifier_type, neighbour_count, first_seen_at from identity.nodes where is_over_shared
        order by neighbour_count desc nulls last, first_seen_at nulls last, identifier_type nulls last, node_id limit $limit
        """,
        {"limit": limit},
    ).fetchall()
    return [OverShared(*row) for row in found]


def counts(connection: Connection) -> tuple[int, int, int, int, dict[str, int]]:
    """(nodes, edges, customers, over-shared identifiers, the same by type)."""
    ((nodes, edges),) = rows(connection, "select (select count(*) from identity.nodes), (select count(*) from identity.edges)")
    types = rows(connection, "select identifier_type, count(*) from identity.nodes where is_over_shared group by all order by identifier_type nulls last")
    by_type = {str(kind): cast(int, count) for kind, count in types}
    return cast(int, nodes), cast(int, edges), customer_count(connection), sum(by_type.values()), by_type


def customer_count(connection: Connection) -> int:
    """Customers of the current map."""
    ((customers,),) = rows(connection, "select count(distinct customer_id) from identity.memberships")
    return cast(int, customers)
