"""Nodes and edges: what the counted events show, kept in `identity.nodes` and `identity.edges`.

An increment merges least and greatest sightings, which can be repeated without harm, and adds to an edge's count what of the pending events is not
counted yet (`applied_events`). The rare event whose content changed withdraws what it had shown: its nodes and edges are counted anew from all events. So are
those of days that somebody asks to have stated anew: what stands of them may be damaged, and would tell wrongly what has been counted.
"""

from __future__ import annotations

from waymark.core.warehouse import Connection, rows
from waymark.identity.customer_id import node_customer_id_sql
from waymark.identity.probabilities import OPERATOR_MERGE, link_probability_sql

Pads = dict[str, object]

_CUSTOMER_ID = node_customer_id_sql('identifier."type"', 'identifier."value"')
# Of identity.edges, the links that events show by holding both identifiers.
IS_OBSERVED = f"edges.evidence_kind <> '{OPERATOR_MERGE}' and edges.estimation_version = 0"
_KIND = "least(a.identifier_type, b.identifier_type) || '-' || greatest(a.identifier_type, b.identifier_type)"


def node_evidence_sql(events: str) -> str:
    """SQL: one row per node of the counted events: node_id, identifier, first_seen_at, last_seen_at."""
    return f"""
        select node_id, min(identifier) as identifier, min(occurred_at) as first_seen_at, max(occurred_at) as last_seen_at
        from (select unnest(node_ids) as node_id, unnest(identifiers) as identifier, occurred_at from {events} where is_counted)
        where node_id is not null
        group by node_id
    """


def sighting_sql(occurred_at: str, event_id: str) -> str:
    """SQL: a text that orders as (occurred_at, event_id) does. A text's least and greatest are found three times as fast as a struct's.

    The summand gives every time from 1990 on as many digits.
    """
    return f"cast(epoch_us({occurred_at}) + 100000000000000000 as varchar) || {event_id}"


def sighted_event_sql(sighting: str) -> str:
    """SQL: the event id of a sighting."""
    return f"substr({sighting}, 19)"


def pair_evidence_sql(events: str) -> str:
    """SQL: one row per pair of nodes that a counted event holds together.

    Columns: node_a < node_b, first_seen_at, last_seen_at, event_count, first_sighting, last_sighting.
    """
    return f"""
        select node_a, node_b, min(occurred_at) as first_seen_at, max(occurred_at) as last_seen_at, count(*) as event_count,
            min(sighting) as first_sighting, max(sighting) as last_sighting
        from (
            select node_a, unnest(node_ids) as node_b, occurred_at, sighting
            from (
                select unnest(node_ids) as node_a, node_ids, occurred_at, {sighting_sql("occurred_at", "event_id")} as sighting
                from {events} where is_counted and len(node_ids) > 1
            )
        )
        where node_a < node_b
        group by node_a, node_b
    """


def degrees_sql(edges: str) -> str:
    """SQL: one row per node of these edges (each edge counts for both its ends): node_id, neighbour_count, over_shared_from (NULL = is not).

    Needs the parameter `limit`. A node is over-shared from the instant at which it got neighbour number limit + 1.
    """
    return f"""
        with ends as (
            select node_a as node_id, first_seen_at from {edges}
            union all
            select node_b, first_seen_at from {edges}
        ),

        counted as (select node_id, cast(count(*) as integer) as neighbour_count from ends group by node_id),

        numbered as (
            select node_id, first_seen_at, row_number() over (partition by node_id order by first_seen_at) as neighbour_number
            from ends
            where node_id in (select node_id from counted where neighbour_count > $limit)
        ),

        crossings as (select node_id, first_seen_at as over_shared_from from numbered where neighbour_number = $limit + 1)

        select counted.node_id, counted.neighbour_count, crossings.over_shared_from
        from counted left join crossings using (node_id)
    """


