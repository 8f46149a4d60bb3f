{{ config(materialized='view') }}

with stored as (
    select * from {{ ref('int_journey_steps') }}
),

steps as (
    select
        first_event_id || '_' || goal as journey_step_id,
        journey_id,
        step_number,
        customer_id,
        goal,
        session_id,
        touchpoint_id,
        channel,
        stage,
        previous_stage,
        is_jump_back,
        is_conversion,
        is_after_conversion,
        conversion_id,
        started_at,
        ended_at,
        event_count,
        first_event_id,
        coalesce(last_event_id, first_event_id) as last_event_id
    from stored
)

select * from steps
