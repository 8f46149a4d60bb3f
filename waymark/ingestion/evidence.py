"""Events on which consent rests: they outlive their retention, because without them what a person said would be forgotten, or turn into its contrary.

These are acts of consent; events that state another thing than the same source stated before of the same identifier (dbt/macros/definitions/consent.sql: such a
statement is an act); the first event of an identifier in a jurisdiction, where absence does not mean the same everywhere; and, of persons of whom any of these
tell, the first event that names two of their identifiers together, because what was said of the one holds for the other.

Decision: found from the lake. Context: retention comes after ingestion and before the models, which do not know the newest events yet. Consequence: only who is
linked to whom in events that are neither old nor new is taken from the models of the last run; where all are made anew, the whole lake is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from waymark.core.people_settings import ANYWHERE
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.tables import lake_sql

# Ids of the events on which consent rests.
EVIDENCE = "_wm_evidence"
_STATED, _PAIRS, _PERSONS = "_wm_stated", "_wm_pairs", "_wm_persons"
# As dbt/macros/engine/x_visitor_key.sql makes ids of identifiers.
NODES = """list_transform(identifiers, lambda one: cast(md5_number_lower(one."type" || '|' || one."value") >> 1 as bigint))"""
_IS_ACT = "consent_act is not null and not coalesce(consent_act.is_statement, false)"
# What decides, beside consent_act, whether the models count an event.
_SENDER = "coalesce(is_internal, false) as is_internal, user_agent"
# Where the models of the last run say who was linked, and of whom something was said.
_LINKS = "select node_a, node_b from identity.edges"
_NAMED = [f"select unnest(node_ids) as node from intermediate.{model}" for model in ("int_consent_events", "int_event_jurisdictions")]


def note_evidence(connection: Connection, sources: Iterable[str], old: Iterable[str], places: Mapping[str, str], *, is_modelled: bool) -> None:
    """Makes the table EVIDENCE (event_id) of the old events on which consent rests; it may hold others, too.

    old: files of the lake, all of the days that are looked at and before. places: the jurisdiction of each country, as `ConsentSettings.telling_places` has
    them; empty where absence means the same everywhere. is_modelled: the models hold all events that are not pending.
    """
    listed = sorted(sources)
    known = rows(connection, "select path, is_pending from raw.lake_files where list_contains(?, source) order by path", [listed])
    read = {str(path) for path, is_pending in known if is_pending or not is_modelled} | set(old)
    cases = [f"when country = {literal(country)} then {literal(law)}" for country, law in sorted(places.items()) if country != ANYWHERE]
    cases += [f"when country is not null then {literal(ANYWHERE)}"] * (ANYWHERE in places)
    place = f"case {' '.join(cases)} end" if cases else "null"
    contents = f"(select *, {NODES} as nodes, {place} as place from ({lake_sql(connection, sorted(read))}))"
    contested = f"select event_id, content_digest from raw.event_conflicts where list_contains({listed}::varchar[], source)"
    events = f"(from {contents} where (event_id, content_digest) not in ({contested} and not is_survivor))"
    _note_statements(connection, events)
    # Of an event with several contents another one may show when one leaves: where any of them tells of consent, all of them stay.
    connection.execute(f"""
        create or replace temp table {EVIDENCE} as
        select event_id from {contents} where {_IS_ACT}
        union
        select event_id from {contents} where event_id in (select event_id from ({contested})) and (consent_act is not null or place is not null)
        union
        select event_id from {_STATED} where action_before is null or action_before <> action
        union
        select event_id from (select event_id, occurred_at, place, unnest(nodes) as node from {events} where place is not null)
        qualify row_number() over (partition by node, place order by occurred_at, event_id) = 1
    """).fetchall()
    named = [f"select unnest(nodes) as node from {contents} where consent_act is not null or place is not null", *(_NAMED if is_modelled else [])]
    connection.execute(f"create or replace temp table {_PERSONS} as select distinct node from ({' union all '.join(named)})").fetchall()
    _note_links(connection, events, is_modelled=is_modelled)
    for table in (_STATED, _PAIRS, _PERSONS):
        connection.execute(f"drop table {table}")


def _note_statements(connection: Connection, events: str) -> None:
    lists = {"grant": ("granted", 0), "expire": ("expired", 1), "withdraw": ("withdrawn", 2)}  # the number is the strictness
    stated = f"select event_id, source, occurred_at, unnest(nodes) as node, consent_act from {events} where consent_act.is_statement"
    said = " union all ".join(
        f"select * exclude (consent_act), unnest(consent_act.{column}) as scope, '{action}' as action, {strictness} as strictness from ({stated})"
        for action, (column, strictness) in lists.items()
    )
    connection.execute(f"""
        create or replace temp table {_STATED} as
        select event_id, action, lag(action) over (partition by source, node, scope order by occurred_at, strictness, event_id) as action_before from ({said})
    """).fetchall()


def _note_links(connection: Connection, events: str, *, is_modelled: bool) -> None:
    """Adds the first event of each pair of identifiers of persons of whom something was said, however many links lie between.

    Whether an event links anybody hangs on who sent it: crawlers and staff may not count (dbt/macros/definitions/counts_toward_journeys.sql). So it is the first
    of each user agent, of staff and of others, and whatever the models take for a crawler, the first that counts is among them.
    """
    if not rows(connection, f"select 1 from {_PERSONS} limit 1"):
        connection.execute(f"create or replace temp table {_PAIRS} (one bigint, other bigint, event_id varchar)")
        return
    first = f"select event_id, occurred_at, {_SENDER}, nodes, unnest(nodes) as one"
    connection.execute(f"""
        create or replace temp table {_PAIRS} as
        select one, other, arg_min(event_id, (occurred_at, event_id)) as event_id
        from (select * exclude (nodes), unnest(nodes) as other from ({first} from {events} where len(nodes) > 1 and not ({_IS_ACT})))
        where one < other group by one, other, is_internal, user_agent
    """).fetchall()
    links = f"select one, other from {_PAIRS}" + (f" union all {_LINKS}" if is_modelled else "")
    both_ways = f"select one, other from ({links}) union all select other, one from ({links})"
    while True:
        reached = f"select distinct other from ({both_ways}) where one in (select node from {_PERSONS}) and other not in (select node from {_PERSONS})"
        if not rows(connection, f"insert into {_PERSONS} {reached}")[0][0]:
            break
    connection.execute(f"insert into {EVIDENCE} select event_id from {_PAIRS} where one in (select node from {_PERSONS})").fetchall()
