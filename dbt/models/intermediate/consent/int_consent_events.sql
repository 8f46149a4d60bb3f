{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
{%- set arriving = pending_events if is_incremental() else all_events %}
{%- set lists = {'grant': 'granted', 'withdraw': 'withdrawn', 'expire': 'expired'} %}

with events as (
    select event_id, source, occurred_at, received_at, identifiers, consent_act
    from {{ arriving }}
    where consent_act is not null
),

named as (
    select
        events.event_id,
        events.source,
        events.occurred_at,
        events.received_at,
        {{ x_node_ids('events.identifiers') }} as node_ids,
        events.consent_act
    from events
),

{%- for action, list in lists.items() %}

{{ list }} as (
    select named.*, scopes.element as scope, '{{ action }}' as action
    from named
    {{ x_unnest_with_position('named.consent_act.' ~ list, 'scopes') }}
),
{%- endfor %}

acts as (
    {%- for list in lists.values() %}
    select * from {{ list }} {{ "union all" if not loop.last }}
    {%- endfor %}
),

told as (
    select
        acts.event_id || '_' || acts.scope || '_' || acts.action as consent_event_id,
        acts.event_id,
        acts.source,
        acts.occurred_at,
        acts.received_at,
        acts.node_ids,
        acts.scope,
        acts.action,
        case when acts.action = 'grant' then acts.consent_act.expires_at end as expires_at,
        acts.consent_act.channel as channel,
        acts.consent_act.jurisdiction as jurisdiction,
        acts.consent_act.policy_version as policy_version,
        acts.consent_act.stated_by as stated_by,
        acts.consent_act.is_statement as is_statement
    from acts
)

select * from told
