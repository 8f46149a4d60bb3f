{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('nodes', 'link') %}

with links as (
    select
        node_a as node_id,
        node_b as other_node_id,
        evidence_kind,
        first_seen_at,
        last_seen_at,
        event_count,
        first_event_id,
        last_event_id,
        probability,
        estimation_version
    from {{ source('identity', 'edges') }}
),

restated_links as (
    select * from links as link
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
),

nodes as (
    select node_id, identifier_type, identifier_value from {{ source('identity', 'nodes') }}
),

edges as (
    select
        cast(link.node_id as varchar) || '_' || cast(link.other_node_id as varchar) || '_' || link.evidence_kind as edge_id,
        link.node_id,
        node.identifier_type,
        node.identifier_value,
        link.other_node_id,
        other_node.identifier_type as other_identifier_type,
        other_node.identifier_value as other_identifier_value,
        link.evidence_kind,
        link.first_seen_at,
        link.last_seen_at,
        link.event_count,
        link.first_event_id,
        link.last_event_id,
        link.probability,
        link.estimation_version
    from restated_links as link
    left join nodes as node on node.node_id = link.node_id
    left join nodes as other_node on other_node.node_id = link.other_node_id
)

select * from edges
