{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated_conversion = restated('customers', 'conversion') %}
{%- set is_restated_membership = restated('customers', 'membership') %}
{%- set is_restated_step = restated('customers', 'step') %}

with memberships as (
    select membership.customer_id, membership.node_id
    from {{ source('identity', 'memberships') }} as membership
    {%- if is_incremental() %} where {{ is_restated_membership }} {%- endif %}
),

nodes as (
    select node_id, identifier_type, first_seen_at, last_seen_at from {{ source('identity', 'nodes') }}
),

-- Every run is a step toward every goal: those toward one are all runs.
steps as (
    select step.customer_id, step.session_id, step.is_touchpoint_start, step.channel, step.started_at, step.ended_at, step.event_count, step.first_event_id
    from {{ ref('int_journey_steps') }} as step
    where step.goal = {{ sql_text(var('goals')[0].name) }}
    {%- if is_incremental() %} and {{ is_restated_step }} {%- endif %}
),

conversion_events as (
    select conversion.customer_id, conversion.event_id, conversion.value_reporting, cast(count(*) as integer) as conversion_count, min(conversion.occurred_at) as occurred_at
    from {{ ref('fct_conversions') }} as conversion
    where conversion.customer_id is not null
    {%- if is_incremental() %} and {{ is_restated_conversion }} {%- endif %}
    group by conversion.customer_id, conversion.event_id, conversion.value_reporting
),

identified as (
    select
        memberships.customer_id,
        min(nodes.first_seen_at) as first_seen_at,
        max(nodes.last_seen_at) as last_seen_at,
        cast(count(*) as integer) as identifier_count,
        cast(sum(case when nodes.identifier_type = 'anonymous_id' then 1 else 0 end) as integer) as anonymous_id_count
    from memberships
    inner join nodes on nodes.node_id = memberships.node_id
    group by memberships.customer_id
),

active as (
    select
        customer_id,
        cast(sum(event_count) as bigint) as event_count,
        cast(sum(case when is_touchpoint_start and session_id is not null then 1 else 0 end) as integer) as session_count,
        cast(sum(case when is_touchpoint_start then 1 else 0 end) as integer) as touchpoint_count,
        min_by(channel, {{ x_order_key(['started_at', 'first_event_id']) }}) as first_channel,
        max_by(channel, {{ x_order_key(['started_at', 'first_event_id']) }}) as last_channel
    from steps
    group by customer_id
),

-- An event that reaches two goals is two conversions, but one sum of money.
converted as (
    select
        customer_id,
        cast(sum(conversion_count) as integer) as conversion_count,
        cast(sum(value_reporting) as decimal(18, 4)) as revenue_amount,
        min(occurred_at) as first_converted_at,
        max(occurred_at) as last_converted_at
    from conversion_events
    group by customer_id
),

customers as (
    select
        identified.customer_id,
        identified.first_seen_at,
        identified.last_seen_at,
        identified.identifier_count,
        identified.anonymous_id_count,
        coalesce(active.event_count, 0) as event_count,
        coalesce(active.session_count, 0) as session_count,
        coalesce(active.touchpoint_count, 0) as touchpoint_count,
        coalesce(converted.conversion_count, 0) as conversion_count,
        cast(coalesce(converted.revenue_amount, 0) as decimal(18, 4)) as revenue_amount,
        active.first_channel,
        active.last_channel,
        converted.first_converted_at,
        converted.last_converted_at
    from identified
    left join active on active.customer_id = identified.customer_id
    left join converted on converted.customer_id = identified.customer_id
)

select * from customers