def rebuild_evidence(connection: Connection, *, limit: int, pads: Pads) -> None:
    """Fills nodes, edges and over_shared_since, all empty, from all events."""
    connection.execute(f"create or replace temp table node_evidence as {node_evidence_sql('intermediate.int_events')}")
    connection.execute(f"create or replace temp table pair_evidence as {pair_evidence_sql('intermediate.int_events')}")
    connection.execute(f"create or replace temp table degrees as {degrees_sql('temp.pair_evidence')}", {"limit": limit})
    connection.execute(
        f"""
        insert into identity.nodes
        select node_id, identifier."type", identifier."value", first_seen_at, last_seen_at, {_CUSTOMER_ID},
            coalesce(neighbour_count, 0), over_shared_from is not null
        from temp.node_evidence left join temp.degrees using (node_id)
        """,
        pads,
    )
    connection.execute(
        f"""
        insert into identity.edges
        select node_a, node_b, {_KIND}, e.first_seen_at, e.last_seen_at, event_count, {sighted_event_sql("first_sighting")},
            {sighted_event_sql("last_sighting")}, {link_probability_sql(_KIND)}, 0
        from temp.pair_evidence e
        join identity.nodes a on a.node_id = e.node_a
        join identity.nodes b on b.node_id = e.node_b
        """
    )
    connection.execute("insert into identity.over_shared_since select node_id, over_shared_from from temp.degrees where over_shared_from is not null")


def read_pending(connection: Connection) -> None:
    """Makes temp tables pending_instants (event_id, and each instant under which a table may hold it), pending_now (contents), pending_before (what
    int_events_sessionized still holds of them) and pending_counted (what nodes and edges hold of them: newer than pending_before where an earlier run
    did not finish).

    An event that had another content before is named by ingestion with the times of all its contents, so the instants leave no row out; they spare the
    scan the ids of all others.
    """
    connection.execute(
        """
        create or replace temp table pending_instants as
        select event_id, occurred_at from staging.stg_pending_events
        union
        select event_id, occurred_at from raw.event_conflicts where event_id in (select event_id from staging.stg_pending_events)
        """
    )
    pending = "event_id in (select event_id from temp.pending_instants) and occurred_at in (select occurred_at from temp.pending_instants)"
    connection.execute(
        f"""
        create or replace temp table pending_now as
        select event_id, occurred_at, session_key_id, identifiers, node_ids, is_counted, is_conversion_event, order_id
        from intermediate.int_events where {pending}
        """
    )
    connection.execute(
        f"""
        create or replace temp table pending_before as
        select event_id, occurred_at, session_key_id, node_ids, is_counted, order_id, customer_id
        from intermediate.int_events_sessionized where {pending}
        """
    )
    connection.execute(
        f"""
        create or replace temp table pending_counted as
        select event_id, occurred_at, node_ids, is_counted, session_key_id, order_id from identity.applied_events where {pending}
        union all
        select event_id, occurred_at, node_ids, is_counted, session_key_id, order_id from temp.pending_before
        where event_id not in (select event_id from identity.applied_events)
        """
    )


def merge_evidence(connection: Connection, *, limit: int, pads: Pads) -> None:
    """Brings nodes, edges and over_shared_since up to date with the pending events.

    Leaves temp tables: node_updates (node_id, first_seen_at NULL = gone, first_seen_before NULL = new) and seed_nodes (node_id): all nodes whose
    place in the graph of links in force is not what it was, and their neighbours by links that came into or out of force.
    """
    _find_withdrawn(connection)
    _merge_nodes(connection, pads)
    _merge_edges(connection)
    _merge_degrees(connection, limit)
    connection.execute("delete from identity.applied_events where event_id in (select event_id from temp.pending_instants)")
    connection.execute(
        "insert into identity.applied_events select event_id, occurred_at, node_ids, is_counted, session_key_id, order_id from temp.pending_now"
    )


