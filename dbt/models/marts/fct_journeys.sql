{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated_known = restated('customers', 'known') %}
{%- set is_restated_step = restated('customers', 'step') %}
{%- set slices = 1 if is_incremental() else slices_for(ref('fct_journey_steps'), var('events_in_a_slice')) %}

{% if slices > 1 -%} -- in {{ slices }} slices of customers {%- endif %}
with steps as (
    select
        step.journey_id, step.step_number, step.customer_id, step.goal, step.touchpoint_id, step.channel, {{ stage_rank('step.stage') }} as stage_rank, step.is_jump_back,
        step.is_after_conversion, step.conversion_id, step.started_at, step.ended_at, step.event_count, step.first_event_id
    from {{ ref('fct_journey_steps') }} as step
    {%- if is_incremental() %}
    where {{ is_restated_step }}
    {%- else %}
    -- slice of customers: where step.customer_id
    {%- endif %}
),

conversions as (
    select conversion_id, occurred_at, value_reporting from {{ ref('int_conversions_deduplicated') }}
),

journeys as (
    select
        journey_id,
        min(customer_id) as customer_id,
        min(goal) as goal,
        min(started_at) as started_at,
        max(ended_at) as ended_at,
        min(conversion_id) as conversion_id,
        cast(count(*) as integer) as step_count,
        cast(sum(event_count) as integer) as event_count,
        max(stage_rank) as max_stage_rank,
        cast(sum(case when is_jump_back then 1 else 0 end) as integer) as jump_back_count,
        min(case when step_number = 1 then first_event_id end) as first_event_id
    from steps
    group by journey_id
),

-- Touches that came after the conversion led to nothing, so they stand in no path.
touches as (
    select journey_id, touchpoint_id, min(channel) as channel, min(step_number) as touch_order
    from steps
    where not is_after_conversion
    group by journey_id, touchpoint_id
),

paths as (
    select
        journey_id,
        cast(count(*) as integer) as touch_count,
        min_by(channel, touch_order) as first_channel,
        max_by(channel, touch_order) as last_channel,
        {{ x_ordered_join('channel', ' > ', ['touch_order']) }} as channel_path
    from touches
    group by journey_id
),

judged as (
    select
        journeys.journey_id,
        journeys.customer_id,
        journeys.goal,
        {{ journey_status('conversions.occurred_at', 'journeys.ended_at') }} as status,
        journeys.started_at,
        journeys.ended_at,
        conversions.occurred_at as converted_at,
        journeys.conversion_id,
        conversions.value_reporting as conversion_value,
        paths.touch_count,
        journeys.step_count,
        journeys.event_count,
        paths.first_channel,
        paths.last_channel,
        paths.channel_path,
        {{ stage_of_rank('journeys.max_stage_rank') }} as max_stage,
        journeys.jump_back_count,
        ({{ x_epoch_us('coalesce(conversions.occurred_at, journeys.ended_at)') }} - {{ x_epoch_us('journeys.started_at') }}) / cast(86400000000 as double) as duration_days,
        journeys.first_event_id
    from journeys
    inner join paths on paths.journey_id = journeys.journey_id
    left join conversions on conversions.conversion_id = journeys.conversion_id
),

{% if is_incremental() -%}
-- Time alone changes these: data_now moved, so an open journey lapsed. Nothing else about them did.
overtaken as (
    select
        known.journey_id, known.customer_id, known.goal,
        {{ journey_status('known.converted_at', 'known.ended_at') }} as status,
        known.started_at, known.ended_at, known.converted_at, known.conversion_id, known.conversion_value, known.touch_count, known.step_count, known.event_count,
        known.first_channel, known.last_channel, known.channel_path, known.max_stage, known.jump_back_count, known.duration_days, known.first_event_id
    from {{ this }} as known
    where {{ restated('journey_status', 'known') }} and not ({{ is_restated_known }})
),

{% endif -%}
current_journeys as (
    select * from judged
    {%- if is_incremental() %}
    union all
    select * from overtaken
    {%- endif %}
)

select * from current_journeys
