{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('session_keys', 'event') ~ ' or event.session_id is null and ' ~ restated('events', 'event') %}

with events as (
    select
        event.event_id, event.occurred_at, event.session_key_id, event.session_id, event.session_started_at, event.customer_id, event.channel,
        event.is_conversion_event, {{ stage_rank('event.stage') }} as stage_rank
    from {{ ref('int_events_sessionized') }} as event
    where event.is_counted and event.customer_id is not null
    {%- if is_incremental() %}
        and ({{ is_restated }})
    {%- endif %}
),

conversions as (
    select distinct event_id from {{ ref('int_conversions_deduplicated') }}
),

-- A touchpoint is a session as far as it is one customer's, or an event without session.
touched as (
    select
        events.*,
        coalesce(events.session_id, events.event_id) as touch_key,
        conversions.event_id is not null as is_conversion
    from events
    left join conversions on conversions.event_id = events.event_id
),

staged as (
    select
        *,
        coalesce(
            last_value(stage_rank ignore nulls) over touch_order,
            cast(1 as tinyint)
        ) as running_rank,
        row_number() over touch_order as touch_event_number
    from touched
    window touch_order as (partition by touch_key, customer_id order by occurred_at asc nulls first, event_id asc nulls first rows unbounded preceding)
),

cut as (
    select
        *,
        case
            when touch_event_number = 1 or is_conversion
                or lag(is_conversion) over touch_order or lag(running_rank) over touch_order <> running_rank then 1
            else 0
        end as starts_run
    from staged
    window touch_order as (partition by touch_key, customer_id order by occurred_at asc nulls first, event_id asc nulls first)
),

numbered as (
    select
        *,
        cast(sum(starts_run) over (
            partition by touch_key, customer_id order by occurred_at asc nulls first, event_id asc nulls first rows unbounded preceding
        ) as integer) as run_number
    from cut
),

runs as (
    select
        touch_key,
        customer_id,
        run_number,
        min(running_rank) as stage_rank,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        min(case when starts_run = 1 then event_id end) as first_event_id,
        max_by(event_id, touch_event_number) as last_event_id,
        cast(count(*) as integer) as event_count,
        bool_or(is_conversion) as is_conversion,
        min(session_id) as session_id,
        min(session_key_id) as session_key_id
    from numbered
    group by touch_key, customer_id, run_number
),

touches as (
    select touch_key, customer_id, event_id as first_event_id, channel
    from numbered
    where touch_event_number = 1
),

steps as (
    select
        runs.first_event_id,
        runs.last_event_id,
        {{ touchpoint_id('runs.session_id', 'runs.touch_key', 'runs.customer_id') }} as touchpoint_id,
        runs.first_event_id = touches.first_event_id as is_touchpoint_start,
        runs.session_id,
        runs.session_key_id,
        runs.customer_id,
        touches.channel,
        {{ stage_of_rank('runs.stage_rank') }} as stage,
        runs.run_number,
        runs.is_conversion,
        runs.started_at,
        runs.ended_at,
        runs.event_count
    from runs
    inner join touches on touches.touch_key = runs.touch_key and touches.customer_id = runs.customer_id
)

select * from steps
