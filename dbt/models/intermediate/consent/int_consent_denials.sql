{#- In the outputs, because the feature views, which are published, read it. -#}
{{ config(materialized='incremental', incremental_strategy='restate', database='outputs') }}
{%- set is_restated = restated('feature_customers', 'history') %}

with history as (
    select history.node_id, history.customer_id, history.valid_from, history.valid_to
    from {{ source('identity', 'membership_history') }} as history
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- endif %}
),

rules as (
    {{ consent_absence_rules() }}
),

anywhere as (
    select scope, is_denied from rules where jurisdiction = 'default'
),

{{ consent_act_ctes('nodes.element in (select history.node_id from history)') }},

-- An act counts for a customer once it was done and its identifier was known to be the customer's, and until it was known to be another's.
visible as (
    select
        history.customer_id,
        acts.scope,
        acts.occurred_at,
        acts.strictness,
        acts.event_id,
        acts.granted_until,
        acts.is_repeated,
        greatest(acts.occurred_at, history.valid_from) as known_from,
        history.valid_to as known_to
    from acts
    inner join history on history.node_id = acts.node_id
    where history.valid_to is null or acts.occurred_at < history.valid_to
),

places as (
    select nodes.element as node_id, place.jurisdiction, min(place.occurred_at) as first_seen_at
    from {{ ref('int_event_jurisdictions') }} as place
    {{ x_unnest_with_position('place.node_ids', 'nodes') }}
    where nodes.element in (select history.node_id from history)
    group by nodes.element, place.jurisdiction
),

-- A person is under each law that any identifier was ever seen under; one that says nothing of a scope means what holds anywhere.
located as (
    select
        history.customer_id,
        anywhere.scope,
        coalesce(rules.is_denied, anywhere.is_denied) as is_denied,
        greatest(places.first_seen_at, history.valid_from) as known_from,
        history.valid_to as known_to
    from places
    inner join history on history.node_id = places.node_id
    cross join anywhere
    left join rules on rules.scope = anywhere.scope and rules.jurisdiction = places.jurisdiction
    where history.valid_to is null or places.first_seen_at < history.valid_to
),

-- The instants at which the answer may change.
turns as (
    select customer_id, scope, known_from as turned_at from visible
    union
    select customer_id, scope, known_to from visible where known_to is not null
    union
    select customer_id, scope, granted_until from visible
    where granted_until > known_from and granted_until < coalesce(known_to, timestamp '9999-12-31 00:00:00')
    union
    select customer_id, scope, known_from from located
    union
    select customer_id, scope, known_to from located where known_to is not null
    union
    select history.customer_id, anywhere.scope, history.valid_from from history cross join anywhere
    union
    select history.customer_id, anywhere.scope, history.valid_to from history cross join anywhere where history.valid_to is not null
),

spans as (
    select
        customer_id,
        scope,
        turned_at as valid_from,
        lead(turned_at) over (partition by customer_id, scope order by turned_at asc nulls first) as valid_to
    from turns
),

-- The acts that are known in each span, once each. A grant that was stated before of one of the event's identifiers is none while that one is the customer's.
known as (
    select spans.customer_id, spans.scope, spans.valid_from, visible.event_id, visible.occurred_at, visible.strictness, visible.granted_until
    from spans
    inner join visible on {{ is_known_in_span('visible') }}
    group by spans.customer_id, spans.scope, spans.valid_from, visible.event_id, visible.occurred_at, visible.strictness, visible.granted_until
    having max(case when visible.is_repeated then 1 else 0 end) = 0
),

standing as (
    select
        spans.customer_id,
        spans.scope,
        spans.valid_from,
        spans.valid_to,
        max_by(known.granted_until, {{ x_order_key(consent_order('known')) }}) as granted_until
    from spans
    left join known on known.customer_id = spans.customer_id and known.scope = spans.scope and known.valid_from = spans.valid_from
    group by spans.customer_id, spans.scope, spans.valid_from, spans.valid_to
),

absent as (
    select spans.customer_id, spans.scope, spans.valid_from, max(case when located.is_denied then 1 else 0 end) = 1 as is_denied
    from spans
    inner join located on {{ is_known_in_span('located') }}
    group by spans.customer_id, spans.scope, spans.valid_from
),

answered as (
    select
        standing.customer_id,
        standing.scope,
        standing.valid_from,
        standing.valid_to,
        case
            when standing.granted_until is not null then standing.granted_until <= standing.valid_from
            else coalesce(absent.is_denied, anywhere.is_denied, false)
        end as is_denied
    from standing
    left join absent on absent.customer_id = standing.customer_id and absent.scope = standing.scope and absent.valid_from = standing.valid_from
    left join anywhere on anywhere.scope = standing.scope
),

-- Spans that follow each other and say the same are one: an instant at which nothing changed, which turns on what a run looks at, leaves no mark.
numbered as (
    select
        customer_id,
        scope,
        valid_from,
        valid_to,
        is_denied,
        row_number() over (partition by customer_id, scope order by valid_from asc nulls first)
        - row_number() over (partition by customer_id, scope, is_denied order by valid_from asc nulls first) as stretch
    from answered
),

denials as (
    select
        customer_id || '_' || scope || '_' || cast({{ x_epoch_us('min(valid_from)') }} as varchar) as denial_id,
        customer_id,
        scope,
        min(valid_from) as valid_from,
        case when count(valid_to) = count(*) then max(valid_to) end as valid_to
    from numbered
    where is_denied
    group by customer_id, scope, stretch
)

select * from denials
