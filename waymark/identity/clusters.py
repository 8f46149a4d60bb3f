"""Clusters, customer ids and their history: from nodes and edges to `clusters`, `memberships` and `membership_history`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

from waymark.core.warehouse import Connection
from waymark.identity.confidence import METHODS, NEVER, Doubles, Integers
from waymark.identity.evidence import IS_OBSERVED
from waymark.identity.history import Constraints, Evidence, LinkGraph, linked_clusters, membership_intervals, weigh_intervals
from waymark.identity.linkage.links import LINKS
from waymark.identity.probabilities import OPERATOR_PROBABILITY, OPERATOR_SPLIT
from waymark.identity.tables import drop_temporary


@dataclass(frozen=True)
class JoinRules:
    """threshold: a probable link of less joins nobody; one_account: what two accounts of one source share joins them not (`constrained`)."""

    threshold: float
    one_account: bool


_HISTORY = "node_id, customer_id, valid_from, valid_to, method, confidence, weakest_estimated_link"


def find_affected(connection: Connection) -> None:
    """Makes temp tables stale_clusters (node_id, cluster_id: the clusters that the seeds were in, whole) and affected_nodes: the seeds and all of these.

    A new link joins only seeds, so these hold every cluster, old or new, that has a changed node or link.
    """
    connection.execute(
        """
        create or replace temp table stale_clusters as
        select node_id, cluster_id from identity.clusters
        where cluster_id in (select cluster_id from identity.clusters where node_id in (select node_id from temp.seed_nodes))
        """
    )
    connection.execute(
        "create or replace temp table affected_nodes as select node_id from temp.seed_nodes union select node_id from temp.stale_clusters"
    )


def rebuild_memberships(connection: Connection, rules: JoinRules) -> None:
    """Fills clusters, membership_history and memberships, all empty, for all nodes."""
    _compute_history(connection, rules, affected_only=False)
    connection.execute("insert into identity.clusters select node_id, cluster_id from temp.fresh_clusters")
    connection.execute(f"insert into identity.membership_history select {_HISTORY} from temp.fresh_history")
    connection.execute("insert into identity.memberships select node_id, customer_id from temp.fresh_history where valid_to is null")
    drop_temporary(connection, ("fresh_clusters", "fresh_history"))


def restate_memberships(connection: Connection, rules: JoinRules) -> None:
    """Brings clusters, membership_history and memberships up to date for the affected nodes, writing only what differs.

    Needs the temp tables of `find_affected`. Leaves temp tables: fresh_clusters (as stale_clusters, now); changed_history (node_id, customer_id: each customer
    id in the old or new history of a node whose history changed) and changed_memberships (node_id, customer_before, customer_now: NULL = had none, has none).
    """
    _compute_history(connection, rules, affected_only=True)
    connection.execute(
        """
        delete from identity.clusters
        where node_id in (select node_id from temp.stale_clusters anti join temp.fresh_clusters using (node_id, cluster_id))
        """
    )
    connection.execute("insert into identity.clusters from temp.fresh_clusters anti join temp.stale_clusters using (node_id, cluster_id)")
    connection.execute(
        f"""
        create or replace temp table stale_history as
        select {_HISTORY} from identity.membership_history where node_id in (select node_id from temp.affected_nodes)
        """
    )
    # Intervals of a node do not overlap, so a node and a beginning name one: a join finds what differs for a third of what two EXCEPTs cost.
    connection.execute(
        """
        create or replace temp table changed_nodes as
        select distinct node_id
        from temp.fresh_history fresh full join temp.stale_history stale using (node_id, valid_from)
        where (fresh.customer_id, fresh.valid_to, fresh.method, fresh.confidence, fresh.weakest_estimated_link)
            is distinct from (stale.customer_id, stale.valid_to, stale.method, stale.confidence, stale.weakest_estimated_link)
        """
    )
    connection.execute(
        """
        create or replace temp table changed_history as
        select distinct node_id, customer_id from (from temp.fresh_history union all from temp.stale_history)
        where node_id in (select node_id from temp.changed_nodes)
        """
    )
    connection.execute(
        """
        create or replace temp table changed_memberships as
        select node_id, before.customer_id as customer_before, now.customer_id as customer_now
        from (from temp.stale_history where valid_to is null) before
        full join (from temp.fresh_history where valid_to is null) now using (node_id)
        where before.customer_id is distinct from now.customer_id
        """
    )
    connection.execute("delete from identity.membership_history where node_id in (select node_id from temp.changed_nodes)")
    connection.execute(
        f"insert into identity.membership_history select {_HISTORY} from temp.fresh_history where node_id in (select node_id from temp.changed_nodes)"
    )
    connection.execute("delete from identity.memberships where node_id in (select node_id from temp.changed_memberships)")
    connection.execute("insert into identity.memberships select node_id, customer_now from temp.changed_memberships where customer_now is not null")


def _compute_history(connection: Connection, rules: JoinRules, *, affected_only: bool) -> None:
    """Makes temp tables fresh_clusters (node_id, cluster_id) and fresh_history (as membership_history), of all nodes or of the affected ones.

    Nodes that were never linked are settled in SQL; NumPy sees only the others, as positions and microseconds.
    """
    affected, nodes = ("{} in (select node_id from temp.affected_nodes)", "temp.settled_nodes") if affected_only else ("true", "identity.nodes")
    if affected_only:  # read once: the table has every identifier that there ever was
        columns = "node_id, node_customer_id, first_seen_at, identifier_type, identifier_value"
        connection.execute(f"create or replace temp table settled_nodes as select {columns} from identity.nodes where {affected.format('node_id')}")
    connection.execute(
        f"""
        create or replace temp table links as
        with asserted as (
            select links.node_a, links.node_b, greatest(links.in_force_from, a.first_seen_at, b.first_seen_at) as first_seen_at, links.in_force_until
            from identity.operator_links links
            join {nodes} a on a.node_id = links.node_a
            join {nodes} b on b.node_id = links.node_b
            where {affected.format("links.node_a")}
        ),

        supposed as (
            select links.node_a, links.node_b, greatest(links.valid_from, a.first_seen_at, b.first_seen_at) as first_seen_at,
                links.valid_to as in_force_until, links.probability, links.estimation_version
            from {LINKS} links
            join {nodes} a on a.node_id = links.node_a
            join {nodes} b on b.node_id = links.node_b
            where links.probability >= {rules.threshold} and {affected.format("links.node_a")}
        ),

        found as (
            select node_a, node_b, first_seen_at, cast(null as timestamp) as in_force_until, probability, estimation_version, false as is_operators
            from identity.edges
            where {IS_OBSERVED} and {affected.format("node_a")}
            union all
            select node_a, node_b, first_seen_at, in_force_until, probability, estimation_version, false
            from supposed
            where in_force_until is null or first_seen_at < in_force_until
            union all
            select node_a, node_b, first_seen_at, in_force_until, {OPERATOR_PROBABILITY}, 0, true
            from asserted
            where in_force_until is null or first_seen_at < in_force_until
        )

        select found.*
        from found
        left join identity.over_shared_since a on a.node_id = found.node_a
        left join identity.over_shared_since b on b.node_id = found.node_b
        where (a.over_shared_from is null or found.first_seen_at < a.over_shared_from)
            and (b.over_shared_from is null or found.first_seen_at < b.over_shared_from)
        """
    )
    connection.execute(
        f"""
        create or replace temp table linked_nodes as
        select node_id, node_customer_id, first_seen_at, over_shared_from,
            case when identifier_type = 'user_id' then split_part(identifier_value, ':', 1) end as account_of,
            row_number() over (order by first_seen_at, identifier_type, identifier_value, node_id) - 1 as position
        from {nodes} left join identity.over_shared_since using (node_id)
        where node_id in (select node_a from temp.links union all select node_b from temp.links)
        """
    )
    _compute_linked_history(connection, rules, nodes)
    connection.execute(
        f"""
        insert into temp.fresh_history
        select node_id, node_customer_id, first_seen_at, over_shared_from, '{METHODS[0]}', 1.0, null
        from {nodes} left join identity.over_shared_since using (node_id)
        where node_id not in (select node_id from temp.linked_nodes) and (over_shared_from is null or first_seen_at < over_shared_from)
        """
    )
    drop_temporary(connection, ("links", "linked_nodes", "settled_nodes"))


def _compute_linked_history(connection: Connection, rules: JoinRules, all_nodes: str) -> None:
    nodes = connection.execute(
        """
        select node_id, epoch_us(first_seen_at) as first_seen, coalesce(epoch_us(over_shared_from), $never) as dropped,
            account_of is not null as is_account
        from temp.linked_nodes order by position
        """,
        {"never": NEVER},
    ).fetchnumpy()
    links = connection.execute(
        """
        select a.position as link_a, b.position as link_b, epoch_us(links.first_seen_at) as link_first,
            coalesce(epoch_us(links.in_force_until), $never) as link_until, links.probability, links.is_operators,
            links.estimation_version > 0 as is_estimated
        from temp.links
        join temp.linked_nodes a on a.node_id = links.node_a
        join temp.linked_nodes b on b.node_id = links.node_b
        """,
        {"never": NEVER},
    ).fetchnumpy()
    graph = LinkGraph(
        first_seen=np.asarray(nodes["first_seen"], dtype=np.int64),
        dropped=np.asarray(nodes["dropped"], dtype=np.int64),
        link_a=np.asarray(links["link_a"], dtype=np.int64),
        link_b=np.asarray(links["link_b"], dtype=np.int64),
        link_first=np.asarray(links["link_first"], dtype=np.int64),
        evidence=Evidence(
            probability=np.asarray(links["probability"], dtype=np.float64),
            is_operators=np.asarray(links["is_operators"], dtype=np.bool_),
            is_estimated=np.asarray(links["is_estimated"], dtype=np.bool_),
            is_account=np.asarray(nodes["is_account"], dtype=np.bool_),
        ),
    )
    cluster = linked_clusters(graph)
    until = np.asarray(links["link_until"], dtype=np.int64)
    graph = replace(graph, constraints=_constraints(connection, rules, graph, cluster, until, all_nodes=all_nodes))
    intervals, sure = weigh_intervals(graph, cluster, membership_intervals(graph, cluster))
    node_id = np.asarray(nodes["node_id"], dtype=np.int64)
    least = np.full(int(cluster.max()) + 1 if len(cluster) else 0, NEVER, dtype=np.int64)
    np.minimum.at(least, cluster, node_id)
    connection.register("waymark_clusters", _table(node_id=node_id, cluster_id=least[cluster]))
    connection.register(
        "waymark_intervals",
        _table(node_id=node_id[intervals.node], label=intervals.label, valid_from=intervals.valid_from, valid_to=intervals.valid_to)
        .append_column("method", pa.array(METHODS).take(_integers(sure.method)))
        .append_column("confidence", _doubles(sure.confidence))
        .append_column("weakest", _doubles(sure.weakest)),
    )
    try:
        connection.execute("create or replace temp table fresh_clusters as select node_id, cluster_id from waymark_clusters")
        connection.execute(
            """
            create or replace temp table fresh_history as
            select intervals.node_id, earliest.node_customer_id as customer_id, make_timestamp(intervals.valid_from) as valid_from,
                case when intervals.valid_to <> $never then make_timestamp(intervals.valid_to) end as valid_to, intervals.method, intervals.confidence,
                case when intervals.weakest <= 1 then intervals.weakest end as weakest_estimated_link
            from waymark_intervals intervals
            join temp.linked_nodes earliest on earliest.position = intervals.label
            """,
            {"never": NEVER},
        )
    finally:
        connection.unregister("waymark_clusters")
        connection.unregister("waymark_intervals")


def _constraints(
    connection: Connection, rules: JoinRules, graph: LinkGraph, cluster: Integers, link_until: Integers, *, all_nodes: str
) -> Constraints | None:
    """What forbids or ends links; None where nothing does. Ranks are given to the nodes of the clusters concerned."""
    pairs = connection.execute(
        f"""
        select a.position as pair_a, b.position as pair_b, epoch_us(negative.since) as pair_since,
            coalesce(epoch_us(negative.until), $never) as pair_until, negative.kind = '{OPERATOR_SPLIT}' as is_operators
        from identity.negative_edges negative
        join temp.linked_nodes a on a.node_id = negative.node_a
        join temp.linked_nodes b on b.node_id = negative.node_b
        order by all
        """,
        {"never": NEVER},
    ).fetchnumpy()
    pair_a, pair_b, since, until = (np.asarray(pairs[name], dtype=np.int64) for name in ("pair_a", "pair_b", "pair_since", "pair_until"))
    together = cluster[pair_a] == cluster[pair_b]
    account_of = _accounts(connection, cluster) if rules.one_account else np.zeros(len(cluster), dtype=np.int64)
    concerned = np.unique(np.concatenate((cluster[pair_a[together]], cluster[graph.link_a[link_until != NEVER]], cluster[np.flatnonzero(account_of)])))
    if not len(concerned):
        return None
    positions = np.flatnonzero(np.isin(cluster, concerned))
    connection.register("waymark_positions", _table(position=positions))
    try:
        ranks = connection.execute(
            f"""
            select position, row_number() over (order by identifier_type, identifier_value, node_id) as rank
            from waymark_positions join temp.linked_nodes using (position) join {all_nodes} using (node_id)
            """
        ).fetchnumpy()
    finally:
        connection.unregister("waymark_positions")
    rank = np.zeros(len(cluster), dtype=np.int64)
    rank[np.asarray(ranks["position"], dtype=np.int64)] = ranks["rank"]
    said = np.asarray(pairs["is_operators"], dtype=np.bool_)
    return Constraints(rank, link_until, pair_a[together], pair_b[together], since[together], until[together], said[together], account_of)


def _accounts(connection: Connection, cluster: Integers) -> Integers:
    """Of each node the number of the source whose account it is, where its cluster has several of one source; else 0."""
    found = connection.execute(
        """
        select position, dense_rank() over (order by account_of) as source from temp.linked_nodes where account_of is not null
        """
    ).fetchnumpy()
    position, source = np.asarray(found["position"], dtype=np.int64), np.asarray(found["source"], dtype=np.int64)
    _, place, counts = np.unique(cluster[position] * (int(source.max(initial=0)) + 1) + source, return_inverse=True, return_counts=True)
    is_one_of_several = counts[place] > 1
    account_of = np.zeros(len(cluster), dtype=np.int64)
    account_of[position[is_one_of_several]] = source[is_one_of_several]
    return account_of


def _table(**columns: Integers) -> pa.Table:
    """An Arrow table of 64-bit columns over the arrays' own memory."""
    return pa.table({name: _integers(values) for name, values in columns.items()})


def _integers(values: Integers) -> pa.Array:
    """`pa.array` would import pandas first for an array of NumPy, where it is installed: a second of nothing."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _doubles(values: Doubles) -> pa.Array:
    return pa.Array.from_buffers(pa.float64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
