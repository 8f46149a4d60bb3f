"""What is known of whom, and since when: one record an identifier and interval, from events that carry comparables.

A form is about one person, so it is put to one of its event's identifiers (`comparables.subject_sql`). Of each part the latest value holds (people move, marry,
and mend what they mistyped), from its event on; so a record at T follows from events up to T alone.
"""

from __future__ import annotations

from waymark.core.warehouse import Connection
from waymark.privacy.comparables import COMPARABLE, COMPARABLES, subject_sql

FACTS, RECORDS = "identity.comparable_facts", "identity.comparable_records"
TABLES = {
    # One row per counted event with comparables: whom it is about.
    FACTS: f"event_id VARCHAR, node_id BIGINT, occurred_at TIMESTAMP, comparables {COMPARABLES}",
    # One row per identifier and interval (valid_from, valid_to], valid_to NULL for now: what is known of it.
    RECORDS: f"node_id BIGINT, valid_from TIMESTAMP, valid_to TIMESTAMP, comparables {COMPARABLES}",
}


def facts_sql(comparables: str, events: str = "intermediate.int_events") -> str:
    """SELECT of the facts (see TABLES) in `comparables` (event_id, comparables), given the events' narrow table."""
    return f"""
        select event_id, {subject_sql("identifiers", "node_ids")} as node_id, occurred_at, comparables
        from ({comparables}) c join {events} e using (event_id)
        where is_counted and len(identifiers) > 0
    """


def records_sql(facts: str) -> str:
    """SELECT of the records (see TABLES) that these facts make."""
    return f"""
        with told as (
            select node_id, occurred_at, told.part as part, arg_max(told, event_id) as told
            from (select node_id, occurred_at, event_id, unnest(comparables) as told from {facts})
            group by node_id, occurred_at, told.part
        ),
        instants as (select distinct node_id, occurred_at from told),
        parts as (select distinct node_id, part from told),
        known as (
            select node_id, occurred_at, part,
                last_value(told ignore nulls) over (
                    partition by node_id, part order by occurred_at rows between unbounded preceding and current row
                ) as told
            from instants join parts using (node_id) left join told using (node_id, occurred_at, part)
        ),
        states as (
            select node_id, occurred_at, list(told order by part) as comparables from known where told is not null group by node_id, occurred_at
        ),
        changes as (
            select * from states
            qualify comparables is distinct from lag(comparables) over (partition by node_id order by occurred_at)
        )
        select node_id, occurred_at as valid_from, lead(occurred_at) over (partition by node_id order by occurred_at) as valid_to, comparables from changes
    """


def prepare_records(connection: Connection, *, anew: bool) -> None:
    """Makes the tables, empty; anew: also where they are there."""
    connection.execute("create schema if not exists identity")
    for name, columns in TABLES.items():
        connection.execute(f"create {'or replace table' if anew else 'table if not exists'} {name} ({columns})")


__all__ = ["COMPARABLE", "FACTS", "RECORDS", "TABLES", "facts_sql", "prepare_records", "records_sql"]
