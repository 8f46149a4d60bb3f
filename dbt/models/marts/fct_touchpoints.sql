{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('first_placements', 'step', 'started_at') %}

-- in slices of time of {{ ref('int_events_sessionized') }}
-- Every run is a step toward every goal: those toward one are all runs.
with starts as (
    select step.touchpoint_id, step.customer_id, step.session_id, step.first_event_id, step.channel, step.started_at
    from {{ ref('int_journey_steps') }} as step
    where step.is_touchpoint_start and step.goal = {{ sql_text(var('goals')[0].name) }}
        -- slice of time: and step.started_at
    {%- if is_incremental() %}
        and {{ is_restated }}
    {%- endif %}
),

events as (
    select
        event_id, occurred_at, event_type, source, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_type, referrer_host
    from {{ ref('int_events_sessionized') }}
    -- slice of time: where occurred_at
),

-- The instant is joined on too: it lets the engine skip the parts of the event table that hold none of these.
touchpoints as (
    select
        starts.touchpoint_id,
        starts.customer_id,
        starts.started_at as occurred_at,
        starts.channel,
        events.source,
        events.event_type,
        events.utm_source,
        events.utm_medium,
        events.utm_campaign,
        events.utm_term,
        events.utm_content,
        events.click_id_type,
        events.referrer_host,
        starts.session_id,
        starts.first_event_id as event_id
    from starts
    inner join events on events.event_id = starts.first_event_id and events.occurred_at = starts.started_at
)

select * from touchpoints
