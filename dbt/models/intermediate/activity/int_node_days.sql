{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('nodes', 'named') %}

-- in slices of time of {{ ref('int_events_sessionized') }}
with events as (
    select
        {{- activity_columns('event') }}
    from {{ ref('int_events_sessionized') }} as event
    where event.is_counted and event.node_ids is not null
        -- slice of time: and event.occurred_at
    {%- if is_incremental() %}
        -- By instant: narrow, and it leaves out no event of a restated identifier. Another's event of the same instant comes along and is dropped in the last step.
        and event.occurred_at in (
            select named.occurred_at
            from (
                select listed.occurred_at, nodes.element as node_id
                from {{ ref('int_events_sessionized') }} as listed {{ x_unnest_with_position('listed.node_ids', 'nodes') }}
            ) as named
            where {{ is_restated }}
        )
    {%- endif %}
),

{{ anchor_ctes('events') }},

-- Where the first identifier becomes over-shared, the event counts for the next from then on, and so forth.
followed as (
    select
        *,
        max(over_shared_from) over earlier_nodes as usable_from,
        cast(sum(case when over_shared_from is null then 1 else 0 end) over earlier_nodes as integer) as lasting_node_count
    from doubtful
    window earlier_nodes as (partition by event_id order by position asc nulls first rows between unbounded preceding and 1 preceding)
),

anchored as (
    select event.*, {{ x_list_element('event.node_ids', 1) }} as node_id, cast(null as timestamp) as usable_from
    from events as event
    union all
    select event.*, followed.node_id, followed.usable_from
    from followed
    inner join events as event on event.event_id = followed.event_id
    where followed.position > 1 and followed.lasting_node_count = 0
),

measured as (
    select
        event.node_id,
        event.usable_from,
        date_trunc('day', event.occurred_at) as day_at,
        {%- for name, expression, kind in added_measures() %}
        cast(sum({{ expression }}) as {{ kind }}) as {{ name }},
        {%- endfor %}
        {%- for name, expression, merge in extreme_measures() %}
        {{ merge }}({{ expression }}) as {{ name }}{{ "," if not loop.last }}
        {%- endfor %}
    from anchored as event
    left join conversions as conversion on event.is_conversion_event and conversion.event_id = event.event_id
    group by event.node_id, event.usable_from, date_trunc('day', event.occurred_at)
),

days as (
    select named.*
    from measured as named
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
)

select * from days