def _find_withdrawn(connection: Connection) -> None:
    connection.execute(
        """
        create or replace temp table withdrawn_events as
        select before.event_id, before.node_ids, before.occurred_at, true as is_counted
        from temp.pending_counted before left join temp.pending_now now using (event_id)
        where before.is_counted and len(before.node_ids) > 0
            and (now.event_id is null or not now.is_counted or now.occurred_at <> before.occurred_at or now.node_ids is distinct from before.node_ids)
        union all
        select event_id, node_ids, occurred_at, true as is_counted from temp.pending_now
        where is_counted and len(node_ids) > 0 and cast(occurred_at as date) in (select event_date from identity.restated_days)
        """
    )
    connection.execute("create or replace temp table withdrawn_nodes as select distinct unnest(node_ids) as node_id from temp.withdrawn_events")
    connection.execute(f"create or replace temp table withdrawn_pairs as select node_a, node_b from ({pair_evidence_sql('temp.withdrawn_events')})")
    connection.execute(
        """
        create or replace temp table witnesses as
        select event_id, identifiers, node_ids, occurred_at, is_counted from intermediate.int_events
        where event_id in (
            select event_id from (select event_id, unnest(node_ids) as node_id from intermediate.int_events where is_counted)
            where node_id in (select node_id from temp.withdrawn_nodes)
        )
        """
        if rows(connection, "select 1 from temp.withdrawn_nodes limit 1")
        else "create or replace temp table witnesses as select event_id, identifiers, node_ids, occurred_at, is_counted from temp.pending_now limit 0"
    )


def _merge_nodes(connection: Connection, pads: Pads) -> None:
    connection.execute(
        f"""
        create or replace temp table node_updates as
        with anew as (
            select withdrawn.node_id, shown.identifier, shown.first_seen_at, shown.last_seen_at
            from temp.withdrawn_nodes withdrawn left join ({node_evidence_sql("temp.witnesses")}) shown using (node_id)
        ),

        shown as ({node_evidence_sql("temp.pending_now")})

        select anew.node_id, anew.identifier, anew.first_seen_at, anew.last_seen_at, nodes.first_seen_at as first_seen_before
        from anew left join identity.nodes using (node_id)
        union all
        select
            shown.node_id, shown.identifier, least(shown.first_seen_at, nodes.first_seen_at), greatest(shown.last_seen_at, nodes.last_seen_at),
            nodes.first_seen_at
        from shown left join identity.nodes using (node_id)
        where shown.node_id not in (select node_id from temp.withdrawn_nodes)
        """
    )
    connection.execute("delete from identity.nodes where node_id in (select node_id from temp.node_updates where first_seen_at is null)")
    connection.execute(
        """
        update identity.nodes set first_seen_at = fresh.first_seen_at, last_seen_at = fresh.last_seen_at
        from temp.node_updates fresh
        where nodes.node_id = fresh.node_id and (nodes.first_seen_at <> fresh.first_seen_at or nodes.last_seen_at <> fresh.last_seen_at)
        """
    )
    connection.execute(
        f"""
        insert into identity.nodes
        select node_id, identifier."type", identifier."value", first_seen_at, last_seen_at, {_CUSTOMER_ID}, 0, false
        from temp.node_updates where first_seen_before is null and first_seen_at is not null
        """,
        pads,
    )


