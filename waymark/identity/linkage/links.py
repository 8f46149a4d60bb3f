"""Schema `identity`: who may be whom, brought up to date with the events; an increment gives what a rebuild would."""

from __future__ import annotations

from dataclasses import dataclass

from waymark.core.warehouse import Connection, has_table, rows
from waymark.identity.linkage.candidates import common_sql, known_pairs_sql
from waymark.identity.linkage.comparisons import keys_sql, wide_sql
from waymark.identity.linkage.estimation import Estimation
from waymark.identity.linkage.records import FACTS, RECORDS, prepare_records, records_sql
from waymark.identity.linkage.scoring import FREQUENCIES, prepare_frequencies, scored_sql, vectors_sql

LINKS, KEYS, COMMON, STATE = "identity.probable_links", "identity.comparable_keys", "identity.common_keys", "identity.linkage_state"
TABLES = {
    # One row per pair of identifiers and interval (valid_from, valid_to], valid_to NULL for now, with at least LEAST_PROBABILITY; node_a < node_b. It ends
    # where a record changes, or where the last key of both becomes common.
    LINKS: "node_a BIGINT, node_b BIGINT, probability DOUBLE, estimation_version INTEGER, valid_from TIMESTAMP, valid_to TIMESTAMP",
    # One row per record (identifier and interval) and key by which candidates are found.
    KEYS: "rule SMALLINT, key_1 BIGINT, key_2 BIGINT, node_id BIGINT, valid_from TIMESTAMP, valid_to TIMESTAMP",
    # One row per key that too many identifiers hold, with the instant since which they do: from then on it finds nobody.
    COMMON: "rule SMALLINT, key_1 BIGINT, key_2 BIGINT, common_from TIMESTAMP",
    # One row: the estimation that the links are of.
    STATE: "estimation_version INTEGER",
}
LEAST_PROBABILITY = 0.5
# Temporary, where they are there before: the pairs whose links are not what they were; the identifiers of whom an event told something, or does no longer.
MOVED, SEEN = "moved_links", "told_nodes"
_TEMPORARY = (
    "linkage_facts", "linkage_seen", "linkage_told", "linkage_changed", "linkage_keys", "linkage_concerned", "linkage_common", "linkage_crossed",
    "linkage_touched", "linkage_pairs", "linkage_wide", FREQUENCIES, "linkage_before",
)  # fmt: skip


@dataclass(frozen=True)
class LinkageReport:
    """records: of now; links: of now; compared: pairs that were scored; touched: identifiers whose pairs were."""

    records: int
    links: int
    compared: int
    touched: int


def prepare_links(connection: Connection, *, anew: bool) -> None:
    """Makes the tables, empty; anew: also where they are there."""
    prepare_records(connection, anew=anew)
    for name, columns in TABLES.items():
        connection.execute(f"create {'or replace table' if anew else 'table if not exists'} {name} ({columns})")


def link_records(connection: Connection, estimation: Estimation, facts: str, *, touched_events: str | None = None) -> LinkageReport:
    """Brings the tables up to date, in the caller's transaction; repeating it changes nothing. Adds to temp tables MOVED and SEEN where they are there.

    facts: SELECT of `records.facts_sql`. touched_events: a relation of event_ids that may have come, gone or changed since the last call; None, or another
    estimation than the last call's: all are made anew.
    """
    prepare_links(connection, anew=False)
    compared = touched = 0
    if touched_events is None or not is_linked_by(connection, estimation):
        compared, touched = _link_anew(connection, estimation, facts)
    elif rows(connection, f"select 1 from {touched_events} limit 1"):
        compared, touched = _link_touched(connection, estimation, facts, touched_events)
    records, links = (_count(connection, f"select count(*) from {table} where valid_to is null") for table in (RECORDS, LINKS))
    report = LinkageReport(records, links, compared, touched)
    for name in _TEMPORARY:
        connection.execute(f"drop table if exists temp.{name}")
    return report


