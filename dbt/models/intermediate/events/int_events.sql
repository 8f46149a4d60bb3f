{{ config(
    materialized='incremental',
    incremental_strategy='restate',
    tags=['before_identity'],
) }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
-- depends_on: {{ ref('stg_pending_events') }}

with events as (
    select * from {{ pending_events if is_incremental() else all_events }}
),

rates as (
    {{ dated_rates() }}
),

arrived as (
    select
        events.*,
        {{ declared_channel('events.source_channel') }} as declared_channel,
        {{ is_external_referrer('events.referrer_host', 'events.page_host') }} as is_referred,
        {{ click_id_says_paid('events.click_id_type', 'events.utm_medium', 'events.utm_campaign') }} as click_says_paid,
        {{ is_bot('events.user_agent') }} as is_bot,
        {{ stage('events.event_type') }} as stage,
        {{ is_conversion('events.event_type') }} as is_conversion_event,
        {{ x_local_date('events.occurred_at', var('reporting_timezone')) }} as reporting_date
    from events
),

tagged as (
    select
        arrived.*,
        case when arrived.utm_source is not null then lower(arrived.utm_source) when arrived.is_referred then lower(arrived.referrer_host) end as traffic_source,
        case when arrived.utm_medium is not null then lower(arrived.utm_medium) when arrived.is_referred and arrived.utm_source is null and arrived.utm_campaign is null then 'referral' end as traffic_medium,
        lower(arrived.utm_campaign) as traffic_campaign
    from arrived
),

categorised as (
    select
        tagged.*,
        coalesce({{ traffic_source_category('tagged.traffic_source') }}, {{ click_id_category('tagged.click_id_type') }}) as source_category
    from tagged
),

narrowed as (
    select
        categorised.event_id,
        categorised.source,
        categorised.event_type,
        categorised.occurred_at,
        categorised.received_at,
        {{ x_visitor_key('categorised.session_key') }} as session_key_id,
        categorised.identifiers,
        {{ x_node_ids('categorised.identifiers') }} as node_ids,
        {{ channel_group('categorised') }} as channel,
        categorised.stage,
        categorised.is_bot,
        coalesce(categorised.is_internal, false) as is_internal,
        {{ counts_toward_journeys('categorised.is_bot', 'coalesce(categorised.is_internal, false)') }} as is_counted,
        categorised.is_conversion_event,
        {{ goals_reached('categorised.event_type') }} as goals,
        {{ micro_conversion('categorised.event_type') }} as micro_conversion,
        categorised.order_id,
        cast(categorised.value as decimal(18, 4)) as value,
        case
            when categorised.currency = {{ sql_text(var('reporting_currency')) }} then cast(categorised.value as decimal(18, 4))
            else cast(cast(categorised.value as decimal(18, 4)) * rates.rate as decimal(18, 4))
        end as value_reporting,
        categorised.currency,
        categorised.reporting_date
    from categorised
    left join rates
        on rates.currency = categorised.currency
        and categorised.value is not null
        and rates.valid_from <= categorised.reporting_date
        and (rates.valid_to is null or categorised.reporting_date < rates.valid_to)
)

select * from narrowed
