{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
{%- set is_restated = restated('placements', 'event') %}
{%- set is_restated_known = restated('placements', 'known_event') %}

with sessionized as (
    select
        event.event_id, event.session_key_id, event.session_id, event.customer_id, event.channel, event.stage, event.is_bot, event.is_counted,
        event.is_conversion_event, event.micro_conversion, event.value_reporting, event.reporting_date
    from {{ ref('int_events_sessionized') }} as event
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
),

{% if is_incremental() -%}
-- What is already here is not read from the lake again: the wide columns of an event that is not pending have not changed.
pending as (
    select {{ canonical_columns() | join(', ') }} from {{ pending_events }}
),

known as (
    select {{ canonical_columns() | join(', ') }}
    from {{ this }} as known_event
    where {{ is_restated_known }}
        and known_event.event_id not in (select event_id from pending)
),

events as (
    select * from pending
    union all
    select * from known
),
{%- else -%}
events as (
    select {{ canonical_columns() | join(', ') }} from {{ all_events }}
),
{%- endif %}

widened as (
    select
        {%- for column in canonical_columns() if column not in ('is_internal', 'value') %}
        events.{{ column }},
        {%- endfor %}
        cast(events.value as decimal(18, 4)) as value,
        sessionized.value_reporting,
        coalesce(events.is_internal, false) as is_internal,
        sessionized.is_bot,
        sessionized.is_counted,
        sessionized.is_conversion_event,
        sessionized.micro_conversion,
        sessionized.channel,
        sessionized.stage,
        sessionized.session_id,
        sessionized.customer_id,
        sessionized.session_key_id,
        sessionized.reporting_date
    from events
    inner join sessionized on sessionized.event_id = events.event_id
)

select * from widened
