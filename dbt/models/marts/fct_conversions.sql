{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated_event = restated('customers', 'event') ~ ' or ' ~ restated('events', 'event') %}
{%- set is_restated_step = restated('customers', 'step') %}

with placed as (
    select event.event_id, event.customer_id, event.session_id, event.channel, event.reporting_date
    from {{ ref('int_events_sessionized') }} as event
    where event.is_conversion_event
    {%- if is_incremental() %} and ({{ is_restated_event }}) {%- endif %}
),

conversions as (
    select * from {{ ref('int_conversions_deduplicated') }}
),

steps as (
    select step.conversion_id, step.journey_id, step.touchpoint_id, step.channel
    from {{ ref('fct_journey_steps') }} as step
    where step.is_conversion
    {%- if is_incremental() %} and {{ is_restated_step }} {%- endif %}
),

attributed as (
    select
        conversions.conversion_id,
        conversions.goal,
        conversions.event_id,
        conversions.order_id,
        conversions.source,
        placed.customer_id,
        steps.journey_id,
        placed.session_id,
        steps.touchpoint_id,
        coalesce(steps.channel, placed.channel) as channel,
        conversions.occurred_at,
        placed.reporting_date,
        conversions.value,
        conversions.currency,
        conversions.value_reporting,
        conversions.is_bot,
        conversions.is_internal,
        conversions.report_count
    from placed
    inner join conversions on conversions.event_id = placed.event_id
    left join steps on steps.conversion_id = conversions.conversion_id
)

select * from attributed
