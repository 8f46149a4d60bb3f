{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('placements', 'event') %}

with events as (
    select
        event.event_id, event.occurred_at, event.session_key_id, event.session_id, event.session_started_at, event.event_number, event.customer_id, event.channel,
        {{ stage_rank('event.stage') }} as stage_rank,
        event.is_conversion_event
    from {{ ref('int_events_sessionized') }} as event
    where event.is_counted and event.customer_id is not null
    {%- if is_incremental() %}
        and ({{ is_restated }})
    {%- endif %}
),

conversions as (
    select distinct event_id from {{ ref('int_conversions_deduplicated') }}
),

-- What is sorted is narrow: a customer is a number here, and a session its key and its start.
customers as (
    select customer_id, cast(row_number() over (order by customer_id asc nulls first) as integer) as customer_number
    from (select distinct customer_id from events) as each_customer
),

-- A touchpoint is a session as far as it is one customer's, or an event without session.
touched as (
    select
        events.event_id,
        events.session_key_id,
        events.session_started_at,
        events.event_number,
        customers.customer_number,
        events.occurred_at,
        events.stage_rank,
        events.is_conversion_event and conversions.event_id is not null as is_conversion
    from events
    inner join customers on customers.customer_id = events.customer_id
    left join conversions on events.is_conversion_event and conversions.event_id = events.event_id
    where events.session_id is not null
),

staged as (
    select
        *,
        coalesce(last_value(stage_rank ignore nulls) over up_to_here, cast(1 as tinyint)) as running_rank,
        coalesce(last_value(stage_rank ignore nulls) over before, cast(1 as tinyint)) as previous_rank,
        lag(is_conversion) over touch_order as follows_conversion
    from touched
    window
        touch_order as (partition by session_key_id, session_started_at, customer_number order by event_number asc nulls first),
        up_to_here as (
            partition by session_key_id, session_started_at, customer_number order by event_number asc nulls first rows between unbounded preceding and current row
        ),
        before as (
            partition by session_key_id, session_started_at, customer_number order by event_number asc nulls first rows between unbounded preceding and 1 preceding
        )
),

numbered as (
    select
        *,
        cast(sum(case when follows_conversion is null or follows_conversion or is_conversion or running_rank <> previous_rank then 1 else 0 end) over (
            partition by session_key_id, session_started_at, customer_number order by event_number asc nulls first rows unbounded preceding
        ) as integer) as run_number
    from staged
),

runs as (
    select
        session_key_id,
        session_started_at,
        customer_number,
        run_number,
        min(running_rank) as stage_rank,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        min_by(event_id, event_number) as first_event_id,
        max_by(event_id, event_number) as last_event_id,
        cast(count(*) as integer) as event_count,
        bool_or(is_conversion) as is_conversion
    from numbered
    group by session_key_id, session_started_at, customer_number, run_number
),

touches as (
    select
        runs.session_key_id,
        runs.session_started_at,
        runs.customer_number,
        events.session_id,
        events.customer_id,
        events.channel,
        {{ touchpoint_id('events.session_id', 'events.event_id', 'events.customer_id') }} as touchpoint_id
    from runs
    inner join events on events.event_id = runs.first_event_id
    where runs.run_number = 1
),

steps as (
    select
        runs.first_event_id,
        runs.last_event_id,
        touches.touchpoint_id,
        runs.run_number = 1 as is_touchpoint_start,
        touches.session_id,
        runs.session_key_id,
        touches.customer_id,
        touches.channel,
        {{ stage_of_rank('runs.stage_rank') }} as stage,
        runs.run_number,
        runs.is_conversion,
        runs.started_at,
        runs.ended_at,
        runs.event_count
    from runs
    inner join touches
        on touches.session_key_id = runs.session_key_id
        and touches.session_started_at = runs.session_started_at
        and touches.customer_number = runs.customer_number
    union all
    select
        events.event_id as first_event_id,
        events.event_id as last_event_id,
        {{ touchpoint_id('events.session_id', 'events.event_id', 'events.customer_id') }} as touchpoint_id,
        true as is_touchpoint_start,
        events.session_id,
        events.session_key_id,
        events.customer_id,
        events.channel,
        {{ stage_of_rank('coalesce(events.stage_rank, 1)') }} as stage,
        1 as run_number,
        events.is_conversion_event and conversions.event_id is not null as is_conversion,
        events.occurred_at as started_at,
        events.occurred_at as ended_at,
        1 as event_count
    from events
    left join conversions on conversions.event_id = events.event_id
    where events.session_id is null
)

select * from steps
