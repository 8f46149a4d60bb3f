"""Negative evidence: pairs of identifiers that must not be one person's, and since when.

`two_logins_in_one_session`: two accounts logged in within one session of a device; `order_conflict`: one source reported one order id twice, for people with
nothing in common, at another value or more than a day apart; `operator_split`: somebody said so. Sessions and orders that pending events touch are judged
anew as a whole, so the result does not depend on the order of arrival; what a pair says is known from its later sighting on.
"""

from __future__ import annotations

from waymark.core.warehouse import Connection
from waymark.identity.evidence import sighted_event_sql, sighting_sql
from waymark.identity.probabilities import OPERATOR_MERGE, OPERATOR_PROBABILITY, OPERATOR_SPLIT, ORDER_CONFLICT, TWO_LOGINS

# Of one session, and of one order id, only so many are compared pairwise, the first: a till's session has thousands of log-ins, an order id may be "0".
COMPARED = 21
_DAY_US = 86_400_000_000
_EVIDENCE = "session_key_id, order_id, node_a, node_b, kind, since, source_event_id"


def session_evidence_sql(keys: str) -> str:
    """SQL: pairs of accounts of one session, of the session keys that the condition names (over `session_key_id`). Needs the parameter `gap_us`."""
    return f"""
        with logins as (
            select session_key_id, node_id
            from (select session_key_id, unnest(node_ids) as node_id from intermediate.int_events where is_counted and {keys})
            where node_id in (select node_id from identity.nodes where identifier_type = 'user_id')
            group by session_key_id, node_id
        ),

        shared as (select session_key_id from logins group by session_key_id having count(*) > 1),

        gapped as (
            select event_id, occurred_at, session_key_id, node_ids,
                epoch_us(occurred_at) - lag(epoch_us(occurred_at)) over (partition by session_key_id order by occurred_at, event_id) as gap_us
            from intermediate.int_events where is_counted and session_key_id in (select session_key_id from shared)
        ),

        numbered as (
            select *, sum(case when gap_us > $gap_us then 1 else 0 end) over (
                partition by session_key_id order by occurred_at, event_id rows unbounded preceding
            ) as session_number
            from gapped
        ),

        seen as (
            select session_key_id, session_number, node_id, min(occurred_at) as first_at, min({sighting_sql("occurred_at", "event_id")}) as first_sighting
            from (select session_key_id, session_number, occurred_at, event_id, unnest(node_ids) as node_id from numbered)
            where node_id in (select node_id from logins)
            group by session_key_id, session_number, node_id
        ),

        ranked as (
            select *, row_number() over (partition by session_key_id, session_number order by first_sighting, node_id) as place from seen
        )

        select one.session_key_id, cast(null as varchar) as order_id, least(one.node_id, other.node_id) as node_a,
            greatest(one.node_id, other.node_id) as node_b,
            '{TWO_LOGINS}' as kind, other.first_at as since, {sighted_event_sql("other.first_sighting")} as source_event_id
        from ranked one
        join ranked other using (session_key_id, session_number)
        where one.place < other.place and other.place <= {COMPARED}
    """


def order_evidence_sql(orders: str) -> str:
    """SQL: pairs of first identifiers of reports of one order id that contradict each other, of the orders that the condition names (over `order_id`).

    Two sources may disagree on tax and time, and one person may be reported twice: so both reports are one source's, and share no identifier.
    """
    return f"""
        with reports as (
            select order_id, source, event_id, occurred_at, value, currency, node_ids,
                row_number() over (partition by source, order_id order by occurred_at, event_id) as place
            from intermediate.int_events
            where is_counted and is_conversion_event and order_id is not null and len(node_ids) > 0 and {orders}
        )

        select cast(null as bigint) as session_key_id, order_id, least(one.node_ids[1], other.node_ids[1]) as node_a,
            greatest(one.node_ids[1], other.node_ids[1]) as node_b, '{ORDER_CONFLICT}' as kind, other.occurred_at as since, other.event_id as source_event_id
        from reports one
        join reports other using (source, order_id)
        where one.place < other.place and other.place <= {COMPARED} and not list_has_any(one.node_ids, other.node_ids)
            and (one.value is distinct from other.value or one.currency is distinct from other.currency
                or epoch_us(other.occurred_at) - epoch_us(one.occurred_at) > {_DAY_US})
    """


