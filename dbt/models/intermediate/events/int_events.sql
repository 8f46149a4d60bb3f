{{ config(
    materialized='incremental',
    incremental_strategy='restate',
    tags=['before_identity'],
) }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
{%- set arriving = pending_events if is_incremental() else all_events %}

with events as (
    select * from {{ arriving }}
),

rates as (
    {{ dated_rates() }}
),

-- User agents, session keys and origins repeat: each different one is looked at once. They are read from the relation, not from the step above, so that no engine
-- keeps all wide events in memory to serve four readers.
agents as (
    select user_agent, {{ is_bot('user_agent') }} as is_bot
    from (select distinct user_agent from {{ arriving }} where user_agent is not null) as each_agent
),

session_keys as (
    select session_key, {{ x_visitor_key('session_key') }} as session_key_id
    from (select distinct session_key from {{ arriving }} where session_key is not null) as each_key
),

arrived as (
    select
        origin.*,
        {{ declared_channel('origin.source_channel') }} as declared_channel,
        {{ is_external_referrer('origin.referrer_host', 'origin.page_host') }} as is_referred,
        {{ click_id_says_paid('origin.click_id_type', 'origin.utm_medium', 'origin.utm_campaign') }} as click_says_paid
    from (select distinct {{ channel_inputs() | join(', ') }} from {{ arriving }}) as origin
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

origins as (
    select
        {%- for column in channel_inputs() %}
        categorised.{{ column }},
        {%- endfor %}
        {{ channel_group('categorised') }} as channel
    from categorised
),

classified as (
    select
        events.*,
        coalesce(agents.is_bot, false) as is_bot,
        session_keys.session_key_id,
        origins.channel,
        {{ x_local_date('events.occurred_at', var('reporting_timezone')) }} as reporting_date
    from events
    left join agents on agents.user_agent = events.user_agent
    left join session_keys on session_keys.session_key = events.session_key
    inner join origins
        on {% for column in channel_inputs() -%}
        origins.{{ column }} is not distinct from events.{{ column }} {{ "and " if not loop.last }}
        {%- endfor %}
),

narrowed as (
    select
        classified.event_id,
        classified.source,
        classified.event_type,
        classified.occurred_at,
        classified.session_key_id,
        {{ x_accounts_first('classified.identifiers') }} as identifiers,
        {{ x_node_ids(x_accounts_first('classified.identifiers')) }} as node_ids,
        classified.channel,
        {{ stage('classified.event_type') }} as stage,
        classified.is_bot,
        coalesce(classified.is_internal, false) as is_internal,
        classified.device_type,
        {{ counts_toward_journeys('classified.is_bot', 'coalesce(classified.is_internal, false)', is_consent_event('classified.consent_act')) }} as is_counted,
        {{ is_conversion('classified.event_type') }} as is_conversion_event,
        {{ goals_reached('classified.event_type') }} as goals,
        {{ micro_conversion('classified.event_type') }} as micro_conversion,
        classified.order_id,
        cast(classified.value as decimal(18, 4)) as value,
        case
            when classified.currency = {{ sql_text(var('reporting_currency')) }} then cast(classified.value as decimal(18, 4))
            -- One digit more than DuckDB multiplies in 18: else a million euros are too many.
            else cast(cast(classified.value as decimal(19, 4)) * rates.rate as decimal(18, 4))
        end as value_reporting,
        classified.currency,
        classified.reporting_date
    from classified
    left join rates
        on rates.currency = classified.currency
        and classified.value is not null
        and rates.valid_from <= classified.reporting_date
        and (rates.valid_to is null or classified.reporting_date < rates.valid_to)
)

select * from narrowed
