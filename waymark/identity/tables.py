"""The tables of schema `identity`: their columns, and what is emptied when.

The result and scope tables are the contract of docs/architecture.md, section 3. Some are this package's own: without them an increment would have to
look at the whole graph (`clusters`, `over_shared_since`, `negative_evidence`, `operator_links`), or would miss what a run that never finished has already
counted (`applied_events`).
"""

from __future__ import annotations

from datetime import date

from waymark.core.warehouse import Connection, rows

RESULT_TABLES = {
    "nodes": """
        node_id BIGINT, identifier_type VARCHAR, identifier_value VARCHAR, first_seen_at TIMESTAMP, last_seen_at TIMESTAMP,
        node_customer_id VARCHAR, neighbour_count INTEGER, is_over_shared BOOLEAN""",
    "edges": """
        node_a BIGINT, node_b BIGINT, evidence_kind VARCHAR, first_seen_at TIMESTAMP, last_seen_at TIMESTAMP, event_count BIGINT,
        first_event_id VARCHAR, last_event_id VARCHAR, probability DOUBLE, estimation_version INTEGER""",
    "memberships": "node_id BIGINT, customer_id VARCHAR",
    "membership_history": """
        node_id BIGINT, customer_id VARCHAR, valid_from TIMESTAMP, valid_to TIMESTAMP, method VARCHAR, confidence DOUBLE, weakest_estimated_link DOUBLE""",
    # From `since` until `until` (NULL: for ever) the two are not one person.
    "negative_edges": "node_a BIGINT, node_b BIGINT, kind VARCHAR, since TIMESTAMP, until TIMESTAMP, source_event_id VARCHAR",
    # Nodes that were ever linked, by the least node id that they were ever linked with; a node without a row was always alone.
    "clusters": "node_id BIGINT, cluster_id BIGINT",
    # The instant at which a node got one neighbour too many; as known at T it is over-shared where over_shared_from < T.
    "over_shared_since": "node_id BIGINT, over_shared_from TIMESTAMP",
    # What negative edges are made of: what the sessions of one key, or the reports of one order, say. One of session_key_id and order_id is NULL.
    "negative_evidence": """
        session_key_id BIGINT, order_id VARCHAR, node_a BIGINT, node_b BIGINT, kind VARCHAR, since TIMESTAMP, source_event_id VARCHAR""",
    # When an operator's word joins two identifiers: from a merge until the next split of the same two.
    "operator_links": "node_a BIGINT, node_b BIGINT, in_force_from TIMESTAMP, in_force_until TIMESTAMP, event_id VARCHAR",
}
SCOPE_TABLES = {
    "restated_session_keys": "session_key_id BIGINT, restate_from TIMESTAMP",
    "restated_events": "event_id VARCHAR",
    # Each of those, and each event of the sessions above, at every instant under which a table may hold it.
    "restated_placements": "event_id VARCHAR, occurred_at TIMESTAMP",
    "restated_customers": "customer_id VARCHAR",
    "restated_orders": "order_id VARCHAR",
    "restated_nodes": "node_id BIGINT",
    "restated_feature_customers": "customer_id VARCHAR",
    # Days (UTC) whose events are pending again by request: every session of their keys is placed anew, whatever stood there.
    "restated_days": "event_date DATE",
    # Pending events as the last resolution counted them; what older runs counted stands in int_events_sessionized.
    "applied_events": "event_id VARCHAR, occurred_at TIMESTAMP, node_ids BIGINT[], is_counted BOOLEAN, session_key_id BIGINT, order_id VARCHAR",
}
# What happened to customers, run by run: a record, which no rebuild empties and `waymark upgrade` keeps.
LOG_TABLE = "identity.restatements"
_LOG_COLUMNS = """
    run_number BIGINT, data_now TIMESTAMP, customer_before VARCHAR, customer_after VARCHAR, why VARCHAR, identifier_count BIGINT, rows_by_table VARCHAR"""
# data_now of the last finished run: features of points before it are re-stated for the customers above, later points for everybody.
CLOCK_TABLES = {"finished_clock": "data_now TIMESTAMP"}
_ALL_TABLES = {**RESULT_TABLES, **SCOPE_TABLES, **CLOCK_TABLES}


def prepare_identity(connection: Connection) -> None:
    """Makes schema `identity` and its tables, empty, where they do not exist yet."""
    connection.execute("create schema if not exists identity")
    for name, columns in _ALL_TABLES.items():
        connection.execute(f"create table if not exists identity.{name} ({columns})")
    _prepare_log(connection)


def replace_identity(connection: Connection) -> None:
    """Makes all tables of schema `identity` anew, empty: the first step of a full refresh."""
    connection.execute("create schema if not exists identity")
    for name, columns in _ALL_TABLES.items():
        connection.execute(f"create or replace table identity.{name} ({columns})")
    _prepare_log(connection)


def _prepare_log(connection: Connection) -> None:
    connection.execute(f"create table if not exists {LOG_TABLE} ({_LOG_COLUMNS})")


def clear_restatements(connection: Connection) -> None:
    """Empties what dbt had to re-state, and notes up to when all is stated.

    Call it in the transaction that clears the pending batches, when the last model stands.
    """
    for name in SCOPE_TABLES:
        connection.execute(f"delete from identity.{name}")
    connection.execute("delete from identity.finished_clock")
    connection.execute("insert into identity.finished_clock select data_now from raw.run_clock")


def is_restating(connection: Connection) -> bool:
    """Whether something is named that must be re-stated, and no run was finished since. That needs no pending event: another estimation moves people, too."""
    return any(rows(connection, f"select 1 from identity.{name} limit 1") for name in SCOPE_TABLES)


def request_days(connection: Connection, first: date, last: date) -> None:
    """Notes that what touches these days (UTC, both included) is to be re-stated. Call it in the transaction that makes their events pending."""
    connection.execute(
        """
        insert into identity.restated_days
        select cast(day as date) from generate_series(cast($first as timestamp), cast($last as timestamp), interval 1 day) days (day)
        except select event_date from identity.restated_days
        """,
        {"first": first, "last": last},
    )


def drop_temporary(connection: Connection, names: tuple[str, ...]) -> None:
    """Drops a step's temporary tables, so that their memory is free before the next step."""
    for name in names:
        connection.execute(f"drop table if exists temp.{name}")
