-- Per goal, the steps' events are all counted events that have a customer: journeys lose none and count none twice.
with stepped as (
    select goal, sum(event_count) as event_count from {{ ref('fct_journey_steps') }} group by goal
),

known as (
    select count(*) as event_count from {{ ref('fct_events') }} where customer_id is not null
)

select stepped.goal, stepped.event_count, known.event_count as expected_count
from stepped cross join known
where stepped.event_count <> known.event_count
