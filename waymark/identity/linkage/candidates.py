"""Which pairs are compared at all: those that share a key which few share, as known then."""

from __future__ import annotations

BLOCK_LIMIT = 60  # nodes: a key of more is common, and whoever is one person shares a rarer one as well
_KEY = "rule, key_1, key_2"
_FOREVER = "'infinity'::timestamp"


def common_sql(keys: str, limit: int) -> str:
    """SELECT of the keys that more than `limit` nodes ever held, with common_from: the instant at which one too many came to hold it.

    keys: a relation of `comparisons.keys_sql`. As known at T a key is common where common_from < T. It never is rare again: who held it once stays counted.
    """
    return f"""
        with holders as (select {_KEY}, node_id, min(valid_from) as held_from from {keys} group by {_KEY}, node_id),
        counted as (select {_KEY} from holders group by {_KEY} having count(*) > {limit})
        select {_KEY}, held_from as common_from from holders semi join counted using ({_KEY})
        qualify row_number() over (partition by {_KEY} order by held_from) = {limit + 1}
    """


def known_pairs_sql(keys: str, common: str, touched: str | None = None) -> str:
    """SELECT of pairs of records (node_a, since_a, node_b, since_b; node_a < node_b) that share a key which is not common, with the time of it.

    keys, common: relations of `comparisons.keys_sql` and `common_sql`. since_a, since_b: valid_from of each record. (valid_from, valid_to], NULL for now: while
    both records hold and some key of both is not common yet, so what comes later changes no earlier pair. touched: a relation of node_ids, of which each pair
    must have one.
    """
    of_touched = f"semi join (select {_KEY} from {keys} where node_id in (select node_id from {touched})) using ({_KEY})" if touched else ""
    is_touched = f"and (a.node_id in (select node_id from {touched}) or b.node_id in (select node_id from {touched}))" if touched else ""
    return f"""
        with held as (
            select {_KEY}, node_id, valid_from, least(coalesce(valid_to, {_FOREVER}), coalesce(common_from, {_FOREVER})) as valid_to
            from (select * from {keys} {of_touched}) left join {common} using ({_KEY})
            where valid_from < coalesce(common_from, {_FOREVER})
        )
        select a.node_id as node_a, a.valid_from as since_a, b.node_id as node_b, b.valid_from as since_b,
            greatest(a.valid_from, b.valid_from) as valid_from, nullif(max(least(a.valid_to, b.valid_to)), {_FOREVER}) as valid_to
        from held a join held b on a.rule = b.rule and a.key_1 = b.key_1 and a.key_2 = b.key_2 and a.node_id < b.node_id
        where a.valid_from < b.valid_to and b.valid_from < a.valid_to {is_touched}
        group by a.node_id, a.valid_from, b.node_id, b.valid_from
    """


def pairs_sql(keys: str, wide: str, limit: int) -> str:
    """SELECT of distinct pairs (record_l, record_r) whose nodes share a key that at most `limit` nodes have, and whose times overlap; node_l < node_r.

    Since when a key was held has no say here: this is for estimations, which are of the whole. keys: a relation of `comparisons.keys_sql`; wide: records
    with `record, node_id, valid_from, valid_to`.
    """
    return f"""
        with holders as (select distinct {_KEY}, node_id from {keys}),
        usable as (select {_KEY} from holders group by {_KEY} having count(*) between 2 and {limit}),
        members as (select {_KEY}, node_id from holders semi join usable using ({_KEY})),
        pairs as (
            select distinct a.node_id as node_a, b.node_id as node_b
            from members a join members b on a.rule = b.rule and a.key_1 = b.key_1 and a.key_2 = b.key_2 and a.node_id < b.node_id
        )
        select l.record as record_l, r.record as record_r, node_a, node_b, greatest(l.valid_from, r.valid_from) as valid_from,
            nullif(least(coalesce(l.valid_to, {_FOREVER}), coalesce(r.valid_to, {_FOREVER})), {_FOREVER}) as valid_to
        from pairs join {wide} l on l.node_id = node_a join {wide} r on r.node_id = node_b
        where l.valid_from < coalesce(r.valid_to, {_FOREVER}) and r.valid_from < coalesce(l.valid_to, {_FOREVER})
    """
