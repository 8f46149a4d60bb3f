"""Which pairs are compared at all: those that share a key which few share."""

from __future__ import annotations

BLOCK_LIMIT = 60  # nodes: a key of more is common, and whoever is one person shares a rarer one as well


def pairs_sql(keys: str, wide: str, limit: int, touched: str | None = None) -> str:
    """SELECT of distinct pairs (record_l, record_r) whose nodes share a key that at most `limit` nodes have, and whose times overlap; node_l < node_r.

    keys: a relation of `comparisons.keys_sql`; wide: records with `record, node_id, valid_from, valid_to`. touched: a relation of node_ids, of which each
    pair must have one.
    """
    sizes = f"select rule, key_1, key_2 from {keys} group by all having count(*) between 2 and {limit}"
    if touched:
        of_touched = f"select distinct rule, key_1, key_2 from {keys} where node_id in (select node_id from {touched})"
        sizes = f"select rule, key_1, key_2 from {keys} semi join ({of_touched}) using (rule, key_1, key_2) group by all having count(*) between 2 and {limit}"
    is_touched = f"where a.node_id in (select node_id from {touched}) or b.node_id in (select node_id from {touched})" if touched else ""
    return f"""
        with usable as ({sizes}),
        members as (select node_id, rule, key_1, key_2 from {keys} semi join usable using (rule, key_1, key_2)),
        pairs as (
            select distinct a.node_id as node_a, b.node_id as node_b
            from members a join members b on a.rule = b.rule and a.key_1 = b.key_1 and a.key_2 = b.key_2 and a.node_id < b.node_id {is_touched}
        )
        select l.record as record_l, r.record as record_r, node_a, node_b, greatest(l.valid_from, r.valid_from) as valid_from,
            nullif(least(coalesce(l.valid_to, 'infinity'::timestamp), coalesce(r.valid_to, 'infinity'::timestamp)), 'infinity'::timestamp) as valid_to
        from pairs join {wide} l on l.node_id = node_a join {wide} r on r.node_id = node_b
        where l.valid_from < coalesce(r.valid_to, 'infinity'::timestamp) and r.valid_from < coalesce(l.valid_to, 'infinity'::timestamp)
    """
