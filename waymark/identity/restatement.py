"""What dbt must re-state: session keys from an instant, events, orders and customers that the pending events may have changed.

Reads what stood before the run in int_events_sessionized and fct_sessions, and adds to what is already in the tables: after a crash the step is
repeated, when part of the old state may be gone, and the union still covers everything.
"""

from __future__ import annotations

from waymark.core.warehouse import Connection, rows

# A node's customer changed: every session of every key that the node was ever seen with is re-stated.
BEGINNING = "timestamp '0001-01-01'"
_NODES_OF_RECROSSED = """
        union
        select unnest(node_ids) from intermediate.int_events where event_id in (
            select event_id from (select event_id, unnest(node_ids) as node_id from intermediate.int_events)
            where node_id in (select node_id from temp.degrees where over_shared_from is distinct from over_shared_before)
        )
"""


def add_restatements(connection: Connection) -> None:
    """Adds to the restated tables. Needs the temp tables of `read_pending`, `merge_evidence` and `restate_memberships`."""
    _find_events_of_changed_nodes(connection)
    _find_events_of_same_orders(connection)
    _restate_session_keys(connection)
    _restate_events_and_orders(connection)
    _restate_placements(connection)
    _restate_customers(connection)
    _restate_nodes(connection)


def _find_events_of_changed_nodes(connection: Connection) -> None:
    """Events that are not pending, and whose customer may have changed all the same.

    A node that is new in this run has no such event that is counted, but may have others: a crawler's, say, with the same identifier.
    They are found by their instants, which are narrow, and then by their identifiers: an instant may be another event's too.
    """
    changed = "node_id in (select node_id from temp.changed_memberships) and (not is_counted or node_id not in (select node_id from new))"
    connection.execute(
        f"""
        create or replace temp table changed_node_events as
        with new as (select node_id from temp.node_updates where first_seen_before is null),

        seen as (select occurred_at, is_counted, unnest(node_ids) as node_id from intermediate.int_events),

        near as (
            select event_id, occurred_at, session_key_id, node_ids, is_counted, is_conversion_event, order_id
            from intermediate.int_events
            where occurred_at in (select occurred_at from seen where {changed})
        )

        select * from near
        where event_id in (select event_id from (select event_id, is_counted, unnest(node_ids) as node_id from near) where {changed})
            and event_id not in (select event_id from temp.pending_now)
        """
    )


def _find_events_of_same_orders(connection: Connection) -> None:
    """A new or altered report of an order may move its conversion to another event, and so to another customer."""
    connection.execute(
        """
        create or replace temp table run_orders as
        select order_id from temp.pending_now where is_conversion_event and order_id is not null
        union
        select order_id from temp.pending_before where order_id is not null
        """
    )
    connection.execute(
        """
        create or replace temp table order_events as
        select event_id, occurred_at, session_key_id, node_ids, is_counted
        from intermediate.int_events
        where is_conversion_event and order_id in (select order_id from temp.run_orders)
        """
    )


def _restate_session_keys(connection: Connection) -> None:
    """An event can alter the session that holds its instant, or that ended shortly before it, and any later one of its key.

    Where a day is re-stated by request, what stands there is not trusted, so not even where sessions began: its keys are placed from their first event.
    """
    connection.execute(
        f"""
        create or replace temp table run_session_keys as
        with instants as (
            select session_key_id, occurred_at from temp.pending_now where is_counted and session_key_id is not null
            union all
            select session_key_id, occurred_at from temp.pending_before where is_counted and session_key_id is not null
            union all
            select session_key_id, occurred_at from temp.order_events where is_counted and session_key_id is not null
        ),

        least_instants as (select session_key_id, min(occurred_at) as occurred_at from instants group by session_key_id),

        starts as (
            select sessions.session_key_id, max(sessions.started_at) as started_at
            from marts.fct_sessions sessions join least_instants using (session_key_id)
            where sessions.started_at <= least_instants.occurred_at
            group by sessions.session_key_id
        ),

        scopes as (
            select session_key_id, coalesce(starts.started_at, least_instants.occurred_at) as restate_from
            from least_instants left join starts using (session_key_id)
            union all
            select session_key_id, {BEGINNING} from temp.changed_node_events where is_counted and session_key_id is not null
            union all
            select session_key_id, {BEGINNING} from temp.pending_now
            where is_counted and session_key_id is not null and cast(occurred_at as date) in (select event_date from identity.restated_days)
        )

        select session_key_id, min(restate_from) as restate_from from scopes group by session_key_id
        """
    )
    connection.execute(
        """
        create or replace temp table all_session_keys as
        select session_key_id, min(restate_from) as restate_from
        from (from temp.run_session_keys union all from identity.restated_session_keys)
        group by session_key_id
        """
    )
    connection.execute("delete from identity.restated_session_keys")
    connection.execute("insert into identity.restated_session_keys from temp.all_session_keys")


