"""Accepted events of a source. What a reader could see in one row is refused at the door; these rules see what only many rows show, and guard the door."""

from __future__ import annotations

from expectations.rules import Bounds, Rule, Suite
from expectations.suites import personal

# Written out, not read from the ingestion that the rule guards; a test holds both to the same columns.
COLUMNS = {
    **dict.fromkeys((
        "event_id", "source", "source_event_id", "event_type", "session_key", "anonymous_id", "user_id", "source_channel", "utm_source", "utm_medium",
        "utm_campaign", "utm_term", "utm_content", "click_id_type", "click_id", "referrer", "referrer_host", "page_url", "page_host", "page_path", "screen",
        "user_agent", "device_type", "os", "browser", "country", "region", "city", "language", "order_id", "currency", "properties", "text", "content_digest",
    ), "VARCHAR"),
    "occurred_at": "TIMESTAMP", "received_at": "TIMESTAMP", "event_date": "DATE", "value": "DECIMAL(18,4)", "is_internal": "BOOLEAN",
    "identifiers": 'STRUCT("type" VARCHAR, "value" VARCHAR)[]', "consent_scopes": "VARCHAR[]",
    "consent_act": 'STRUCT("granted" VARCHAR[], withdrawn VARCHAR[], expired VARCHAR[], channel VARCHAR, jurisdiction VARCHAR, policy_version VARCHAR, '
    "stated_by VARCHAR, expires_at TIMESTAMP, is_statement BOOLEAN)", "ingest_file_id": "INTEGER", "row_number": "BIGINT",
}  # fmt: skip


def suite(source: str, bounds: Bounds, *, pending: bool) -> Suite:
    """The rules over raw.<source>_events, or over its pending rows."""
    table = f"raw.{source}_{'pending' if pending else 'events'}"
    return Suite(f"raw_{source}", "raw", table, (*_rows(source, bounds), *_history(source, bounds), _schema(table)))


def _where(name: str, meaning: str, condition: str, *, blocking: bool = True) -> Rule:
    return Rule(name, meaning, f"select t.event_id from {{batch}} t where {{scope}} and ({condition})", blocking)


def _rows(source: str, bounds: Bounds) -> tuple[Rule, ...]:
    now = "(select data_now from raw.run_clock)"
    return (
        # What stands where an id should may be anything, so the content's digest is the key.
        Rule("event_ids_are_digests", "An event id is 32 hex digits.",
             "select t.content_digest from {batch} t where {scope} and (t.event_id is null or not regexp_full_match(t.event_id, '[0-9a-f]{{32}}'))"),
        Rule(
            "event_ids_are_unique", "Two accepted events never share an id.",
            f"select e.event_id from raw.{source}_events e where e.event_id in (select t.event_id from {{batch}} t where {{scope}})"
            " group by e.event_id having count(*) > 1",
        ),
        _where("events_name_their_source", "An event of this table is this source's.", f"t.source is distinct from '{source}'"),
        _where(
            "events_are_not_in_the_future", "An event lies at most time.max_future_skew_days after data_now: mend the source's clock.",
            f"t.occurred_at > {now} + to_days({bounds.max_future_skew_days})",
        ),
        _where("events_have_a_time_after_1990", "A clock that was never set says 1970.", "t.occurred_at is null or t.occurred_at < timestamp '1990-01-01'"),
        _where(
            "events_are_received_after_they_happen", "An event is received no more than a day before it happens: mend the source's clock or time zone.",
            "t.received_at is null or t.received_at < t.occurred_at - to_days(1)", blocking=False,
        ),
        _where("event_types_are_names", "An event type is lower-case words joined by _.", "t.event_type is null or not regexp_full_match(t.event_type, '[a-z][a-z0-9_]*')"),
        _where("values_are_plausible", "An event's value is under quality.max_value: a wrong unit or a lost decimal point.", f"abs(t.value) > {bounds.max_value}"),
        _where("values_have_a_currency", "A value comes with its currency.", "t.value is not null and (t.currency is null or not regexp_full_match(t.currency, '[A-Z]{{3}}'))"),
        _where("identifier_lists_are_not_empty", "A list of identifiers is NULL or has members with a type and a value.",
               "len(t.identifiers) = 0 or len(list_filter(t.identifiers, lambda i: i.type is null or coalesce(i.value, '') = '')) > 0"),
        _where("personal_identifiers_are_hashed", "An e-mail address or a phone number is a keyed hash.",
               "len(list_filter(t.identifiers, lambda i: i.type in ('email', 'phone') and not regexp_matches(i.value, '[0-9a-f]{{64}}$'))) > 0"),
        _where("days_fit_times", "The partition is the day of the event.", "t.event_date is distinct from cast(t.occurred_at as date)"),
        *personal.rules("event_id", names=(*personal.NAMES, *personal.IDS), free=personal.FREE, said=personal.CONSENTS),
    )  # fmt: skip