def _merge_edges(connection: Connection) -> None:
    known_first, known_last = sighting_sql("edges.first_seen_at", "edges.first_event_id"), sighting_sql("edges.last_seen_at", "edges.last_event_id")
    connection.execute(
        f"""
        create or replace temp table edge_updates as
        with anew as (
            select withdrawn.node_a, withdrawn.node_b, shown.first_seen_at, shown.last_seen_at, shown.event_count, shown.first_sighting, shown.last_sighting
            from temp.withdrawn_pairs withdrawn left join ({pair_evidence_sql("temp.witnesses")}) shown using (node_a, node_b)
        ),

        shown as ({pair_evidence_sql("temp.pending_now")}),

        counted as (select node_a, node_b, event_count from ({pair_evidence_sql("temp.pending_counted")})),

        observed as (from identity.edges where {IS_OBSERVED})

        select node_a, node_b, anew.first_seen_at, anew.last_seen_at, anew.event_count, {sighted_event_sql("anew.first_sighting")} as first_event_id,
            {sighted_event_sql("anew.last_sighting")} as last_event_id, edges.first_seen_at as first_seen_before
        from anew left join observed edges using (node_a, node_b)
        union all
        select node_a, node_b, least(shown.first_seen_at, edges.first_seen_at), greatest(shown.last_seen_at, edges.last_seen_at),
            shown.event_count + coalesce(edges.event_count, 0) - coalesce(counted.event_count, 0),
            {sighted_event_sql(f"least(shown.first_sighting, {known_first})")}, {sighted_event_sql(f"greatest(shown.last_sighting, {known_last})")},
            edges.first_seen_at
        from shown
        left join observed edges using (node_a, node_b)
        left join counted using (node_a, node_b)
        where not exists (from temp.withdrawn_pairs withdrawn where withdrawn.node_a = shown.node_a and withdrawn.node_b = shown.node_b)
        """
    )
    connection.execute(
        f"""
        delete from identity.edges using temp.edge_updates gone
        where gone.first_seen_at is null and edges.node_a = gone.node_a and edges.node_b = gone.node_b and {IS_OBSERVED}
        """
    )
    connection.execute(
        f"""
        update identity.edges set first_seen_at = fresh.first_seen_at, last_seen_at = fresh.last_seen_at, event_count = fresh.event_count,
            first_event_id = fresh.first_event_id, last_event_id = fresh.last_event_id
        from temp.edge_updates fresh
        where edges.node_a = fresh.node_a and edges.node_b = fresh.node_b and {IS_OBSERVED}
            and (edges.first_seen_at, edges.last_seen_at, edges.event_count, edges.first_event_id, edges.last_event_id)
                is distinct from (fresh.first_seen_at, fresh.last_seen_at, fresh.event_count, fresh.first_event_id, fresh.last_event_id)
        """
    )
    connection.execute(
        f"""
        insert into identity.edges
        select fresh.node_a, fresh.node_b, {_KIND}, fresh.first_seen_at, fresh.last_seen_at, fresh.event_count, fresh.first_event_id, fresh.last_event_id,
            {link_probability_sql(_KIND)}, 0
        from temp.edge_updates fresh
        join identity.nodes a on a.node_id = fresh.node_a
        join identity.nodes b on b.node_id = fresh.node_b
        where fresh.first_seen_before is null and fresh.first_seen_at is not null
        """
    )


def _merge_degrees(connection: Connection, limit: int) -> None:
    connection.execute(
        """
        create or replace temp table relinked_nodes as
        select distinct unnest([node_a, node_b]) as node_id from temp.edge_updates where first_seen_at is distinct from first_seen_before
        """
    )
    connection.execute(
        f"""
        create or replace temp table relinked_edges as
        select node_a, node_b, first_seen_at from identity.edges
        where {IS_OBSERVED} and (node_a in (select node_id from temp.relinked_nodes) or node_b in (select node_id from temp.relinked_nodes))
        """
    )
    # An edge's other end is counted here too, but not by all its edges: it is left out.
    connection.execute(
        f"""
        create or replace temp table degrees as
        select relinked.node_id, coalesce(fresh.neighbour_count, 0) as neighbour_count, fresh.over_shared_from, known.over_shared_from as over_shared_before
        from temp.relinked_nodes relinked
        left join ({degrees_sql("temp.relinked_edges")}) fresh using (node_id)
        left join identity.over_shared_since known using (node_id)
        """,
        {"limit": limit},
    )
    connection.execute(
        """
        update identity.nodes set neighbour_count = fresh.neighbour_count, is_over_shared = fresh.over_shared_from is not null
        from temp.degrees fresh where nodes.node_id = fresh.node_id and nodes.neighbour_count <> fresh.neighbour_count
        """
    )
    connection.execute(
        "delete from identity.over_shared_since where node_id in (select node_id from temp.degrees where over_shared_from is distinct from over_shared_before)"
    )
    connection.execute(
        """
        insert into identity.over_shared_since
        select node_id, over_shared_from from temp.degrees where over_shared_from is not null and over_shared_from is distinct from over_shared_before
        """
    )
    connection.execute(
        """
        create or replace temp table seed_nodes as
        with recrossed as (
            select node_id, greatest(coalesce(over_shared_from, 'infinity'), coalesce(over_shared_before, 'infinity')) as in_force_before
            from temp.degrees where over_shared_from is distinct from over_shared_before
        )

        select node_id from temp.node_updates where first_seen_at is distinct from first_seen_before
        union
        select node_id from temp.relinked_nodes
        union
        select node_b from temp.relinked_edges join recrossed on node_a = node_id where first_seen_at < in_force_before
        union
        select node_a from temp.relinked_edges join recrossed on node_b = node_id where first_seen_at < in_force_before
        """
    )
