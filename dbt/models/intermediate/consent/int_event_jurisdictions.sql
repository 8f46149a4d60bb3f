{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
{%- set arriving = pending_events if is_incremental() else all_events %}
{#- Asked only where some jurisdiction's absence means something else than another's. #}
{%- set places = var('consent_jurisdictions') if var('consent_denied_when_absent') else {} %}
{%- set all_countries = [] %}
{%- for countries in places.values() %} {%- do all_countries.extend(countries) %} {%- endfor %}
{#- A country of none tells that what holds elsewhere holds for the person, too: of use where that is stricter than what some jurisdiction says. #}

with events as (
    select event_id, source, occurred_at, identifiers, country, cast(null as varchar) as told
    from {{ arriving }}
    where identifiers is not null and {{ 'country is not null' if var('consent_elsewhere_tells') else 'country in (' ~ sql_text_list(all_countries) ~ ')' }}
    {%- if var('consent_denied_when_absent') %}
    union all
    select event_id, source, occurred_at, identifiers, cast(null as varchar), consent_act.jurisdiction
    from {{ arriving }}
    where identifiers is not null and consent_act.jurisdiction is not null
    {%- endif %}
),

placed as (
    select
        event_id || '_' || case when told is null then 'country' else 'act' end as event_jurisdiction_id,
        event_id,
        source,
        occurred_at,
        {{ x_node_ids('identifiers') }} as node_ids,
        {#- What is told may be a jurisdiction or one of its countries, in any case; else it stands as it is told, and falls under what holds elsewhere. #}
        coalesce(
            {%- for place in places %}
            case when lower(trim(told)) = {{ sql_text(place | trim | lower) }} then {{ sql_text(place) }} end,
            {%- endfor %}
            {%- for place, countries in places.items() %}
            case when lower(trim(told)) in ({{ sql_text_list(countries | map('trim') | map('lower') | list) }}) then {{ sql_text(place) }} end,
            {%- endfor %}
            told,
            {%- for place, countries in places.items() %}
            case when country in ({{ sql_text_list(countries) }}) then {{ sql_text(place) }} end,
            {%- endfor %}
            case when country is not null then 'default' end
        ) as jurisdiction
    from events
)

select * from placed
