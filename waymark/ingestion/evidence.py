"""Events on which consent rests: they outlive their retention, because without them what a person said would be forgotten, or turn into its contrary.

These are acts of consent; events that state another thing than the same source stated before of the same identifier (dbt/macros/definitions/consent.sql: such a
statement is an act); the first event of an identifier in a jurisdiction, where absence does not mean the same everywhere; and, of persons of whom any of these
tell, what says who the person is, because what was said of one identifier holds for the others: the first event that names two of them together, the forms on
which probable links rest, and what keeps two of them apart.

Decision: found from the lake. Context: retention comes after ingestion and before the models, which do not know the newest events yet. Consequence: only who is
linked to whom in events that are neither old nor new is taken from the models of the last run; where all are made anew, the whole lake is read. Which links
are probable and who is kept apart the lake does not tell: without models everything stays that may have a say, until a run that has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from waymark.core.node_letters import named_node_sql
from waymark.core.people_settings import ANYWHERE
from waymark.core.quoting import literal
from waymark.core.settings import OPERATOR_SOURCE
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.lake import COMPARES
from waymark.ingestion.tables import lake_sql
from waymark.privacy.comparables import subject_sql

# Ids of the events on which consent rests.
EVIDENCE = "_wm_evidence"
_STATED, _PAIRS, _PERSONS, _FORMS, _DISPUTES = "_wm_stated", "_wm_pairs", "_wm_persons", "_wm_forms", "_wm_disputes"
# As dbt/macros/engine/x_visitor_key.sql makes ids of identifiers.
NODES = """list_transform(identifiers, lambda one: cast(md5_number_lower(one."type" || '|' || one."value") >> 1 as bigint))"""
_IS_ACT = "consent_act is not null and not coalesce(consent_act.is_statement, false)"
# What decides, beside consent_act, whether the models count an event.
_SENDER = "coalesce(is_internal, false) as is_internal, user_agent"
# Where the models of the last run say who was linked, and of whom something was said.
_LINKS = "select node_a, node_b from identity.edges"
# Has a row where probable links are estimated.
_ESTIMATED = "identity.linkage_state"
_NAMED = [f"select unnest(node_ids) as node from intermediate.{model}" for model in ("int_consent_events", "int_event_jurisdictions")]
# Whom an operator ever spoke of, to join them or to part them.
_OPERATORS = f"{OPERATOR_SOURCE}_events"
_WORDS = f"select {named_node_sql('node_a')}, {named_node_sql('node_b')} from raw.{_OPERATORS}"


def note_evidence(
    connection: Connection, sources: Iterable[str], old: Iterable[str], places: Mapping[str, str], *, is_modelled: bool, session_gap: timedelta
) -> None:
    """Makes the table EVIDENCE (event_id) of the old events on which consent rests; it may hold others, too.

    old: files of the lake, all of the days that are looked at and before. places: the jurisdiction of each country, as `ConsentSettings.telling_places` has
    them; empty where absence means the same everywhere. is_modelled: the models hold all events that are not pending. session_gap: a longer one ends a
    session.
    """
    listed = sorted(sources)
    known = rows(connection, "select path, is_pending from raw.lake_files where list_contains(?, source) order by path", [listed])
    unseen = {str(path) for path, is_pending in known if is_pending or not is_modelled}
    read = unseen | set(old)
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
    if rows(connection, f"select 1 from {_PERSONS} limit 1"):
        told = [path for path in sorted(read) if path.endswith(f"{COMPARES}.parquet")]
        if is_modelled and told and not rows(connection, f"select 1 from {_ESTIMATED}"):
            told = []
        _note_forms(connection, f"({lake_sql(connection, told, compares=True)})" if told else "", f"{contested} and not is_survivor")
        _note_links(connection, events, is_modelled=is_modelled)
        # Of every identifier, joined by a probable link or not: an older name that stays would hold again, and join whom it had not joined.
        connection.execute(f"insert into {EVIDENCE} select event_id from {_FORMS} where node in (select node from {_PERSONS})").fetchall()
        if is_modelled:
            _keep_disputes(connection)
        if late := sorted(unseen & set(old)):
            _keep_what_may_be_disputed(connection, events, lake_sql(connection, late), session_gap)
    for table in (_STATED, _PAIRS, _PERSONS, _FORMS, _DISPUTES):
        connection.execute(f"drop table if exists {table}")


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


def _note_forms(connection: Connection, forms: str, losers: str) -> None:
    """Makes the table _FORMS (event_id, node): events that tell another value of a compared part than the event before that told it of the same identifier.

    The latest value of a part holds (waymark.identity.linkage.records), so what repeats it may leave; but not what repeats a crawler's, which tells nothing.
    """
    connection.execute(f"create or replace temp table {_FORMS} (event_id varchar, node bigint)")
    if not forms:
        return
    node = subject_sql("identifiers", NODES)
    told = f"select event_id, occurred_at, {node} as node, {_SENDER}, unnest(comparables) as told from {forms}"
    connection.execute(f"""
        insert into {_FORMS}
        select distinct event_id, node
        from (
            select event_id, node, row(told, is_internal, user_agent) as said,
                lag(said) over (partition by node, told.part order by occurred_at, event_id) as said_before
            from ({told} where len(identifiers) > 0 and not ({_IS_ACT}) and (event_id, content_digest) not in ({losers}))
        )
        where said is distinct from said_before
    """).fetchall()


def _keep_disputes(connection: Connection) -> None:
    """What forbids two of a person's identifiers to be one person's, as the models know it: the first of its kind, because it holds from then on."""
    connection.execute(f"""
        create or replace temp table {_DISPUTES} as
        select * from identity.negative_evidence
        where node_a in (select node from {_PERSONS}) and node_b in (select node from {_PERSONS})
        qualify row_number() over (partition by node_a, node_b, kind order by since, source_event_id) = 1
    """).fetchall()
    if not rows(connection, f"select 1 from {_DISPUTES} limit 1"):
        return
    # From the first sight of either account to that of the other. The first and the last event of a minute are enough to leave no gap that ends the session.
    connection.execute(f"""
        insert into {EVIDENCE}
        with disputed as (
            select dispute.node_a, dispute.node_b, event.event_id, event.occurred_at,
                list_has_any(event.node_ids, [dispute.node_a, dispute.node_b]) as is_theirs
            from {_DISPUTES} as dispute
            inner join intermediate.int_events_sessionized as later on later.event_id = dispute.source_event_id
            inner join intermediate.int_events_sessionized as event on event.session_id = later.session_id
            where dispute.session_key_id is not null and (event.occurred_at, event.event_id) <= (later.occurred_at, later.event_id)
        ),
        since_seen as (
            select * from disputed
            qualify max(is_theirs) over (partition by node_a, node_b order by occurred_at, event_id)
        )
        select unnest([arg_min(event_id, (occurred_at, event_id)), arg_max(event_id, (occurred_at, event_id))])
        from since_seen group by node_a, node_b, date_trunc('minute', occurred_at)
    """).fetchall()
    connection.execute(f"""
        insert into {EVIDENCE}
        select report.event_id
        from {_DISPUTES} as dispute
        inner join intermediate.int_events as later on later.event_id = dispute.source_event_id
        inner join intermediate.int_events as report on report.order_id = dispute.order_id and report.source = later.source
        where report.is_counted and report.is_conversion_event and report.node_ids[1] in (dispute.node_a, dispute.node_b)
            and (report.occurred_at, report.event_id) <= (later.occurred_at, later.event_id)
    """).fetchall()


def _keep_what_may_be_disputed(connection: Connection, events: str, late: str, session_gap: timedelta) -> None:
    """What may forbid the same among old events that no models know: all of a device's events in which two of the persons' accounts are seen with no longer gap
    between, whoever counts, and all reports of one order by several of them."""
    apart = f"occurred_at - lag(occurred_at) over device > interval '{session_gap // timedelta(microseconds=1)} microseconds'"
    connection.execute(f"""
        insert into {EVIDENCE}
        with late as (select session_key, source, order_id from ({late})),
        apart as (
            select *, {apart} as is_apart from {events} where session_key in (select session_key from late)
            window device as (partition by session_key order by occurred_at, event_id)
        ),
        visits as (
            select event_id, nodes, identifiers, session_key, count(*) filter (is_apart) over (partition by session_key order by occurred_at, event_id) as visit
            from apart
        ),
        disputed as (
            select session_key, visit from (select session_key, visit, unnest(nodes) as node, unnest(identifiers) as identifier from visits)
            where identifier."type" = 'user_id' and node in (select node from {_PERSONS}) group by all having min(node) < max(node)
        ),
        reported as (
            select source, order_id, nodes, unnest(nodes) as node from {events}
            where order_id is not null and (source, order_id) in (select source, order_id from late)
        ),
        orders as (
            select source, order_id from reported where node in (select node from {_PERSONS}) group by all having min(nodes) < max(nodes)
        )
        select event_id from visits semi join disputed using (session_key, visit)
        union
        select event_id from {events} where (source, order_id) in (select source, order_id from orders)
    """).fetchall()


def _note_links(connection: Connection, events: str, *, is_modelled: bool) -> None:
    """Adds the first event of each pair of identifiers of persons of whom something was said, however many links lie between.

    Whether an event links anybody hangs on who sent it: crawlers and staff may not count (dbt/macros/definitions/counts_toward_journeys.sql). So it is the
    first of each user agent, of staff and of others: whatever the models take for a crawler, the first that counts is among them.
    """
    if not is_modelled:  # whom a probable link may join
        connection.execute(f"insert into {_PERSONS} select node from {_FORMS} except select node from {_PERSONS}").fetchall()
    first = f"select event_id, occurred_at, {_SENDER}, nodes, unnest(nodes) as one"
    connection.execute(f"""
        create or replace temp table {_PAIRS} as
        select one, other, arg_min(event_id, (occurred_at, event_id)) as event_id
        from (select * exclude (nodes), unnest(nodes) as other from ({first} from {events} where len(nodes) > 1 and not ({_IS_ACT})))
        where one < other group by one, other, is_internal, user_agent
    """).fetchall()
    words = [_WORDS] if rows(connection, "select 1 from information_schema.tables where table_schema = 'raw' and table_name = ?", [_OPERATORS]) else []
    links = " union all ".join([f"select one, other from {_PAIRS}", *words, *([_LINKS] if is_modelled else [])])
    both_ways = f"select one, other from ({links}) union all select other, one from ({links})"
    while True:
        reached = f"select distinct other from ({both_ways}) where one in (select node from {_PERSONS}) and other not in (select node from {_PERSONS})"
        if not rows(connection, f"insert into {_PERSONS} {reached}")[0][0]:
            break
    connection.execute(f"insert into {EVIDENCE} select event_id from {_PAIRS} where one in (select node from {_PERSONS})").fetchall()
