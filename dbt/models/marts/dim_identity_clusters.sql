{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('nodes', 'membership') %}

with memberships as (
    select * from {{ source('identity', 'membership_history') }} as membership
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
),

nodes as (
    select node_id, identifier_type, identifier_value from {{ source('identity', 'nodes') }}
),

clusters as (
    select
        cast(memberships.node_id as varchar) || '_' || cast({{ x_epoch_us('memberships.valid_from') }} as varchar) as membership_id,
        memberships.node_id,
        nodes.identifier_type,
        nodes.identifier_value as identifier,
        memberships.customer_id,
        memberships.valid_from,
        memberships.valid_to,
        memberships.method,
        memberships.confidence,
        memberships.weakest_estimated_link,
        {{ sure_enough('memberships', 'sending') }} as is_sure_for_sending
    from memberships
    inner join nodes on nodes.node_id = memberships.node_id
)

select * from clusters
