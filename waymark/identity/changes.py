"""What a run did to customers, and why: rows of the log `identity.restatements`, which is published as `marts.fct_identity_restatements`.

A row says that identifiers of one customer became another's (NULL: nobody's). An identifier seen for the first time changes nobody, and a full refresh
compares with nothing, so neither is logged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

from waymark.core.warehouse import Connection, rows
from waymark.identity.probabilities import OPERATOR_MERGE, OPERATOR_SPLIT
from waymark.identity.tables import LOG_TABLE

# Why, the first that holds for the clusters an identifier was in or is in.
REASONS = (OPERATOR_SPLIT, OPERATOR_MERGE, "guard_crossing", "withdrawn_event", "negative_evidence", "probable_link", "late_login")
# Tables with a customer's rows, counted under the customer before.
CUSTOMER_TABLES = ("marts.dim_customers", "marts.fct_conversions", "marts.fct_events", "marts.fct_journeys", "marts.fct_sessions", "marts.fct_touchpoints")
_PLACED = """t.event_id in (select event_id from identity.restated_placements) and t.occurred_at in (select occurred_at from identity.restated_placements)"""
_OF_CUSTOMERS = "t.customer_id in (select customer_id from identity.restated_customers)"
_OF_NODES = "t.node_id in (select node_id from identity.restated_nodes)"
_OF_FEATURES = "t.customer_id in (select customer_id from identity.restated_feature_customers)"
_EVENTS = "t.event_id in (select event_id from identity.restated_events)"
# The scopes of dbt/macros/restated.sql, by table: which standing rows a run deletes and computes again because of who is who. What every run states anew,
# by time alone, is left out: the latest points, labels that ripen, journeys that lapse.
RESTATED = {
    "intermediate.int_consent_denials": _OF_FEATURES,
    "intermediate.int_conversions_deduplicated": f"{_EVENTS} or t.order_id in (select order_id from identity.restated_orders)",
    "intermediate.int_customer_activity": _OF_FEATURES,
    "intermediate.int_customer_labels": _OF_FEATURES,
    "intermediate.int_events_sessionized": _PLACED,
    "intermediate.int_identity_edges": _OF_NODES,
    "intermediate.int_journey_steps": _OF_CUSTOMERS,
    "intermediate.int_node_days": _OF_NODES,
    "marts.dim_customer_aliases": _OF_CUSTOMERS,
    "marts.dim_customers": _OF_CUSTOMERS,
    "marts.dim_identity_clusters": _OF_NODES,
    "marts.fct_consent_intervals": _OF_FEATURES,
    "marts.fct_conversions": f"{_OF_CUSTOMERS} or {_EVENTS}",
    "marts.fct_journeys": _OF_CUSTOMERS,
    "marts.fct_sessions": """exists (
        from identity.restated_session_keys k where k.session_key_id = t.session_key_id and k.restate_from <= t.started_at)""",
    "marts.fct_touchpoints": _PLACED,
}


@dataclass(frozen=True)
class CustomerChange:
    """identifiers: how many went from the one to the other. rows_by_table: rows that stood under `before`, all of which are stated again."""

    before: str
    after: str | None
    why: str
    identifiers: int
    rows_by_table: dict[str, int]


def log_changes(connection: Connection) -> None:
    """Appends a row for each pair of customers between which identifiers moved. Needs the temp tables of the increment."""
    connection.execute(
        f"""
        create or replace temp table changes_of_customers as
        with causes as (
            select unnest([node_a, node_b]) as node_id, case standing.word when '{OPERATOR_SPLIT}' then 0 when '{OPERATOR_MERGE}' then 1 else 3 end as reason
            from (
                select node_a, node_b from temp.changed_words
                union select node_a, node_b from temp.changed_negatives where kind = '{OPERATOR_SPLIT}'
            )
            left join (select node_a, node_b, word from temp.word_spells where until is null) standing using (node_a, node_b)
            union all
            select node_id, 2 from temp.degrees where over_shared_from is distinct from over_shared_before
            union all
            select node_id, 3 from temp.withdrawn_nodes
            union all
            select unnest([node_a, node_b]), 4 from temp.changed_negatives where kind <> '{OPERATOR_SPLIT}'
            union all
            select unnest([node_a, node_b]), 5 from temp.moved_links
        ),

        -- A cause and what it changed were in one cluster, or are.
        places as (
            select node_id, 'before' as state, cluster_id from temp.stale_clusters
            union all
            select node_id, 'now', cluster_id from temp.fresh_clusters
            union all
            select node_id, 'itself', node_id from temp.affected_nodes
        ),

        reasons as (
            select state, cluster_id, min(reason) as reason from causes join places using (node_id) group by state, cluster_id
        ),

        moved as (
            select changed.node_id, changed.customer_before, changed.customer_now, min(reasons.reason) as reason
            from temp.changed_memberships changed
            left join places using (node_id)
            left join reasons using (state, cluster_id)
            where changed.customer_before is not null
            group by changed.node_id, changed.customer_before, changed.customer_now
        )

        select customer_before, customer_now, {list(REASONS)}[coalesce(reason, {len(REASONS) - 1}) + 1] as why, count(*) as identifier_count
        from moved
        group by customer_before, customer_now, why
        """
    )
    if not rows(connection, "select 1 from temp.changes_of_customers limit 1"):
        return
    there = _tables(connection)
    counted = " union all ".join(
        f"""
        select customer_id, '{table}' as table_name, count(*) as row_count from {table}
        where customer_id in (select customer_before from temp.changes_of_customers) group by customer_id
        """
        for table in CUSTOMER_TABLES
        if table in there
    )
    if not counted:
        counted = "select cast(null as varchar) as customer_id, cast(null as varchar) as table_name, 0 as row_count limit 0"
    connection.execute(
        f"""
        insert into {LOG_TABLE}
        with counted as ({counted}),

        told as (
            select customer_id, cast(json_group_object(table_name, row_count) as varchar) as rows_by_table
            from (from counted order by table_name) group by customer_id
        )

        select (select coalesce(max(run_number), 0) + 1 from {LOG_TABLE}), (select data_now from raw.run_clock), changes.customer_before,
            changes.customer_now, changes.why, changes.identifier_count, coalesce(told.rows_by_table, '{{}}')
        from temp.changes_of_customers changes left join told on told.customer_id = changes.customer_before
        order by changes.customer_before, changes.customer_now nulls last, changes.why
        """
    )


def changes_of_last_run(connection: Connection) -> list[CustomerChange]:
    """What the last increment of this connection logged; empty where it changed nobody."""
    found = rows(
        connection,
        f"""
        select l.customer_before, l.customer_after, l.why, l.identifier_count, l.rows_by_table
        from {LOG_TABLE} l join temp.changes_of_customers c
            on c.customer_before = l.customer_before and c.customer_now is not distinct from l.customer_after and c.why = l.why
        where l.run_number = (select max(run_number) from {LOG_TABLE})
        order by l.customer_before, l.customer_after nulls last, l.why
        """,
    )
    return [
        CustomerChange(str(before), cast("str | None", after), str(why), int(str(count)), dict(sorted(json.loads(str(told)).items())))
        for before, after, why, count, told in found
    ]


def restated_rows(connection: Connection) -> dict[str, int]:
    """Standing rows that the next models will state anew, by table, as the restated tables say; tables without one are left out."""
    there = _tables(connection)
    found = {
        table: int(str(rows(connection, f"select count(*) from {table} t where {condition}")[0][0])) for table, condition in RESTATED.items() if table in there
    }
    return {table: count for table, count in found.items() if count}


def _tables(connection: Connection) -> set[str]:
    return {f"{schema}.{name}" for schema, name in rows(connection, "select table_schema, table_name from information_schema.tables")}
