{#- In the outputs, because the label, which is published, is a view of it. Rows come in the order of the points that they belong to, a customer's side by side. -#}
{{ config(materialized='incremental', incremental_strategy='restate', database='outputs') }}
{%- set horizon = var('horizon_days') | int %}
{%- set is_fresh, is_restated = restated('fresh_labels', 'point'), restated('feature_customers', 'point') %}
{#- Two questions, not one with `or`: an engine would look at the whole of every point to answer that. #}
{%- set asked = ['and ' ~ is_fresh, 'and ' ~ is_restated ~ ' and not ' ~ is_fresh] if is_incremental() else [''] %}

with points as (
    {%- for condition in asked %}
    select point.customer_id, point.as_of_at
    from {{ ref('int_customer_activity') }} as point
    where {{ x_add_days('point.as_of_at', horizon) }} <= {{ data_now() }} {{ condition }}
        and {{ consented('point') }}
    {{ "union all" if not loop.last }}
    {%- endfor %}
),

history as (
    select history.node_id, history.customer_id, history.valid_from, history.valid_to
    from {{ source('identity', 'membership_history') }} as history
    where {{ sure_enough('history', 'scoring') }}
),

conversions as (
    select event.event_id, event.occurred_at, event.value_reporting, event.node_ids
    from {{ ref('int_events_sessionized') }} as event
    inner join {{ ref('int_conversions_deduplicated') }} as conversion on conversion.event_id = event.event_id
    where conversion.goal = {{ sql_text(var('goals')[0].name) }} and event.is_counted and event.node_ids is not null
),

weeks as (
    {%- for week in range(0, (horizon + 6) // 7 + 1) %}
    select {{ -7 * week }} as days_ahead {{ "union all" if not loop.last }}
    {%- endfor %}
),

-- Each conversion with the points whose horizon holds it.
aimed as (
    select
        conversions.event_id,
        conversions.occurred_at,
        conversions.value_reporting,
        conversions.node_ids,
        {{ x_add_days("date_trunc('week', conversions.occurred_at)", 'weeks.days_ahead') }} as as_of_at
    from conversions
    cross join weeks
    where conversions.occurred_at < {{ x_add_days("date_trunc('week', conversions.occurred_at)", 'weeks.days_ahead + ' ~ horizon) }}
),

-- The person as known when the horizon ends: the event's first identifier that is not over-shared by then.
candidates as (
    select aimed.event_id, aimed.as_of_at, history.customer_id, nodes.position
    from aimed
    {{ x_unnest_with_position('aimed.node_ids', 'nodes') }}
    inner join history
        on history.node_id = nodes.element
        and history.valid_from < {{ x_add_days('aimed.as_of_at', horizon) }}
        and (history.valid_to is null or {{ x_add_days('aimed.as_of_at', horizon) }} <= history.valid_to)
),

buyers as (
    select event_id, as_of_at, min_by(customer_id, position) as customer_id from candidates group by event_id, as_of_at
),

-- Whoever that person was known as at the point.
known_buyers as (
    select distinct buyers.event_id, buyers.as_of_at, earlier.customer_id
    from buyers
    inner join history as later
        on later.customer_id = buyers.customer_id
        and later.valid_from < {{ x_add_days('buyers.as_of_at', horizon) }}
        and (later.valid_to is null or {{ x_add_days('buyers.as_of_at', horizon) }} <= later.valid_to)
    inner join history as earlier
        on earlier.node_id = later.node_id
        and earlier.valid_from < buyers.as_of_at
        and (earlier.valid_to is null or buyers.as_of_at <= earlier.valid_to)
),

converted as (
    select
        known_buyers.customer_id,
        known_buyers.as_of_at,
        min(conversions.occurred_at) as first_converted_at,
        cast(sum(coalesce(conversions.value_reporting, 0)) as decimal(18, 4)) as conversion_value
    from known_buyers
    inner join conversions on conversions.event_id = known_buyers.event_id
    group by known_buyers.customer_id, known_buyers.as_of_at
),

labels as (
    select
        points.customer_id,
        points.as_of_at,
        converted.customer_id is not null as is_converted,
        converted.first_converted_at,
        converted.conversion_value
    from points
    left join converted on converted.customer_id = points.customer_id and converted.as_of_at = points.as_of_at
)

select * from labels
