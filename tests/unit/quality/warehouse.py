"""A small warehouse that breaks no rule: ten weeks of a shop's events and what the models would make of them."""

from __future__ import annotations

from expectations import Bounds
from expectations.suites.journeys import _SESSION_TEXTS
from ml.features import VIEWS, model_fields
from waymark.core.warehouse import Connection, connect
from waymark.ingestion.event import empty_events_sql

BOUNDS = Bounds(
    max_future_skew_days=2, max_value=1_000_000, volume_factor=3.0, least_weekly_events=20, max_category_shift=0.25, max_null_rate_shift=0.25,
)  # fmt: skip
FIELDS = [(field.table, field.name, field.dtype) for field in model_fields(VIEWS)]
CUSTOMERS = 600
NOW = "timestamp '2026-03-16 00:00:00'"

_EVENTS = f"""
    create table raw.shop_events as
    select e.* replace (
        md5('e' || i) as event_id, 'shop' as source, '{{"at":' || 1740268798123456 + i || ',"order":"' || 9111111111111102 + i || '","score":0.4111111111111111}}' as properties,
        'https://shop.example/p/' || i || '?gclid=EAIaIQobChMI4111111111111111&x=1+1' as page_url, 'order 2026-00012' || i || ' of 2026-03-01' as text, case when i % 10 = 0 then 'order_completed' else 'page_viewed' end as event_type,
        {NOW} - to_minutes(cast(i * 20 + 1 as integer)) as occurred_at, {NOW} - to_minutes(cast(i * 20 + 1 as integer)) as received_at,
        [{{'type': 'anonymous_id', 'value': 'shop:' || i % 50}}, {{'type': 'email', 'value': sha256('m' || i % 50)}}] as identifiers,
        case when i % 10 = 0 then cast(10 as decimal(18, 4)) end as value, case when i % 10 = 0 then 'USD' end as currency, false as is_internal, md5('c' || i) as content_digest,
        cast({NOW} - to_minutes(cast(i * 20 + 1 as integer)) as date) as event_date
    )
    from range(4900) r(i) left join ({empty_events_sql()}) e on true
"""
_MARTS = f"""
    create table marts.fct_events as
    select * exclude (i), 's_' || i // 4 as session_id from (select *, row_number() over (order by occurred_at desc) - 1 as i from raw.shop_events) where i < 400;
    create table marts.fct_sessions as
    select session_id, cast(i as bigint) as session_key_id, started_at, ended_at, event_count, 60 as duration_seconds, 1 as page_view_count,
        0 as micro_conversion_count, 0 as conversion_count, {", ".join(f"cast(null as varchar) as {column}" for column in _SESSION_TEXTS)}
    from (select session_id, row_number() over (order by session_id) as i, min(occurred_at) as started_at, max(occurred_at) as ended_at,
        cast(count(*) as integer) as event_count from marts.fct_events group by 1);
    create table marts.fct_journey_steps as
    select 'step_' || session_key_id as journey_step_id, 'j_' || session_key_id as journey_id, 'c_' || session_key_id as customer_id, session_id,
        1 as step_number, started_at, ended_at, event_count from marts.fct_sessions;
    create table marts.fct_journeys as
    select journey_id, customer_id, case when session_id = 's_1' then 'converted' else 'open' end as status, case when session_id = 's_1' then 'o_1' end as conversion_id,
        started_at, ended_at, 1 as step_count, event_count, 0.5 as duration_days from marts.fct_journey_steps;
    create table marts.fct_conversions as
    select 'o_1' as conversion_id, 'c_1' as customer_id, cast(10 as decimal(18, 4)) as value, cast(10 as decimal(18, 4)) as value_reporting;
    create table marts.fct_consent_intervals as
    select 'c_' || i as consent_interval_id, 'c_' || i as customer_id, 'email' as scope, 'banner' as channel, 'EU' as jurisdiction, '2026-03-01' as policy_version,
        'shop' as source from range(10) r(i);
    create table marts.dim_customers as select 'c_' || i as customer_id from range({CUSTOMERS}) r(i);
    create table marts.fct_propensity_scores as
    select 'c_' || i as customer_id, {NOW} as as_of_at, 0.15 - i * 0.05 / {CUSTOMERS} as score, 0.05 as score_low, 0.2 as score_high,
        cast(floor(i * 10 / {CUSTOMERS}.0) as integer) + 1 as decile, '1' as model_version
    from range({CUSTOMERS}) r(i)
"""


def clean_warehouse() -> Connection:
    connection = connect()
    for schema in ("raw", "marts", "features", "identity", "intermediate"):
        connection.execute(f"create schema {schema}")
    connection.execute(f"create table raw.run_clock as select {NOW} as data_now")
    connection.execute("""
        create table identity.finished_clock (data_now TIMESTAMP); create table identity.restated_session_keys (session_key_id BIGINT);
        create table identity.restated_customers (customer_id VARCHAR); create table identity.restated_feature_customers (customer_id VARCHAR)
    """)
    connection.execute(_EVENTS)
    for statement in _MARTS.split(";"):
        connection.execute(statement)
    connection.execute(f"""
        create table intermediate.int_customer_activity as
        select 'c_' || i as customer_id, {NOW} - to_days(cast(7 * w as integer)) as as_of_at
        from range({CUSTOMERS}) r(i), range(8) s(w)
    """)
    for view in VIEWS.values():
        columns = ", ".join(f'{_VALUES[field.dtype]} as "{field.name}"' for field in view.fields)
        connection.execute(f"create table {view.table} as select {_KEY}, {columns} from intermediate.int_customer_activity")
    connection.execute(f"""
        create table features.label_conversion as
        select {_KEY}, 7 as horizon_days, customer_id = 'c_1' as is_converted,
            case when customer_id = 'c_1' then as_of_at + to_days(1) end as first_converted_at
        from intermediate.int_customer_activity where as_of_at + to_days(7) <= {NOW}
    """)
    return connection


_KEY = f"customer_id || '_' || (date_diff('day', as_of_at, {NOW}) // 7) as customer_point_id, customer_id, as_of_at"
_VALUES = {"integer": "2", "number": "cast(0.5 as double)", "boolean": "true", "category": "case when length(customer_id) % 2 = 0 then 'email' else 'direct' end"}
