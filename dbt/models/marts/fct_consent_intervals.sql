{{ config(materialized='incremental', incremental_strategy='restate') }}
{%- set is_restated = restated('feature_customers', 'membership') %}

with memberships as (
    select membership.node_id, membership.customer_id
    from {{ source('identity', 'memberships') }} as membership
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
),

{{ consent_act_ctes('nodes.element in (select memberships.node_id from memberships)') }},

{{ consent_acts_of_customers_cte() }},

ended as (
    select
        *,
        lead(occurred_at) over (
            partition by customer_id, scope
            order by occurred_at asc nulls first, strictness asc nulls first, granted_until desc nulls last, event_id asc nulls first
        ) as next_at
    from of_customers
),

-- Of several acts of one instant only the last one stands for any time.
lasting as (
    select
        *,
        granted_until > occurred_at and (next_at is null or granted_until < next_at) and granted_until < timestamp '9999-12-31 00:00:00' as is_lapsing
    from ended
    where next_at is null or occurred_at < next_at
),

states as (
    select
        customer_id,
        scope,
        event_id,
        action,
        case
            when action = 'withdraw' then 'withdrawn'
            when action = 'expire' or granted_until <= occurred_at then 'expired'
            else 'granted'
        end as state,
        occurred_at as valid_from,
        case when is_lapsing then granted_until else next_at end as valid_to
    from lasting
    union all
    select customer_id, scope, event_id, action, 'expired' as state, granted_until as valid_from, next_at as valid_to
    from lasting
    where is_lapsing
),

intervals as (
    select
        states.customer_id || '_' || states.scope || '_' || cast({{ x_epoch_us('states.valid_from') }} as varchar) as consent_interval_id,
        states.customer_id,
        states.scope,
        states.state,
        states.valid_from,
        states.valid_to,
        act.channel,
        act.jurisdiction,
        act.policy_version,
        coalesce(act.stated_by, act.source) as source,
        states.event_id
    from states
    inner join {{ ref('int_consent_events') }} as act
        on act.event_id = states.event_id
        and act.scope = states.scope
        and act.action = states.action
)

select * from intervals
