{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('orders', 'event') ~ ' or ' ~ restated('events', 'event') %}

with conversion_events as (
    select
        event.event_id, event.goals, event.order_id, event.source, event.occurred_at, event.value, event.currency, event.value_reporting, event.is_bot,
        event.is_internal, event.is_counted
    from {{ ref('int_events_sessionized') }} as event
    where event.is_conversion_event
    {%- if is_incremental() %}
        and ({{ is_restated }})
    {%- endif %}
),

reached as (
    {%- for goal in var('goals') %}
    select
        {{ sql_text(goal.name) }} as goal,
        event_id, order_id, source, occurred_at, value, currency, value_reporting, is_bot, is_internal, is_counted
    from conversion_events
    where {{ x_list_contains('goals', sql_text(goal.name)) }}
    {{ "union all" if not loop.last }}
    {%- endfor %}
),

-- Without an order id each event is an order of its own.
gapped as (
    select
        *,
        coalesce(order_id, 'event|' || event_id) as order_key,
        {{ x_epoch_us('occurred_at') }} - lag({{ x_epoch_us('occurred_at') }}) over (
            partition by goal, coalesce(order_id, 'event|' || event_id), order_id is null, value, currency
            order by occurred_at asc nulls first, event_id asc nulls first
        ) as gap_us
    from reached
),

chained as (
    select
        *,
        cast(sum(case when gap_us > 86400000000 then 1 else 0 end) over (
            partition by goal, order_key, order_id is null, value, currency
            order by occurred_at asc nulls first, event_id asc nulls first rows unbounded preceding
        ) as integer) as chain_number
    from gapped
),

-- A person's report survives before a server's or a crawler's, or the purchase would be nobody's.
counted as (
    select
        *,
        row_number() over (
            partition by goal, order_key, order_id is null, value, currency, chain_number
            order by is_counted desc nulls last, occurred_at asc nulls first, event_id asc nulls first
        ) as report_number,
        cast(count(*) over (partition by goal, order_key, order_id is null, value, currency, chain_number) as integer) as report_count
    from chained
),

surviving as (
    select
        'o_' || substr(md5(goal || '|' || event_id), 1, 24) as conversion_id,
        goal,
        event_id,
        order_id,
        source,
        occurred_at,
        value,
        currency,
        value_reporting,
        is_bot,
        is_internal,
        report_count
    from counted
    where report_number = 1
)

select * from surviving
