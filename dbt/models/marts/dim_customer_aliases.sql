{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('customers', 'membership') %}

with memberships as (
    select membership.node_id, membership.customer_id
    from {{ source('identity', 'memberships') }} as membership
    {%- if is_incremental() %} where {{ is_restated }} {%- endif %}
),

nodes as (
    select node_id, node_customer_id from {{ source('identity', 'nodes') }}
),

-- A customer's id is one of its identifiers' own ids, so every id that ever stood for somebody is an identifier's.
aliases as (
    select nodes.node_customer_id as alias_customer_id, memberships.customer_id
    from nodes
    inner join memberships on memberships.node_id = nodes.node_id
)

select * from aliases
