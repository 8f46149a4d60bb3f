"""Probable links in the graph: of those that `linkage` gives, the ones that are sure enough for analysis."""

from __future__ import annotations

from collections.abc import Callable

from waymark.core.warehouse import Connection, rows
from waymark.identity.evidence import sighted_event_sql, sighting_sql
from waymark.identity.linkage.links import LINKS, MOVED, SEEN, prepare_links
from waymark.identity.linkage.records import FACTS
from waymark.identity.probabilities import PROBABLE
from waymark.identity.tables import drop_temporary

# Temporary: pairs whose links are what they were, and whose edges tell of other events.
RETOLD = "retold_links"
# Brings identity.probable_links up to date in the transaction; True: with the pending events alone, naming the pairs that moved in MOVED.
Link = Callable[[Connection, bool], object]


def rebuild_probable(connection: Connection, link: Link | None, *, threshold: float) -> None:
    """Makes probable links anew, and adds those in force to identity.edges, which has none."""
    prepare_links(connection, anew=True)
    if link:
        link(connection, False)
    _add_edges(connection, threshold, "true")


def merge_probable(connection: Connection, link: Link | None, *, threshold: float) -> None:
    """Brings the same up to date; adds to seed_nodes.

    Leaves temp tables MOVED (node_a, node_b): pairs whose links are not what they were; and RETOLD (node_a, node_b): of the others, those whose edges are not.
    """
    prepare_links(connection, anew=False)
    connection.execute(f"create or replace temp table {MOVED} (node_a BIGINT, node_b BIGINT)")
    connection.execute(f"create or replace temp table {SEEN} (node_id BIGINT)")
    if link:
        link(connection, True)
    _restate_edges(connection, threshold)
    # A link between identifiers that were not there, or were over-shared, comes into force when they are or no longer are: both its ends are looked at.
    connection.execute(
        f"""
        insert into temp.seed_nodes
        select node_id from (
            select unnest([node_a, node_b]) as node_id from temp.{MOVED}
            union
            select unnest([node_a, node_b]) from {LINKS}
            where node_a in (select node_id from temp.seed_nodes) or node_b in (select node_id from temp.seed_nodes)
        )
        except select node_id from temp.seed_nodes
        """
    )


def _restate_edges(connection: Connection, threshold: float) -> None:
    """Edges of the pairs that moved, and of those of whom an event told something: it may be the first of several at a link's instant, and change no link."""
    connection.execute(f"create or replace temp table {RETOLD} (node_a BIGINT, node_b BIGINT)")
    if not rows(connection, f"select 1 from temp.{MOVED} union all select 1 from temp.{SEEN} limit 1"):
        return
    of_edges, of_links = (
        f"(exists (from temp.{MOVED} moved where moved.node_a = {of}.node_a and moved.node_b = {of}.node_b)"
        f" or {of}.node_a in (select node_id from temp.{SEEN}) or {of}.node_b in (select node_id from temp.{SEEN}))"
        for of in ("edges", "links")
    )
    standing = f"from identity.edges where evidence_kind = '{PROBABLE}' and {of_edges}"
    connection.execute(f"create or replace temp table edges_before as {standing}")
    connection.execute(f"delete {standing}")
    _add_edges(connection, threshold, of_links)
    connection.execute(f"""
        insert into temp.{RETOLD}
        select distinct node_a, node_b from ((from temp.edges_before except {standing}) union all ({standing} except from temp.edges_before))
        except from temp.{MOVED}
    """)
    drop_temporary(connection, ("edges_before",))


def _add_edges(connection: Connection, threshold: float, condition: str) -> None:
    """One edge a pair, whatever the number of its intervals; its events are the forms that made the first of them, and the last."""
    connection.execute(
        f"""
        insert into identity.edges
        with links as (select * from {LINKS} links where probability >= {threshold} and {condition}),

        told as (
            select links.node_a, links.node_b, links.valid_from, min(facts.event_id) as event_id
            from (select *, unnest([node_a, node_b]) as node_id from links) links
            join {FACTS} facts on facts.node_id = links.node_id and facts.occurred_at = links.valid_from
            group by links.node_a, links.node_b, links.valid_from
        )

        select node_a, node_b, '{PROBABLE}', min(valid_from), max(valid_from), count(*), {sighted_event_sql("min(sighting)")},
            {sighted_event_sql("max(sighting)")}, arg_max(probability, valid_from), max(estimation_version)
        from (select *, {sighting_sql("valid_from", "event_id")} as sighting from links left join told using (node_a, node_b, valid_from))
        group by node_a, node_b
        """
    )
