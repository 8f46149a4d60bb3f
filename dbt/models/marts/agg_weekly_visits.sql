{{ config(materialized='view') }}
{%- set least = var('least_group') %}

with denied as (
    {{ denied_by_any_name() }}
),

clock as (
    select cast(date_trunc('week', reporting_date) as date) as running_week from {{ ref('int_run_clock') }}
),

-- Of whole weeks only: a week that is published while it runs tells by its next state what one person did in between.
sessions as (
    select
        cast(date_trunc('week', session.reporting_date) as date) as week,
        session.channel,
        coalesce(session.device_type, '(none)') as device_type,
        coalesce(session.country, '(none)') as country,
        session.customer_id,
        session.is_engaged,
        session.conversion_count
    from {{ ref('fct_sessions') }} as session
    left join denied
        on denied.customer_id = session.customer_id
        and denied.valid_from <= session.ended_at
        and (denied.valid_to is null or session.ended_at < denied.valid_to)
    where session.customer_id is not null
        and denied.customer_id is null
        and session.reporting_date < (select running_week from clock)
),

countries as (
    select week, channel, device_type, country
    from sessions
    group by week, channel, device_type, country
    having count(distinct customer_id) >= {{ least }}
),

by_country as (
    select
        sessions.week, sessions.channel, sessions.device_type,
        case when countries.country is not null then sessions.country else '(other)' end as country,
        sessions.customer_id, sessions.is_engaged, sessions.conversion_count
    from sessions
    left join countries
        on countries.week = sessions.week and countries.channel = sessions.channel and countries.device_type = sessions.device_type
        and countries.country = sessions.country
),

devices as (
    select week, channel, device_type, country
    from by_country
    group by week, channel, device_type, country
    having count(distinct customer_id) >= {{ least }}
),

by_device as (
    select
        by_country.week, by_country.channel,
        case when devices.country is not null then by_country.device_type else '(other)' end as device_type,
        by_country.country, by_country.customer_id, by_country.is_engaged, by_country.conversion_count
    from by_country
    left join devices
        on devices.week = by_country.week and devices.channel = by_country.channel and devices.device_type = by_country.device_type
        and devices.country = by_country.country
),

channels as (
    select week, channel, device_type, country
    from by_device
    group by week, channel, device_type, country
    having count(distinct customer_id) >= {{ least }}
),

by_channel as (
    select
        by_device.week,
        case when channels.country is not null then by_device.channel else '(other)' end as channel,
        by_device.device_type, by_device.country, by_device.customer_id, by_device.is_engaged, by_device.conversion_count
    from by_device
    left join channels
        on channels.week = by_device.week and channels.channel = by_device.channel and channels.device_type = by_device.device_type
        and channels.country = by_device.country
),

visits as (
    select
        week,
        channel,
        device_type,
        country,
        count(distinct customer_id) as customer_count,
        count(*) as session_count,
        cast(sum(case when is_engaged then 1 else 0 end) as bigint) as engaged_session_count,
        cast(sum(conversion_count) as bigint) as conversion_count
    from by_channel
    group by week, channel, device_type, country
    having count(distinct customer_id) >= {{ least }}
)

select * from visits
