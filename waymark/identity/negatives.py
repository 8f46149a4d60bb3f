"""Negative evidence: pairs of identifiers that must not be one person's, and since when.

`two_logins_in_one_session`: two accounts logged in within one session of a device; `order_conflict`: one source reported one order id twice, for people with
nothing in common, at another value or more than a day apart; `operator_split`: somebody said so. Sessions and orders that pending events touch are judged
anew as a whole, so the result does not depend on the order of arrival; what a pair says is known from its later sighting on.
"""

from __future__ import annotations

from waymark.core.warehouse import Connection, rows
from waymark.identity.evidence import sighted_event_sql, sighting_sql
from waymark.identity.probabilities import OPERATOR_MERGE, OPERATOR_PROBABILITY, OPERATOR_SPLIT, ORDER_CONFLICT, TWO_LOGINS

# Of one session, and of one order id, only so many are compared pairwise, the first: a till's session has thousands of log-ins, an order id may be "0".
COMPARED = 21
_DAY_US = 86_400_000_000
_EVIDENCE = "session_key_id, order_id, node_a, node_b, kind, since, source_event_id"


def shared_keys_sql(condition: str) -> str:
    """SQL: session keys, among those of the condition (over `session_key_id`), at which more than one account was seen."""
    return f"""
        select session_key_id
        from (select session_key_id, unnest(node_ids) as node_id from intermediate.int_events where is_counted and {condition})
        where node_id in (select node_id from identity.nodes where identifier_type = 'user_id')
        group by session_key_id
        having min(node_id) < max(node_id)
    """


def session_evidence_sql(keys: str) -> str:
    """SQL: pairs of accounts of one session, of the session keys of a relation. Needs the parameter `gap_us`."""
    return f"""
        with shared as (select session_key_id from {keys}),

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
            where node_id in (select node_id from identity.nodes where identifier_type = 'user_id')
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
    _add_evidence(connection, "session_key_id is not null", "true", gap_us)
    _state_pairs(connection)
    _state_words(connection)


def merge_negatives(connection: Connection, *, gap_us: int) -> None:
    """Brings the same up to date with the pending events. Needs the temp tables of `read_pending` and temp table operator_words; adds to seed_nodes.

    Leaves temp tables changed_negatives (node_a, node_b, kind) and changed_words (node_a, node_b): what is not as it was.
    """
    for name, column in (("judged_keys", "session_key_id"), ("judged_orders", "order_id")):
        touched = " union ".join(f"select {column} from temp.{pending}" for pending in ("pending_now", "pending_counted", "pending_before"))
        connection.execute(f"create or replace temp table {name} as select {column} from ({touched}) where {column} is not null")
    connection.execute("create or replace temp table negatives_before as from identity.negative_edges")
    connection.execute("create or replace temp table links_before as from identity.operator_links")
    keys, orders = "session_key_id in (select session_key_id from temp.judged_keys)", "order_id in (select order_id from temp.judged_orders)"
    if rows(connection, f"select 1 from identity.negative_evidence where {keys} or {orders} limit 1"):
        connection.execute(f"delete from identity.negative_evidence where {keys} or {orders}")
    _add_evidence(connection, keys, orders, gap_us)
    _state_pairs(connection)
    _state_words(connection)
    for name, table, before, columns in (
        ("changed_negatives", "negative_edges", "negatives_before", "node_a, node_b, kind"),
        ("changed_words", "operator_links", "links_before", "node_a, node_b"),
    ):  # fmt: skip
        connection.execute(
            f"""
            create or replace temp table {name} as
            select distinct {columns} from ((from identity.{table} except from temp.{before}) union all (from temp.{before} except from identity.{table}))
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
    # A word on identifiers that were not there, or were over-shared, comes into force when they are or no longer are: both its ends are looked at.
    connection.execute(
        """
        insert into temp.seed_nodes
        select node_id from (
            select unnest([node_a, node_b]) as node_id from identity.operator_links
            where node_a in (select node_id from temp.seed_nodes) or node_b in (select node_id from temp.seed_nodes)
        )
        except select node_id from temp.seed_nodes
        """
    )


def _add_evidence(connection: Connection, keys: str, orders: str, gap_us: int) -> None:
    """Nearly no session has two accounts, and nearly no order contradicts itself: so what few have is asked of them alone."""
    connection.execute(f"create or replace temp table shared_keys as {shared_keys_sql(keys)}")
    if rows(connection, "select 1 from temp.shared_keys limit 1"):
        connection.execute(f"insert into identity.negative_evidence select {_EVIDENCE} from ({session_evidence_sql('temp.shared_keys')})", {"gap_us": gap_us})
    connection.execute(f"insert into identity.negative_evidence select {_EVIDENCE} from ({order_evidence_sql(orders)})")


def _state_pairs(connection: Connection) -> None:
    """Makes the negative edges that sessions and orders say anew: few rows."""
    connection.execute("delete from identity.negative_edges")
    connection.execute(
        f"""
        insert into identity.negative_edges
        select node_a, node_b, kind, min(since), null, {sighted_event_sql("min(sighting)")}
        from (select *, {sighting_sql("since", "source_event_id")} as sighting from identity.negative_evidence)
        where node_a <> node_b
        group by node_a, node_b, kind
        """
    )


def _state_words(connection: Connection) -> None:
    """Makes operator_links, their edges and the negative edges of splits anew. Of words on one pair the latest stands until the next."""
    if not rows(connection, "select 1 from temp.operator_words union all select 1 from identity.operator_links limit 1"):
        connection.execute("create or replace temp table word_spells as select *, occurred_at as since, occurred_at as until from temp.operator_words")
        return
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
    connection.execute(
        f"""
        insert into identity.negative_edges
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