def _link_anew(connection: Connection, estimation: Estimation, facts: str) -> tuple[int, int]:
    """Pairs that were compared, and identifiers."""
    connection.execute(f"create or replace temp table linkage_before as from {LINKS}")
    prepare_links(connection, anew=True)
    connection.execute(f"insert into {FACTS} {facts}")
    connection.execute(f"insert into {RECORDS} {records_sql(FACTS)}")
    _make_wide(connection, estimation, RECORDS)
    connection.execute(f"insert into {KEYS} by name {keys_sql('temp.linkage_wide', [told.part for told in estimation.parts])}")
    connection.execute(f"insert into {COMMON} by name {common_sql(KEYS, estimation.block_limit)}")
    connection.execute(f"insert into {STATE} values ({estimation.number})")
    connection.execute(f"create or replace temp table linkage_pairs as {known_pairs_sql(KEYS, COMMON)}")
    compared = _add_links(connection, estimation)
    _name_moved(connection, LINKS)
    return compared, _count(connection, f"select count(distinct node_id) from {RECORDS}")


def _link_touched(connection: Connection, estimation: Estimation, facts: str, touched_events: str) -> tuple[int, int]:
    """The same, of the touched identifiers. Of all others nothing is read but the records of those that a touched one is compared with."""
    _restate_records(connection, facts, touched_events)
    if not rows(connection, "select 1 from temp.linkage_changed limit 1"):
        return 0, 0
    _restate_keys(connection, estimation)
    touched = "(select node_id from temp.linkage_touched)"
    of_touched = f"(from {LINKS} where node_a in {touched} or node_b in {touched})"
    connection.execute(f"create or replace temp table linkage_before as {of_touched}")
    connection.execute(f"delete from {LINKS} where node_a in {touched} or node_b in {touched}")
    connection.execute(f"create or replace temp table linkage_pairs as {known_pairs_sql(KEYS, COMMON, 'temp.linkage_touched')}")
    of_pairs = "select node_a from temp.linkage_pairs union all select node_b from temp.linkage_pairs"
    _make_wide(connection, estimation, f"(select * from {RECORDS} where node_id in ({of_pairs}))")
    compared = _add_links(connection, estimation)
    _name_moved(connection, of_touched)
    return compared, _count(connection, "select count(*) from temp.linkage_touched")


def _name_moved(connection: Connection, now: str) -> None:
    if _is_asked(connection, MOVED):
        connection.execute(f"""
            insert into temp.{MOVED}
            select distinct node_a, node_b from ((from {now} except from temp.linkage_before) union all (from temp.linkage_before except from {now}))
            except from temp.{MOVED}
        """)


def remove_links(connection: Connection) -> None:
    """Empties the tables, in the caller's transaction: nothing is compared, or nothing was estimated. Adds to temp table MOVED where it is there."""
    prepare_links(connection, anew=False)
    if not rows(connection, f"select 1 from {STATE} union all select 1 from {LINKS} limit 1"):
        return
    if _is_asked(connection, MOVED):
        connection.execute(f"insert into temp.{MOVED} select distinct node_a, node_b from {LINKS} except from temp.{MOVED}")
    prepare_links(connection, anew=True)


def _is_asked(connection: Connection, table: str) -> bool:
    """Whether somebody wants to know what this temporary table is to tell."""
    return bool(rows(connection, "select 1 from duckdb_tables() where schema_name = 'main' and temporary and table_name = ?", [table]))


def is_linked_by(connection: Connection, estimation: Estimation) -> bool:
    """Whether the links that stand were made by this estimation."""
    return has_table(connection, STATE) and rows(connection, f"select estimation_version from {STATE}") == [(estimation.number,)]


def _make_wide(connection: Connection, estimation: Estimation, records: str) -> None:
    wide = wide_sql(records, [estimate.part for estimate in estimation.parts])
    connection.execute(f"create or replace temp table linkage_wide as select row_number() over () as record, * from ({wide})")


def _add_links(connection: Connection, estimation: Estimation) -> int:
    """Links of temp.linkage_pairs, whose records are in temp.linkage_wide. Gives the number of pairs."""
    prepare_frequencies(connection, estimation)
    pairs = """(
        select l.record as record_l, r.record as record_r, p.node_a, p.node_b, p.valid_from, p.valid_to from temp.linkage_pairs p
        join temp.linkage_wide l on l.node_id = p.node_a and l.valid_from = p.since_a
        join temp.linkage_wide r on r.node_id = p.node_b and r.valid_from = p.since_b
    )"""
    vectors = vectors_sql(pairs, "temp.linkage_wide", [estimate.part for estimate in estimation.parts])
    connection.execute(f"create or replace temp table linkage_told as {scored_sql(vectors, estimation)}")
    connection.execute(f"""
        insert into {LINKS}
        select node_a, node_b, probability, {estimation.number}, valid_from, valid_to from temp.linkage_told
        where probability >= {LEAST_PROBABILITY} order by node_a, node_b, valid_from
    """)
    return _count(connection, "select count(*) from temp.linkage_told")


