{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('customers', 'step') %}

with runs as (
    select
        step.first_event_id, step.last_event_id, step.touchpoint_id, step.session_id, step.customer_id, step.channel, step.stage, step.is_conversion,
        step.started_at, step.ended_at, step.event_count
    from {{ ref('int_session_steps') }} as step
    {%- if is_incremental() %} where {{ is_restated }} {%- endif %}
),

conversions as (
    select event_id, goal, conversion_id from {{ ref('int_conversions_deduplicated') }}
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
        counted.first_event_id || '_' || lanes.goal as journey_step_id,
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
        runs.last_event_id
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