def _restate_events_and_orders(connection: Connection) -> None:
    """Names events that no session scope reaches, and every conversion that may have moved to another session or customer.

    A conversion that is nobody's is in no customer's scope, so it is named itself; and its order with it, because reports of one order are judged
    together: one that is judged alone would always survive.
    """
    connection.execute(
        """
        create or replace temp table moved_conversions as
        select event_id, occurred_at, order_id from temp.changed_node_events where is_conversion_event
        union
        select events.event_id, events.occurred_at, events.order_id
        from intermediate.int_events events join temp.run_session_keys using (session_key_id)
        where events.is_conversion_event and events.is_counted and events.occurred_at >= run_session_keys.restate_from
        """
    )
    connection.execute(
        """
        create or replace temp table run_events as
        select event_id, occurred_at from temp.pending_now
        union
        select event_id, occurred_at from temp.pending_before
        union
        select event_id, occurred_at from temp.order_events
        union
        select event_id, occurred_at from temp.moved_conversions
        union
        select event_id, occurred_at from temp.changed_node_events where not is_counted or session_key_id is null
        """
    )
    connection.execute("insert into identity.restated_events select event_id from temp.run_events except from identity.restated_events")
    connection.execute(
        """
        insert into identity.restated_orders
        select order_id from (select order_id from temp.run_orders union select order_id from temp.moved_conversions where order_id is not null)
        except
        select order_id from identity.restated_orders
        """
    )


def _restate_placements(connection: Connection) -> None:
    """Names every event whose session or customer is computed again, at each instant under which a table may hold it.

    A content that no run has finished yet may stand in one table and the one before it in the next; both are here, because what is here stays until
    a run is finished. An event that is not pending is everywhere as int_events has it.
    """
    connection.execute(
        """
        insert into identity.restated_placements
        select event_id, occurred_at from temp.run_events
        union
        select events.event_id, events.occurred_at
        from intermediate.int_events events join temp.all_session_keys using (session_key_id)
        where events.is_counted and events.occurred_at >= all_session_keys.restate_from
        except
        select event_id, occurred_at from identity.restated_placements
        """
    )


def _restate_customers(connection: Connection) -> None:
    """Old and new customers. An event that is neither pending nor of a changed node keeps its customer, so the old one is also the new one."""
    connection.execute(
        """
        insert into identity.restated_customers
        with affected_events as (
            select node_ids from temp.pending_now
            union all
            select node_ids from temp.order_events
            union all
            select node_ids from temp.changed_node_events
        ),

        customers as (
            select customer_before as customer_id from temp.changed_memberships
            union
            select customer_now from temp.changed_memberships
            union
            select customer_id from temp.changed_history
            union
            select node_customer_id from identity.nodes where node_id in (select node_id from temp.changed_memberships)
            union
            select customer_id from identity.memberships where node_id in (select unnest(node_ids) from affected_events)
            union
            select customer_id from identity.memberships where node_id in (select node_id from temp.node_updates)
            union
            select customer_id from intermediate.int_events_sessionized
            where event_id in (select event_id from temp.run_events) and occurred_at in (select occurred_at from temp.run_events)
            union
            select sessionized.customer_id
            from intermediate.int_events_sessionized sessionized join temp.run_session_keys using (session_key_id)
            where sessionized.occurred_at >= run_session_keys.restate_from
        )

        select customer_id from customers where customer_id is not null
        except
        select customer_id from identity.restated_customers
        """
    )


def _restate_nodes(connection: Connection) -> None:
    """Nodes whose daily activity may have changed, and the customers, as known at any time, whose features or labels may have.

    A node's activity changes with the events that name it, with their sessions, and with which earlier identifier of an event is over-shared. A customer's
    features change with the activity of its nodes and with the map; its label also with nodes that it is linked to later, so whole clusters are named:
    as they are now, and as they were before the run.
    """
    recrossed = rows(connection, "select 1 from temp.degrees where over_shared_from is distinct from over_shared_before limit 1")
    connection.execute(
        f"""
        create or replace temp table active_nodes as
        select unnest(node_ids) as node_id from intermediate.int_events
        where event_id in (select event_id from temp.run_events) and occurred_at in (select occurred_at from temp.run_events)
        union
        select unnest(events.node_ids) from intermediate.int_events events join temp.run_session_keys using (session_key_id)
        where events.is_counted and events.occurred_at >= run_session_keys.restate_from
        {_NODES_OF_RECROSSED if recrossed else ""}
        union
        select unnest(node_ids) from temp.pending_counted
        union
        select node_id from temp.changed_nodes
        union
        select unnest([node_a, node_b]) from temp.changed_words
        union
        select unnest([node_a, node_b]) from temp.moved_links
        union
        select unnest([node_a, node_b]) from temp.retold_links
        """
    )
    connection.execute("insert into identity.restated_nodes select node_id from temp.active_nodes except select node_id from identity.restated_nodes")
    connection.execute(
        """
        insert into identity.restated_feature_customers
        with whole_clusters as (
            select node_id from temp.active_nodes
            union
            select node_id from identity.clusters
            where cluster_id in (select cluster_id from identity.clusters where node_id in (select node_id from temp.active_nodes))
        )

        select customer_id from identity.membership_history where node_id in (select node_id from whole_clusters)
        union
        select customer_id from temp.stale_history
        union
        select customer_id from temp.fresh_history
        except
        select customer_id from identity.restated_feature_customers
        """
    )
