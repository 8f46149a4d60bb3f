{#-
  In the outputs, because fct_journey_steps, which is published, is a view of it. A rebuild takes a share of the customers at a time: each one's runs, lanes and
  journeys are its own.
-#}
{{ config(materialized='incremental', incremental_strategy='restate', database='outputs') }}
{%- set is_restated = restated('customers', 'event') %}
{%- set slices = 1 if is_incremental() else slices_for(ref('int_events_sessionized'), 2 * (var('events_in_a_slice') | int)) %}

with events as (
    select
        event.event_id, event.occurred_at, event.session_key_id, event.session_id, event.session_started_at, event.event_number, event.customer_id, event.channel,
        {{ stage_rank('event.stage') }} as stage_rank,
        event.is_conversion_event
        {%- if slices > 1 %}, {{ slice_of_customer('event.customer_id', slices) }} as slice {%- endif %}
    from {{ ref('int_events_sessionized') }} as event
    where event.is_counted and event.customer_id is not null
    {%- if is_incremental() %}
        and {{ is_restated }}
    {%- else %}
        -- slice of time: and event.occurred_at
    {%- endif %}
),
{%- if slices > 1 %}
-- events in {{ slices }} slices of customers, by time of {{ ref('int_events_sessionized') }}
{%- endif %}

conversions as (
    select event_id, goal, conversion_id from {{ ref('int_conversions_deduplicated') }}
),

converting_events as (
    select distinct event_id from conversions
),

-- First the runs: consecutive events of one stage, of one customer, in one session. A conversion is a run of its own, and so is an event without session.
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
        events.is_conversion_event and converting_events.event_id is not null as is_conversion
    from events
    inner join customers on customers.customer_id = events.customer_id
    left join converting_events on events.is_conversion_event and converting_events.event_id = events.event_id
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

grouped as (
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
        grouped.session_key_id,
        grouped.session_started_at,
        grouped.customer_number,
        events.session_id,
        events.customer_id,
        events.channel,
        {{ touchpoint_id('events.session_id', 'events.event_id', 'events.customer_id') }} as touchpoint_id
    from grouped
    inner join events on events.event_id = grouped.first_event_id
    where grouped.run_number = 1
),

runs as (
    select
        grouped.first_event_id,
        grouped.last_event_id,
        touches.touchpoint_id,
        grouped.run_number = 1 as is_touchpoint_start,
        touches.session_id,
        touches.customer_id,
        touches.channel,
        {{ stage_of_rank('grouped.stage_rank') }} as stage,
        grouped.is_conversion,
        grouped.started_at,
        grouped.ended_at,
        grouped.event_count
    from grouped
    inner join touches
        on touches.session_key_id = grouped.session_key_id
        and touches.session_started_at = grouped.session_started_at
        and touches.customer_number = grouped.customer_number
    union all
    select
        events.event_id as first_event_id,
        events.event_id as last_event_id,
        {{ touchpoint_id('events.session_id', 'events.event_id', 'events.customer_id') }} as touchpoint_id,
        true as is_touchpoint_start,
        events.session_id,
        events.customer_id,
        events.channel,
        {{ stage_of_rank('coalesce(events.stage_rank, 1)') }} as stage,
        events.is_conversion_event and converting_events.event_id is not null as is_conversion,
        events.occurred_at as started_at,
        events.occurred_at as ended_at,
        1 as event_count
    from events
    left join converting_events on events.is_conversion_event and converting_events.event_id = events.event_id
    where events.session_id is null
),

goals as (
    {%- for goal in var('goals') %}
    select {{ sql_text(goal.name) }} as goal {{ "union all" if not loop.last }}
    {%- endfor %}
),

-- What is sorted is narrow: a lane is a number that stands for a customer's way to a goal.
lanes as (
    select
        each_customer.customer_id,
        goals.goal,
        cast(row_number() over (order by each_customer.customer_id asc nulls first, goals.goal asc nulls first) as integer) as lane
    from (select distinct customer_id from runs) as each_customer
    cross join goals
),

-- Every run is a step toward every goal.
aimed as (
    select
        lanes.lane,
        runs.first_event_id,
        runs.started_at,
        runs.ended_at,
        {{ stage_rank('runs.stage') }} as stage_rank,
        conversions.conversion_id is not null as is_goal
    from runs
    inner join lanes on lanes.customer_id = runs.customer_id
    left join conversions on runs.is_conversion and conversions.event_id = runs.first_event_id and conversions.goal = lanes.goal
),

counted as (
    select
        *,
        cast(row_number() over lane_order as integer) as run_number,
        cast(sum(case when is_goal then 1 else 0 end) over lane_order as integer) - case when is_goal then 1 else 0 end as earlier_conversion_count
    from aimed
    window lane_order as (partition by lane order by started_at asc nulls first, first_event_id asc nulls first rows unbounded preceding)
),

-- What follows the last conversion of its touchpoint (the thank-you page) belongs to that conversion's journey, and opens no new one.
last_conversions as (
    select
        runs.touchpoint_id,
        counted.lane,
        max(counted.run_number) as run_number,
        max(counted.earlier_conversion_count) as journey_count
    from counted
    inner join runs on runs.first_event_id = counted.first_event_id
    where counted.is_goal
    group by runs.touchpoint_id, counted.lane
),

converted_touches as (
    select last_conversions.*, runs.first_event_id
    from last_conversions
    inner join runs on runs.touchpoint_id = last_conversions.touchpoint_id
),

followers as (
    select counted.lane, counted.run_number, converted_touches.journey_count
    from counted
    inner join converted_touches
        on converted_touches.first_event_id = counted.first_event_id
        and converted_touches.lane = counted.lane
        and converted_touches.run_number < counted.run_number
),

assigned as (
    select
        counted.lane,
        counted.run_number,
        counted.started_at,
        counted.ended_at,
        counted.stage_rank,
        followers.lane is not null as is_after_conversion,
        coalesce(followers.journey_count, counted.earlier_conversion_count) as journey_count
    from counted
    left join followers on followers.lane = counted.lane and followers.run_number = counted.run_number
),

paused as (
    select
        *,
        {{ x_epoch_us('started_at') }} - {{ x_epoch_us('max(ended_at) over earlier_runs') }} as pause_us
    from assigned
    window earlier_runs as (partition by lane, journey_count order by run_number asc nulls first rows between unbounded preceding and 1 preceding)
),

split as (
    select
        lane,
        run_number,
        stage_rank,
        is_after_conversion,
        journey_count,
        cast(sum(case when pause_us > {{ journey_timeout_us() }} then 1 else 0 end) over (
            partition by lane, journey_count order by run_number asc nulls first rows unbounded preceding
        ) as integer) as attempt_number
    from paused
),

ordered as (
    select
        *,
        cast(row_number() over journey_order as integer) as step_number,
        lag(stage_rank) over journey_order as previous_stage_rank
    from split
    window journey_order as (partition by lane, journey_count, attempt_number order by run_number asc nulls first)
),

begun as (
    select
        ordered.lane,
        ordered.journey_count,
        ordered.attempt_number,
        'j_' || substr(md5(lanes.customer_id || '|' || lanes.goal || '|' || counted.first_event_id), 1, 24) as journey_id
    from ordered
    inner join counted on counted.lane = ordered.lane and counted.run_number = ordered.run_number
    inner join lanes on lanes.lane = ordered.lane
    where ordered.step_number = 1
),

steps as (
    select
        begun.journey_id,
        ordered.step_number,
        lanes.customer_id,
        lanes.goal,
        runs.session_id,
        runs.touchpoint_id,
        runs.channel,
        runs.stage,
        {{ stage_of_rank('ordered.previous_stage_rank') }} as previous_stage,
        coalesce(ordered.stage_rank < ordered.previous_stage_rank, false) as is_jump_back,
        counted.is_goal as is_conversion,
        ordered.is_after_conversion,
        conversions.conversion_id,
        runs.started_at,
        runs.ended_at,
        runs.event_count,
        runs.first_event_id,
        case when runs.event_count > 1 then runs.last_event_id end as last_event_id,
        runs.is_touchpoint_start
    from ordered
    inner join counted on counted.lane = ordered.lane and counted.run_number = ordered.run_number
    inner join runs on runs.first_event_id = counted.first_event_id
    inner join lanes on lanes.lane = ordered.lane
    inner join begun
        on begun.lane = ordered.lane
        and begun.journey_count = ordered.journey_count
        and begun.attempt_number = ordered.attempt_number
    left join conversions on counted.is_goal and conversions.event_id = counted.first_event_id and conversions.goal = lanes.goal
)

select * from steps
