"""What persons who are to be erased left behind, beside their events: by which a scan looks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path

from waymark.core.digest import file_digest
from waymark.core.home import Home
from waymark.core.warehouse import Connection, has_table, rows
from waymark.ingestion.called import FileNames
from waymark.ingestion.erased import Erased
from waymark.ingestion.erasing import GOING, going_sql
from waymark.pipeline.steps import Run
from waymark.privacy.needles import Needles
from waymark.privacy.requests import Working
from waymark.privacy.text_search import TextSearch


def needles_of(working: Working) -> Needles:
    return Needles(frozenset(working.made), frozenset(working.texts), frozenset([*working.nodes, *working.keys]))


def search_of(connection: Connection, working: Working) -> TextSearch:
    """Looks in texts for what the last scan looks for where ids stand with their namespace."""
    return TextSearch(connection, needles_of(working).with_namespace)


def file_names(run: Run, working: Working, label: str = "") -> FileNames:
    """What tells files that are called after the persons of a request. label: the request's id."""
    return FileNames(run.project, run.mappings, run.secret, working.tombstones, needles=needles_of(working), label=label)


def of_others(connection: Connection, identifiers: Collection[tuple[str, str]], own: Collection[str]) -> set[str]:
    """Which of these ids, each of its own source, somebody else has in another source. identifiers: all (type, value) that are the persons'."""
    if not has_table(connection, "identity.nodes"):
        return set()
    found = rows(connection, """
        select n.identifier_type, n.identifier_value, o.own from (select unnest($own::varchar[]) as own) o
        join identity.nodes n on o.own = substr(n.identifier_value, strpos(n.identifier_value, ':') + 1)
        where n.identifier_type in ('anonymous_id', 'user_id')
    """, {"own": sorted(own)})  # fmt: skip
    return {str(text) for kind, value, text in found if (kind, value) not in identifiers}


def with_older(connection: Connection, customers: Collection[str]) -> set[str]:
    """These customer ids, and those that the log of what happened to customers leads to from them and that are nobody's today: the identifiers that they were
    made from may have left the lake."""
    known = set(customers)
    while all(has_table(connection, f"identity.{table}") for table in ("restatements", "memberships", "nodes")):
        found = rows(connection, """
            with theirs as (select unnest($customers::varchar[]) as customer_id)
            select unnest([customer_before, customer_after]) as customer_id from identity.restatements
            where customer_before in (select customer_id from theirs) or customer_after in (select customer_id from theirs)
            except select customer_id from theirs
            except select customer_id from identity.memberships
            except select node_customer_id from identity.nodes
        """, {"customers": sorted(known)})  # fmt: skip
        more = {str(customer) for (customer,) in found if customer}
        if not more:
            break
        known |= more
    return known


def collect_events(connection: Connection, sources: Iterable[str], erased: Erased, words: Collection[str], search: TextSearch) -> int:
    """Makes the temp table erased_events (source, event_id, content_digest, occurred_at, is_whole) of what leaves the lake; how many events it has.

    is_whole: no content of the event stays, as one of somebody else's may, whose id it is then. words: ids of operators' words about them. search: see
    `going_sql`.
    """
    columns = "source varchar, event_id varchar, content_digest varchar, occurred_at timestamp, is_whole boolean"
    connection.execute(f"create or replace temp table erased_events ({columns})")
    for source in sources:
        going_sql(connection, source, erased, words, search)
        stays = f"(event_id, content_digest) not in (select event_id, content_digest from {GOING})"
        staying = f"select event_id from raw.event_conflicts where source = ? and {stays}"
        told = f"select ?, event_id, content_digest, occurred_at, event_id not in ({staying}) from {GOING}"
        connection.execute(f"insert into erased_events {told}", [source, source])
    connection.execute(f"drop table if exists {GOING}")
    erased.forget()
    return int(str(rows(connection, "select count(distinct event_id) from erased_events")[0][0]))


def ids_in_marts(connection: Connection, customers: Collection[str], events: str) -> set[str]:
    """Ids of what the marts hold of these customers, and will hold no longer once these events (a SELECT of event_ids) are gone.

    A session and a conversion are called after their first event, whoever they are of: what begins with somebody else's event keeps its id, and is no trace.
    """
    there = {str(table) for (table,) in rows(connection, "select table_name from information_schema.tables where table_schema = 'marts'")}
    theirs = "customer_id in (select unnest($customers::varchar[]))"
    begun = f"""
        select session_id from marts.fct_events where session_id in (select session_id from marts.fct_sessions where {theirs})
        group by session_id having min_by(event_id, (occurred_at, event_id)) in ({events})"""
    told = {
        "fct_sessions": begun,
        "fct_conversions": f"select conversion_id from marts.fct_conversions where {theirs} and event_id in ({events})",
        "fct_journeys": f"select journey_id from marts.fct_journeys where {theirs}",  # has the customer in it
    }
    asked = " union all ".join(sql for table, sql in told.items() if table in there)
    return {str(found) for (found,) in rows(connection, asked, {"customers": list(customers)}) if found} if asked else set()


def landed_since(home: Home, instant: str, digests: Collection[str]) -> list[Path]:
    """Files that came into the landing folder, or were written there by somebody else, after an instant (UTC, as text; "": none counts). digests: of files that
    Waymark wrote there itself.

    Nothing has taken them in. What of them is from before the erasure the next run refuses, and who comes back with the rest is a new person.
    """
    found = []
    for path in sorted(home.landing.rglob("*")) if instant else []:
        changed = datetime.fromtimestamp(path.lstat().st_ctime, UTC).replace(tzinfo=None)
        if changed > datetime.fromisoformat(instant) and path.is_file() and file_digest(path) not in digests:
            found.append(path)
    return found
