{#- In the outputs, because views of what is published read it. Made anew by each run, because time alone moves it. -#}
{{ config(materialized='table', database='outputs') }}

with memberships as (
    select node_id, customer_id from {{ source('identity', 'memberships') }}
),

clock as (
    select {{ data_now() }} as data_now
),

rules as (
    {{ consent_absence_rules() }}
),

anywhere as (
    select scope, is_denied from rules where jurisdiction = 'default'
),

{{ consent_act_ctes() }},

{{ consent_acts_of_customers_cte() }},

-- What stands by the acts up to data_now, and by those of clocks that run ahead, too.
standing as (
    select
        acts.customer_id,
        acts.scope,
        max_by(acts.granted_until, {{ x_order_key(consent_order('acts')) }}) filter (where acts.occurred_at <= clock.data_now) as granted_until,
        max_by(acts.granted_until > greatest(acts.occurred_at, clock.data_now), {{ x_order_key(consent_order('acts')) }}) as is_granted_last
    from of_customers as acts
    cross join clock
    group by acts.customer_id, acts.scope
),

places as (
    select distinct memberships.customer_id, place.jurisdiction
    from {{ ref('int_event_jurisdictions') }} as place
    {{ x_unnest_with_position('place.node_ids', 'nodes') }}
    inner join memberships on memberships.node_id = nodes.element
),

located as (
    select places.customer_id, anywhere.scope, max(case when coalesce(rules.is_denied, anywhere.is_denied) then 1 else 0 end) = 1 as is_denied
    from places
    cross join anywhere
    left join rules on rules.scope = anywhere.scope and rules.jurisdiction = places.jurisdiction
    group by places.customer_id, anywhere.scope
),

asked as (
    select customer_id, scope from standing
    union
    select memberships.customer_id, anywhere.scope from memberships cross join anywhere
),

denied as (
    select asked.customer_id, asked.scope
    from asked
    cross join clock
    left join standing on standing.customer_id = asked.customer_id and standing.scope = asked.scope
    left join located on located.customer_id = asked.customer_id and located.scope = asked.scope
    left join anywhere on anywhere.scope = asked.scope
    where coalesce(not standing.is_granted_last, false)
        or case
            when standing.granted_until is not null then standing.granted_until <= clock.data_now
            else coalesce(located.is_denied, anywhere.is_denied, false)
        end
),

-- Whoever the person was known as before.
spread as (
    select
        denied.scope,
        history.customer_id,
        history.valid_from,
        nullif(max(coalesce(history.valid_to, timestamp '9999-12-31 00:00:00')), timestamp '9999-12-31 00:00:00') as valid_to
    from denied
    inner join memberships on memberships.customer_id = denied.customer_id
    inner join {{ source('identity', 'membership_history') }} as history on history.node_id = memberships.node_id
    group by denied.scope, history.customer_id, history.valid_from
),

denied_today as (
    select
        customer_id || '_' || scope || '_' || cast({{ x_epoch_us('valid_from') }} as varchar) as denial_id,
        customer_id,
        scope,
        valid_from,
        valid_to
    from spread
)

select * from denied_today
