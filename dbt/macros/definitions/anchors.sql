{#
  Which identifier an event counts for, and which events are conversions of the first goal: CTEs over_shared, conversions (event_id) and doubtful, of a
  CTE of events. An event counts for its first identifier, unless that one is over-shared; doubtful holds the events where it ever is: each of their
  identifiers with its position and the instant from which it is over-shared itself, NULL for never (event_id, node_id, position, over_shared_from).
#}
{% macro anchor_ctes(events) -%}
over_shared as (
    select node_id, over_shared_from from {{ source('identity', 'over_shared_since') }}
),

conversions as (
    select conversion.event_id from {{ ref('int_conversions_deduplicated') }} as conversion
    where conversion.goal = {{ sql_text(var('goals')[0].name) }}
),

doubtful as (
    select {{ events }}.event_id, nodes.element as node_id, nodes.position, over_shared.over_shared_from
    from {{ events }}
    inner join over_shared as shared_first on shared_first.node_id = {{ x_list_element(events ~ '.node_ids', 1) }}
    {{ x_unnest_with_position(events ~ '.node_ids', 'nodes') }}
    left join over_shared on over_shared.node_id = nodes.element
)
{%- endmacro %}
