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

-- Every run is a step toward every goal.
aimed as (
    select
        runs.*,
        goals.goal,
        conversions.conversion_id,
        conversions.conversion_id is not null as is_goal
    from runs
    cross join goals
    left join conversions on runs.is_conversion and conversions.event_id = runs.first_event_id and conversions.goal = goals.goal
),

counted as (
    select
        *,
        cast(sum(case when is_goal then 1 else 0 end) over run_order as integer) - case when is_goal then 1 else 0 end as earlier_conversion_count
    from aimed
    window run_order as (partition by customer_id, goal order by started_at asc nulls first, first_event_id asc nulls first rows unbounded preceding)
),

-- What follows the last conversion of its touchpoint (the thank-you page) belongs to that conversion's journey, and opens no new one.
last_conversions as (
    select
        touchpoint_id,
        goal,
        max({{ x_order_key(['started_at', 'first_event_id']) }}) as last_conversion_key,
        max(earlier_conversion_count) as journey_count
    from counted
    where is_goal
    group by touchpoint_id, goal
),

assigned as (
    select
        counted.*,
        coalesce({{ x_order_key(['counted.started_at', 'counted.first_event_id']) }} > last_conversions.last_conversion_key, false) as is_after_conversion,
        case
            when {{ x_order_key(['counted.started_at', 'counted.first_event_id']) }} > last_conversions.last_conversion_key then last_conversions.journey_count
            else counted.earlier_conversion_count
        end as journey_count
    from counted
    left join last_conversions
        on last_conversions.touchpoint_id = counted.touchpoint_id
        and last_conversions.goal = counted.goal
),

paused as (
    select
        *,
        {{ x_epoch_us('started_at') }} - {{ x_epoch_us('max(ended_at) over earlier_runs') }} as pause_us
    from assigned
    window earlier_runs as (
        partition by customer_id, goal, journey_count order by started_at asc nulls first, first_event_id asc nulls first
        rows between unbounded preceding and 1 preceding
    )
),

split as (
    select
        *,
        cast(sum(case when pause_us > {{ journey_timeout_us() }} then 1 else 0 end) over (
            partition by customer_id, goal, journey_count order by started_at asc nulls first, first_event_id asc nulls first rows unbounded preceding
        ) as integer) as attempt_number
    from paused
),

ordered as (
    select
        *,
        cast(row_number() over journey_order as integer) as step_number,
        lag(stage) over journey_order as previous_stage,
        min(case when starts_journey then first_event_id end) over (partition by customer_id, goal, journey_count, attempt_number) as journey_first_event_id
    from (
        select
            *,
            row_number() over (
                partition by customer_id, goal, journey_count, attempt_number order by started_at asc nulls first, first_event_id asc nulls first
            ) = 1 as starts_journey
        from split
    ) as marked
    window journey_order as (partition by customer_id, goal, journey_count, attempt_number order by started_at asc nulls first, first_event_id asc nulls first)
),

steps as (
    select
        'p_' || substr(md5(goal || '|' || first_event_id || '|' || customer_id), 1, 24) as journey_step_id,
        'j_' || substr(md5(customer_id || '|' || goal || '|' || journey_first_event_id), 1, 24) as journey_id,
        step_number,
        customer_id,
        goal,
        session_id,
        touchpoint_id,
        channel,
        stage,
        previous_stage,
        coalesce({{ stage_rank('stage') }} < {{ stage_rank('previous_stage') }}, false) as is_jump_back,
        is_goal as is_conversion,
        is_after_conversion,
        conversion_id,
        started_at,
        ended_at,
        event_count,
        first_event_id,
        last_event_id
    from ordered
)

select * from steps
