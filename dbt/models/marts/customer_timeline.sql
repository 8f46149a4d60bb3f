{{ config(materialized='view') }}

with events as (
    select
        event_id, customer_id, occurred_at, source, event_type, channel, stage, session_id, event_number, utm_campaign, device_type, country,
        micro_conversion, is_conversion_event, value_reporting, {{ x_list_element('node_ids', 'identifier_number') }} as node_id
    from {{ ref('int_events_sessionized') }}
    where customer_id is not null
),

memberships as (
    select node_id, identifier_type, identifier, method, confidence
    from {{ ref('dim_identity_clusters') }}
    where valid_to is null
),

timeline as (
    select
        events.customer_id,
        events.occurred_at,
        events.event_id,
        events.source,
        events.channel,
        events.event_type,
        events.stage,
        events.session_id,
        events.event_number,
        events.utm_campaign,
        events.device_type,
        events.country,
        events.micro_conversion,
        events.is_conversion_event,
        events.value_reporting,
        memberships.identifier_type,
        memberships.identifier,
        memberships.method,
        memberships.confidence
    from events
    inner join memberships on memberships.node_id = events.node_id
)

select * from timeline
