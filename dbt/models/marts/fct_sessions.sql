{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('session_keys', 'event') %}

-- in slices of time of {{ ref('int_events_sessionized') }}
with events as (
    select
        event.event_id, event.event_type, event.occurred_at, event.session_key_id, event.session_id, event.event_number, event.customer_id,
        event.is_conversion_event, event.micro_conversion, {{ stage_rank('event.stage') }} as stage_rank
    from {{ ref('int_events_sessionized') }} as event
    where event.session_id is not null
        -- slice of time: and event.session_started_at
    {%- if is_incremental() %}
        and {{ is_restated }}
    {%- endif %}
),

conversions as (
    select event_id, cast(count(*) as integer) as conversion_count
    from {{ ref('int_conversions_deduplicated') }}
    group by event_id
),

converted as (
    select
        events.session_id,
        cast(sum(conversions.conversion_count) as integer) as conversion_count
    from events
    inner join conversions on conversions.event_id = events.event_id
    where events.is_conversion_event
    group by events.session_id
),

sessions as (
    select
        session_id,
        min(session_key_id) as session_key_id,
        case when min(customer_id) = max(customer_id) then min(customer_id) end as customer_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        cast(count(*) as integer) as event_count,
        cast(sum(case when {{ is_page_view('event_type') }} then 1 else 0 end) as integer) as page_view_count,
        cast(count(micro_conversion) as integer) as micro_conversion_count,
        max(stage_rank) as max_stage_rank,
        min(case when event_number = 1 then event_id end) as first_event_id,
        max_by(event_id, event_number) as last_event_id
    from events
    group by session_id
),

landings as (
    select
        event.event_id, event.anonymous_id, event.user_id, event.source, event.channel, event.utm_source, event.utm_medium, event.utm_campaign,
        event.referrer_host, event.page_path, event.screen, event.device_type, event.country, event.session_key_id, event.occurred_at
    from {{ ref('int_events_sessionized') }} as event
    where event.event_number = 1
        -- slice of time: and event.occurred_at
),

-- The instant is joined on too: it lets the engine skip the parts of the event table that hold no session's start.
described as (
    select
        sessions.session_id,
        sessions.session_key_id,
        landings.anonymous_id,
        landings.user_id,
        sessions.customer_id,
        landings.source,
        sessions.started_at,
        sessions.ended_at,
        cast(floor(({{ x_epoch_us('sessions.ended_at') }} - {{ x_epoch_us('sessions.started_at') }}) / 1000000.0) as bigint) as duration_seconds,
        sessions.event_count,
        sessions.page_view_count,
        coalesce(converted.conversion_count, 0) as conversion_count,
        sessions.micro_conversion_count,
        landings.channel,
        landings.utm_source,
        landings.utm_medium,
        landings.utm_campaign,
        landings.referrer_host,
        landings.page_path as landing_page_path,
        landings.screen as landing_screen,
        landings.device_type,
        landings.country,
        {{ is_engaged_session(
            x_epoch_us('sessions.ended_at') ~ ' - ' ~ x_epoch_us('sessions.started_at'), 'coalesce(converted.conversion_count, 0)', 'sessions.page_view_count') }} as is_engaged,
        {{ stage_of_rank('sessions.max_stage_rank') }} as max_stage,
        sessions.first_event_id,
        sessions.last_event_id,
        {{ x_local_date('sessions.started_at', var('reporting_timezone')) }} as reporting_date
    from sessions
    inner join landings on landings.event_id = sessions.first_event_id and landings.occurred_at = sessions.started_at
    left join converted on converted.session_id = sessions.session_id
)

select * from described