def _history(source: str, bounds: Bounds) -> tuple[Rule, ...]:
    """What whole weeks and the last whole day show. They end at the last midnight before data_now, and look at all events, whatever is pending."""
    weeks = f"""
        with stop as (select date_trunc('day', data_now) as midnight from raw.run_clock),
        weekly as (
            select cast(floor((epoch_us((select midnight from stop)) - 1 - epoch_us(e.occurred_at)) / 604800000000.0) as integer) as week, e.event_type, count(*) as n
            from raw.{source}_events e
            where e.occurred_at < (select midnight from stop) and e.occurred_at >= (select midnight from stop) - to_days(63)
            group by all
        ),
        totals as (select week, sum(n) as n from weekly group by week),
        usual as (select median(n) as n, count(*) as weeks from totals where week between 1 and 8)
    """
    enough = f"{weeks} select (select weeks from usual) >= 4 and (select n from usual) >= {bounds.least_weekly_events}"
    recent = f"{weeks} select (select count(*) from totals where week between 1 and 4) = 4 and (select min(n) from totals where week between 1 and 4) >= {bounds.least_weekly_events}"
    factor = bounds.volume_factor
    # The last whole day (0) beside the same weekday of eight weeks before, as far as whole days of history go: the oldest seen may be cut.
    daily = f"""
        with stop as (select date_trunc('day', data_now) as midnight from raw.run_clock),
        days as (
            select cast(floor((epoch_us((select midnight from stop)) - 1 - epoch_us(e.occurred_at)) / 86400000000.0) as integer) as day, count(*) as n
            from raw.{source}_events e
            where e.occurred_at < (select midnight from stop) and e.occurred_at >= (select midnight from stop) - to_days(58)
            group by all
        ),
        weekdays as (
            select r.week, coalesce(d.n, 0) as n from range(9) r(week) left join days d on d.day = 7 * r.week
            where r.week = 0 or 7 * r.week < (select max(day) from days)
        ),
        usual_day as (select median(n) as n, count(*) as weeks from weekdays where week > 0)
    """
    # A day needs what else a week does: its events come by the visit, and a third of ten visits is no rare day.
    enough_days = f"{daily} select (select weeks from usual_day) >= 4 and (select n from usual_day) >= {bounds.least_weekly_events}"
    anchor = "(select count(*) from {batch} t where {scope}) >= 0"
    return (
        Rule(
            "weekly_volume_is_usual", "The last week's events are between the median of the weeks before it, divided and multiplied by quality.volume_factor.",
            f"{weeks} select cast(coalesce((select n from totals where week = 0), 0) as varchar) as events from usual"
            f" where {anchor} and not coalesce((select n from totals where week = 0), 0) between usual.n / {factor} and usual.n * {factor}",
            blocking=False, applies=enough,
        ),
        Rule(
            "daily_volume_is_usual", "The last whole day's events are near the median of that weekday in eight weeks before it, within quality.volume_factor:"
            " else a tracker is silent, a file did not come, or came twice.",
            f"{daily} select strftime((select midnight from stop) - to_days(1), '%Y-%m-%d') || ': ' || w.n || ' events' from weekdays w, usual_day u"
            f" where {anchor} and w.week = 0 and not w.n between u.n / {factor} and u.n * {factor}",
            blocking=False, applies=enough_days,
        ),
        Rule(
            "event_types_do_not_vanish", "A type that made up a hundredth of the last four weeks, and 40 events a week, still comes.",
            f"{weeks} select event_type from weekly where {anchor} and week between 1 and 4 group by event_type"
            f" having sum(n) >= 160 and count(*) = 4 and sum(n) >= 0.01 * (select sum(n) from totals where week between 1 and 4)"
            " and event_type not in (select event_type from weekly where week = 0)",
            blocking=False, applies=recent,
        ),
        Rule(
            "event_types_are_known", "A type with 20 events in the last week has come before: if it is meant, name it in the mapping and the stage rules.",
            f"{weeks} select event_type from weekly where {anchor} and week = 0 and n >= 20"
            " and event_type not in (select event_type from weekly where week between 1 and 8)",
            blocking=False, applies=recent,
        ),
    )  # fmt: skip


def _schema(table: str) -> Rule:
    schema, name = table.split(".")
    listed = ", ".join(f"('{column}', '{kind}')" for column, kind in COLUMNS.items())
    known = f"select column_name, data_type from information_schema.columns where table_schema = '{schema}' and table_name = '{name}'"
    return Rule(
        "columns_are_the_canonical_ones", "The table has exactly the canonical columns, with their types.",
        f"select distinct column_name from ((select * from (values {listed}) c(column_name, data_type) except ({known})) union all"
        f" (({known}) except select * from (values {listed}) c(column_name, data_type))) x where (select count(*) from {{batch}} t where {{scope}}) >= 0",
    )  # fmt: skip
