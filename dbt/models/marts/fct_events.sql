{{ config(materialized='view') }}

with sessionized as (
    select * from {{ ref('int_events_sessionized') }}
),

events as (
    select
        event_id, source, source_event_id, event_type, occurred_at, received_at, session_key, anonymous_id, user_id, identifiers, source_channel,
        utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_type, click_id, referrer, referrer_host, page_url, page_host,
        page_path, screen, user_agent, device_type, os, browser, country, region, city, language, order_id, currency, properties, text,
        consent_scopes, value, value_reporting, is_internal, is_bot, is_counted, is_conversion_event, micro_conversion, channel, stage, session_id,
        customer_id, session_key_id, reporting_date
    from sessionized
)

select * from events