def rebuild_negatives(connection: Connection, *, gap_us: int) -> None:
    """Fills negative_evidence, operator_links and negative_edges, all empty. Needs temp table operator_words."""
    for query, parameters in ((session_evidence_sql("session_key_id is not null"), {"gap_us": gap_us}), (order_evidence_sql("true"), None)):
        connection.execute(f"insert into identity.negative_evidence select {_EVIDENCE} from ({query})", parameters)
    _state_words(connection)


def merge_negatives(connection: Connection, *, gap_us: int) -> None:
    """Brings the same up to date with the pending events. Needs the temp tables of `read_pending` and temp table operator_words; adds to seed_nodes.

    Leaves temp tables changed_negatives (node_a, node_b, kind) and changed_words (node_a, node_b): what is not as it was.
    """
    pending = "(from temp.pending_now {0} union all by name from temp.pending_counted {0} union all by name from temp.pending_before {0})"
    connection.execute(
        f"""
        create or replace temp table judged_keys as
        select distinct session_key_id from {pending.format("select session_key_id")} where session_key_id is not null
        """
    )
    connection.execute(
        f"create or replace temp table judged_orders as select distinct order_id from {pending.format('select order_id')} where order_id is not null"
    )
    connection.execute(
        """
        delete from identity.negative_evidence
        where session_key_id in (select session_key_id from temp.judged_keys) or order_id in (select order_id from temp.judged_orders)
        """
    )
    keys, orders = "session_key_id in (select session_key_id from temp.judged_keys)", "order_id in (select order_id from temp.judged_orders)"
    for query, parameters in ((session_evidence_sql(keys), {"gap_us": gap_us}), (order_evidence_sql(orders), None)):
        connection.execute(f"insert into identity.negative_evidence select {_EVIDENCE} from ({query})", parameters)
    connection.execute("create or replace temp table negatives_before as from identity.negative_edges")
    connection.execute("create or replace temp table links_before as from identity.operator_links")
    _state_words(connection)
    for name, before, columns in (("changed_negatives", "negative_edges", "node_a, node_b, kind"), ("changed_words", "operator_links", "node_a, node_b")):
        old = "negatives_before" if before == "negative_edges" else "links_before"
        connection.execute(
            f"""
            create or replace temp table {name} as
            select distinct {columns} from (
                (from identity.{before} except from temp.{old}) union all (from temp.{old} except from identity.{before})
            )
            """
        )
    connection.execute(
        """
        insert into temp.seed_nodes
        select node_id from (
            select unnest([node_a, node_b]) as node_id from temp.changed_negatives union select unnest([node_a, node_b]) from temp.changed_words
        )
        where node_id not in (select node_id from temp.seed_nodes)
        """
    )


def _state_words(connection: Connection) -> None:
    """Makes operator_links, negative_edges and the edges of merges anew: few rows, of few pairs. Of words on one pair the latest stands until the next."""
    connection.execute(
        """
        create or replace temp table word_spells as
        select node_a, node_b, word, occurred_at as since, lead(occurred_at) over pair as until, event_id
        from temp.operator_words
        window pair as (partition by node_a, node_b order by occurred_at, ordinal, event_id)
        qualify until is null or since < until
        """
    )
    connection.execute("delete from identity.operator_links")
    connection.execute(
        f"insert into identity.operator_links select node_a, node_b, since, until, event_id from temp.word_spells where word = '{OPERATOR_MERGE}'"
    )
    connection.execute("delete from identity.negative_edges")
    connection.execute(
        f"""
        insert into identity.negative_edges
        select node_a, node_b, kind, min(since), null, {sighted_event_sql("min(sighting)")}
        from (select *, {sighting_sql("since", "source_event_id")} as sighting from identity.negative_evidence)
        where node_a <> node_b
        group by node_a, node_b, kind
        union all
        select node_a, node_b, word, since, until, event_id from temp.word_spells where word = '{OPERATOR_SPLIT}'
        """
    )
    connection.execute(f"delete from identity.edges where evidence_kind = '{OPERATOR_MERGE}'")
    connection.execute(
        f"""
        insert into identity.edges
        select node_a, node_b, '{OPERATOR_MERGE}', min(in_force_from), max(in_force_from), count(*), {sighted_event_sql("min(sighting)")},
            {sighted_event_sql("max(sighting)")}, {OPERATOR_PROBABILITY}, 0
        from (select *, {sighting_sql("in_force_from", "event_id")} as sighting from identity.operator_links)
        group by node_a, node_b
        """
    )
