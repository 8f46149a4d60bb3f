"""What a run did to customers, and why: rows of the log `identity.restatements`, which is published as `marts.fct_identity_restatements`.

A row says that identifiers, and rows of events, of one customer became another's (NULL: nobody's). An identifier seen for the first time changes nobody, and
a full refresh compares with nothing, so neither is logged.

Decision: rows are told of tables that have one for an event, or for a conversion. Context: an event's customer follows from its identifiers, so before the
models run it is known which of these rows change hands; sessions, touchpoints and journeys are cut anew, and which ones will differ is known when they are.
Consequence: what is told is the difference exactly; of all other tables `restated_rows` gives a bound, the rows that are stated again.
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
_OTHERWISE = len(REASONS) - 1
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
    """identifiers: how many went from the one to the other. rows_by_table: standing rows that were the one's and become the other's; none where only
    identifiers went."""

    before: str
    after: str | None
    why: str
    identifiers: int
    rows_by_table: dict[str, int]


def log_changes(connection: Connection) -> None:
    """Appends a row for each pair of customers between which identifiers or rows moved, and reason. Needs the temp tables of the increment."""
    _find_moved_nodes(connection)
    _find_moved_events(connection)
    conversions = """
            union all
            select moved.customer_before, moved.customer_now, moved.reason, 0, 'marts.fct_conversions'
            from temp.moved_events moved join marts.fct_conversions using (event_id)
    """
    connection.execute(
        f"""
        create or replace temp table changes_of_customers as
        with moved as (
            select customer_before, customer_now, reason, 1 as identifiers, cast(null as varchar) as table_name
            from temp.moved_nodes where customer_before is not null
            union all
            select customer_before, customer_now, reason, 0, 'marts.fct_events' from temp.moved_events
            {conversions if "marts.fct_conversions" in _tables(connection) else ""}
        ),

        counted as (
            select customer_before, customer_now, reason, table_name, sum(identifiers) as identifier_count, count(*) as row_count
            from moved group by all
        )

        select customer_before, customer_now, {list(REASONS)}[reason + 1] as why, cast(sum(identifier_count) as bigint) as identifier_count,
            '{{' || coalesce(string_agg('"' || table_name || '":' || row_count, ',' order by table_name), '') || '}}' as rows_by_table
        from counted
        group by customer_before, customer_now, reason
        """
    )
    connection.execute(
        f"""
        insert into {LOG_TABLE}
        select (select coalesce(max(run_number), 0) + 1 from {LOG_TABLE}), (select data_now from raw.run_clock), customer_before, customer_now, why,
            identifier_count, rows_by_table
        from temp.changes_of_customers
        order by customer_before, customer_now nulls last, why
        """
    )


def _find_moved_nodes(connection: Connection) -> None:
    """Makes temp table moved_nodes (node_id, customer_before, customer_now, reason: index of REASONS) of all whose customer changed, also from or to nobody."""
    connection.execute(
        f"""
        create or replace temp table moved_nodes as
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
        )

        select changed.node_id, changed.customer_before, changed.customer_now, coalesce(min(reasons.reason), {_OTHERWISE}) as reason
        from temp.changed_memberships changed
        left join places using (node_id)
        left join reasons using (state, cluster_id)
        group by changed.node_id, changed.customer_before, changed.customer_now
        """
    )


def _find_moved_events(connection: Connection) -> None:
    """Makes temp table moved_events (event_id, customer_before, customer_now, reason): events that stood as a customer's, name whom they named and count as
    they did, and are another's or nobody's.

    The reason is that of the event's identifiers that moved between the same two, else of any that moved: where one became nobody's, the next one decides.
    """
    connection.execute(
        f"""
        create or replace temp table moved_events as
        with standing as (
            select event_id, node_ids, customer_id from temp.pending_before where customer_id is not null
            union all
            select event_id, node_ids, customer_id from intermediate.int_events_sessionized
            where event_id in (select event_id from temp.changed_node_events) and occurred_at in (select occurred_at from temp.changed_node_events)
                and customer_id is not null
        ),

        now as (
            select event_id, node_ids from temp.pending_now where is_counted
            union all
            select event_id, node_ids from temp.changed_node_events where is_counted
        ),

        named as (
            select event_id, standing.customer_id as customer_before, unnest(standing.node_ids) as node_id,
                generate_subscripts(standing.node_ids, 1) as position
            from standing join now using (event_id)
            where standing.node_ids = now.node_ids
        ),

        owned as (
            select event_id, customer_before, min_by(memberships.customer_id, position) as customer_now
            from named left join identity.memberships using (node_id)
            group by event_id, customer_before
        )

        select owned.event_id, owned.customer_before, owned.customer_now,
            coalesce(
                min(moved.reason) filter (where moved.customer_before = owned.customer_before and moved.customer_now is not distinct from owned.customer_now),
                min(moved.reason), {_OTHERWISE}
            ) as reason
        from owned
        join named using (event_id)
        left join temp.moved_nodes moved using (node_id)
        where owned.customer_before is distinct from owned.customer_now
        group by owned.event_id, owned.customer_before, owned.customer_now
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
    """Standing rows that the next models will state anew, by table, as the restated tables say; tables without one are left out.

    A standing row that goes or comes out otherwise because of who is who is among them; many come out as they were.
    """
    there = _tables(connection)
    found = {
        table: int(str(rows(connection, f"select count(*) from {table} t where {condition}")[0][0])) for table, condition in RESTATED.items() if table in there
    }
    return {table: count for table, count in found.items() if count}


def _tables(connection: Connection) -> set[str]:
    return {f"{schema}.{name}" for schema, name in rows(connection, "select table_schema, table_name from information_schema.tables")}
