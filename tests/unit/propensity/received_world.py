"""A simulated world as the back-dating test sees it, read from its files by a few lines of SQL: no pipeline. The world must be identified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ml.simulator import WorldSpec, generate_world
from tests.unit.simulator.conftest import LAST_TRUE_DAY, NAMES
from waymark.core.warehouse import Connection


def fill(connection: Connection, folder: Path, spec: WorldSpec) -> None:
    """Makes what `backdated_leaks` reads. A customer is an account; a label is an order within seven days of a Monday."""
    assert spec.is_identified
    generate_world(folder / "landing", folder / "truth", replace(spec, mechanisms={**spec.mechanisms, "broken": 0}))  # every line can be read
    columns = dict.fromkeys(NAMES, "varchar")
    for schema in ("intermediate", "identity", "features", "raw"):
        connection.execute(f"create schema {schema}")
    connection.execute(f"""
        create table raw.lines as
        select event_id, event_name, user_id, try_cast(occurred_at as timestamp) as occurred_at, try_cast(received_at as timestamp) as received_at, device
        from read_csv('{folder}/landing/*.csv.gz', auto_detect = false, delim = ',', quote = '"', escape = '"', header = true, columns = {columns})
        where staff = 'false' and not regexp_matches(lower(coalesce(user_agent, '')), 'bot|crawl|spider')
            and occurred_at < '{LAST_TRUE_DAY}' and user_id is not null and try_cast(received_at as timestamp) is not null
        qualify row_number() over (partition by event_id order by try_cast(occurred_at as timestamp), received_at) = 1
    """)
    connection.execute("""
        create table intermediate.int_events_sessionized as
        select event_id, 'world' as source, case event_name when 'newsletter_signup' then 'newsletter_subscribed' else event_name end as event_type,
            occurred_at, received_at, [md5_number_lower(user_id)] as node_ids, true as is_counted, null::varchar as session_id, null::integer as event_number,
            null::timestamp as session_started_at, case event_name when 'newsletter_signup' then 'consideration' end as stage, 'email' as channel,
            device as device_type, case event_name when 'newsletter_signup' then 'newsletter' end as micro_conversion, false as is_intent_start,
            false as is_jump_back, null::decimal(18, 4) as value_reporting
        from raw.lines
    """)
    connection.execute("create table intermediate.int_conversions_deduplicated as select event_id from raw.lines where event_name = 'order_placed'")
    connection.execute("""
        create table identity.membership_history as
        select distinct node_ids[1] as node_id, node_ids[1]::varchar as customer_id, timestamp '2000-01-01' as valid_from, null::timestamp as valid_to
        from intermediate.int_events_sessionized
    """)
    connection.execute(f"""
        create table features.label_conversion as
        with points as (select timestamp '{spec.start}' + to_days(cast(7 * n as integer)) as as_of_at from range(1, {spec.days // 7}) as weeks(n)),
        seen as (
            select distinct node_ids[1]::varchar as customer_id, as_of_at
            from intermediate.int_events_sessionized join points on occurred_at < as_of_at and occurred_at >= as_of_at - interval 90 days
        ),
        bought as (
            select node_ids[1]::varchar as customer_id, as_of_at, min(occurred_at) as first_converted_at
            from intermediate.int_events_sessionized join points on occurred_at >= as_of_at and occurred_at < as_of_at + interval 7 days
            where event_type = 'order_placed' group by all
        )
        select customer_id, as_of_at, first_converted_at is not null as is_converted, first_converted_at
        from seen left join bought using (customer_id, as_of_at)
    """)