def _restate_records(connection: Connection, facts: str, touched_events: str) -> None:
    """Facts of the touched events, records of the identifiers that these were or are about. temp.linkage_changed: whose records are others now."""
    events = f"(select event_id from {touched_events})"
    connection.execute(f"create or replace temp table linkage_facts as select * from ({facts}) where event_id in {events}")
    connection.execute(f"""
        create or replace temp table linkage_seen as
        select distinct node_id from {FACTS} where event_id in {events} union select node_id from temp.linkage_facts
    """)
    if _is_asked(connection, SEEN):
        connection.execute(f"insert into temp.{SEEN} from temp.linkage_seen except from temp.{SEEN}")
    connection.execute(f"delete from {FACTS} where event_id in {events}")
    connection.execute(f"insert into {FACTS} from temp.linkage_facts")
    of_seen = "node_id in (select node_id from temp.linkage_seen)"
    connection.execute(f"create or replace temp table linkage_told as {records_sql(f'(select * from {FACTS} where {of_seen})')}")
    connection.execute(f"""
        create or replace temp table linkage_changed as
        with before as (select * from {RECORDS} where {of_seen})
        select distinct node_id from ((from before except from temp.linkage_told) union all (from temp.linkage_told except from before))
    """)
    connection.execute(f"delete from {RECORDS} where node_id in (select node_id from temp.linkage_changed)")
    connection.execute(f"insert into {RECORDS} select * from temp.linkage_told where node_id in (select node_id from temp.linkage_changed)")


def _restate_keys(connection: Connection, estimation: Estimation) -> None:
    """Keys of the changed identifiers. temp.linkage_touched: these, and whoever held a key before it became common, where that instant is another now."""
    is_changed = "node_id in (select node_id from temp.linkage_changed)"
    _make_wide(connection, estimation, f"(select * from {RECORDS} where {is_changed})")
    connection.execute(f"create or replace temp table linkage_keys as {keys_sql('temp.linkage_wide', [told.part for told in estimation.parts])}")
    connection.execute(f"""
        create or replace temp table linkage_concerned as
        select rule, key_1, key_2 from {KEYS} where {is_changed} union select rule, key_1, key_2 from temp.linkage_keys
    """)
    connection.execute(f"delete from {KEYS} where {is_changed}")
    connection.execute(f"insert into {KEYS} by name select * from temp.linkage_keys")
    concerned = f"(select * from {KEYS} semi join temp.linkage_concerned using (rule, key_1, key_2))"
    connection.execute(f"create or replace temp table linkage_common as {common_sql(concerned, estimation.block_limit)}")
    connection.execute(f"""
        create or replace temp table linkage_crossed as
        select rule, key_1, key_2, greatest(coalesce(now.common_from, 'infinity'), coalesce(before.common_from, 'infinity')) as usable_until
        from temp.linkage_concerned left join temp.linkage_common now using (rule, key_1, key_2) left join {COMMON} before using (rule, key_1, key_2)
        where now.common_from is distinct from before.common_from
    """)
    is_crossed = "common.rule = crossed.rule and common.key_1 = crossed.key_1 and common.key_2 = crossed.key_2"
    connection.execute(f"delete from {COMMON} common using temp.linkage_crossed crossed where {is_crossed}")
    connection.execute(f"insert into {COMMON} by name select * from temp.linkage_common semi join temp.linkage_crossed using (rule, key_1, key_2)")
    connection.execute(f"""
        create or replace temp table linkage_touched as
        select node_id from temp.linkage_changed
        union
        select node_id from {KEYS} join temp.linkage_crossed using (rule, key_1, key_2) where valid_from < usable_until
    """)


def _count(connection: Connection, sql: str) -> int:
    return int(str(rows(connection, sql)[0][0]))
