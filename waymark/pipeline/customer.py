"""One person as published: identifiers and how sure they are, figures, consent, and every touch in order."""

from __future__ import annotations

from dataclasses import dataclass

from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.pipeline.identifiers import find_identifier
from waymark.pipeline.published import open_published
from waymark.privacy import load_secret

# Of the published snapshot, what `find_identifier` reads of identity.nodes; an id of before stands for whoever has its identifier now.
_NODES = """(
    select node_id, identifier_type, identifier as identifier_value, customer_id as node_customer_id from marts.dim_identity_clusters where valid_to is null
    union all
    select c.node_id, c.identifier_type, c.identifier, a.alias_customer_id
    from marts.dim_customer_aliases a join marts.dim_identity_clusters c on c.customer_id = a.customer_id and c.valid_to is null and c.method = 'own'
    where a.alias_customer_id <> a.customer_id
)"""
TOUCH_COLUMNS = (
    "occurred_at", "channel", "source", "event_type", "stage", "session_id", "utm_campaign", "value_reporting", "identifier_type", "method", "confidence",
    "event_id",
)  # fmt: skip


@dataclass(frozen=True)
class CustomerView:
    """asked: as it was named; identifiers: (type, value, method, confidence, since); consent: (scope, state, since); touches: rows of TOUCH_COLUMNS, the
    latest `len(touches)` of `touch_count`, in order."""

    customer_id: str
    asked: str
    figures: dict[str, object]
    identifiers: list[tuple[object, ...]]
    consent: list[tuple[object, ...]]
    touches: list[tuple[object, ...]]
    touch_count: int


def customer_view(project: Project, asked: str, *, limit: int | None = None) -> CustomerView:
    """The person that a customer id, of today or before, or an identifier TYPE:VALUE names. limit: at most so many touches, the latest; None: all.

    Raises StorageError where nothing is published, WaymarkError where nobody is meant, or several.
    """
    with open_published(project.home) as connection:
        customer = _customer_of(connection, project, asked)
        cursor = connection.execute("from marts.dim_customers where customer_id = ?", [customer])
        names, row = [column[0] for column in cursor.description or []], cursor.fetchone()
        assert row is not None  # the two tables are of one snapshot
        count = int(str(rows(connection, "select count(*) from marts.customer_timeline where customer_id = ?", [customer])[0][0]))
        latest = f"order by occurred_at desc, event_id desc limit {limit}" if limit is not None else ""
        touches = f"select {', '.join(TOUCH_COLUMNS)} from marts.customer_timeline where customer_id = ? {latest}"
        return CustomerView(
            customer, asked, dict(zip(names[1:], row[1:], strict=True)),
            rows(connection, """
                select identifier_type, identifier, method, confidence, valid_from from marts.dim_identity_clusters
                where customer_id = ? and valid_to is null order by valid_from, identifier_type, identifier
            """, [customer]),
            rows(connection, """
                select scope, state, valid_from from marts.dim_consent_now where customer_id = ? order by scope
            """, [customer]),
            rows(connection, f"select * from ({touches}) order by occurred_at, event_id", [customer]),
            count,
        )  # fmt: skip


def _customer_of(connection: Connection, project: Project, asked: str) -> str:
    found = find_identifier(connection, load_secret(project), asked, nodes=_NODES)
    customers = rows(connection, "select customer_id from marts.dim_identity_clusters where node_id = ? and valid_to is null", [found.node_id])
    return str(customers[0][0])
