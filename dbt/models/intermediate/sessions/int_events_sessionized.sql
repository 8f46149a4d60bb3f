{#- In the outputs, and wide: the one table of all events. marts.fct_events is a view of it, so what models read and what analysts read is stored once. -#}
{{ config(materialized='incremental', incremental_strategy='restate', database='outputs') }}
{%- set all_events, pending_events = ref('stg_events'), ref('stg_pending_events') %}
{%- set is_restated = restated('placements', 'event') %}
{%- set is_restated_known = restated('placements', 'known_event') %}

with events as (
    select
        event.event_id, event.occurred_at, event.session_key_id, event.node_ids, event.channel, event.stage, event.is_bot, event.is_counted,
        event.is_conversion_event, event.goals, event.micro_conversion, event.value_reporting, event.reporting_date
    from {{ ref('int_events') }} as event
    {%- if is_incremental() %}
    where {{ is_restated }}
    {%- else %}
    -- part of keys: where event.session_key_id
    {%- endif %}
),

memberships as (
    select node_id, customer_id from {{ source('identity', 'memberships') }}
),

-- Sessions: narrow rows only, because they are what is sorted.
keyed as (
    select event_id, session_key_id, occurred_at, {{ stage_rank('stage') }} as stage_rank
    from events
    where is_counted and session_key_id is not null
),

gapped as (
    select
        *,
        {{ x_epoch_us('occurred_at') }} - lag({{ x_epoch_us('occurred_at') }}) over (
            partition by session_key_id order by occurred_at asc nulls first, event_id asc nulls first
        ) as gap_us
    from keyed
),

numbered as (
    select
        event_id,
        session_key_id,
        occurred_at,
        stage_rank,
        coalesce(gap_us > {{ session_gap_us() }}, true) as is_start,
        cast(sum(case when gap_us > {{ session_gap_us() }} then 1 else 0 end) over key_order as integer) as session_number,
        cast(row_number() over key_order as integer) as key_event_number
    from gapped
    window key_order as (partition by session_key_id order by occurred_at asc nulls first, event_id asc nulls first rows unbounded preceding)
),

started as (
    select
        session_key_id,
        session_number,
        key_event_number,
        occurred_at as session_started_at,
        {{ session_id('session_key_id', x_epoch_us('occurred_at'), 'event_id') }} as session_id
    from numbered
    where is_start
),

-- What an event is in its session looks at earlier events alone, so no later one can change it: features count these.
compared as (
    select
        event_id,
        session_key_id,
        session_number,
        key_event_number,
        coalesce(stage_rank = 3 and coalesce(cast(sum(case when stage_rank = 3 then 1 else 0 end) over earlier_events as integer), 0) = 0, false) as is_intent_start,
        stage_rank,
        last_value(stage_rank ignore nulls) over earlier_events as previous_stage_rank
    from numbered
    window earlier_events as (
        partition by session_key_id, session_number order by key_event_number asc nulls first rows between unbounded preceding and 1 preceding
    )
),

placed as (
    select
        compared.event_id,
        started.session_id,
        started.session_started_at,
        compared.key_event_number - started.key_event_number + 1 as event_number,
        compared.is_intent_start,
        coalesce(compared.stage_rank < compared.previous_stage_rank, false) as is_jump_back
    from compared
    inner join started
        on started.session_key_id = compared.session_key_id
        and started.session_number = compared.session_number
),

-- Customers: nearly always the first identifier's; the others are asked only where that one is nobody's.
doubtful as (
    select distinct events.node_ids
    from events
    left join memberships on memberships.node_id = {{ x_list_element('events.node_ids', 1) }}
    where events.is_counted and memberships.node_id is null and {{ x_list_element('events.node_ids', 2) }} is not null
),

doubtful_nodes as (
    select doubtful.node_ids, nodes.element as node_id, nodes.position
    from doubtful
    {{ x_unnest_with_position('doubtful.node_ids', 'nodes') }}
),

settled as (
    select
        doubtful_nodes.node_ids,
        min_by(memberships.customer_id, doubtful_nodes.position) as customer_id,
        min(doubtful_nodes.position) as position
    from doubtful_nodes
    inner join memberships on memberships.node_id = doubtful_nodes.node_id
    group by doubtful_nodes.node_ids
),

sessionized as (
    select
        events.event_id,
        events.occurred_at,
        events.session_key_id,
        placed.session_id,
        cast(placed.event_number as integer) as event_number,
        placed.session_started_at,
        case when events.is_counted then coalesce(memberships.customer_id, settled.customer_id) end as customer_id,
        cast(case
            when not events.is_counted then null
            when memberships.node_id is not null then 1
            else settled.position
        end as smallint) as identifier_number,
        events.node_ids,
        events.channel,
        events.stage,
        events.is_bot,
        events.is_counted,
        coalesce(placed.is_intent_start, false) as is_intent_start,
        coalesce(placed.is_jump_back, false) as is_jump_back,
        events.is_conversion_event,
        events.goals,
        events.micro_conversion,
        events.value_reporting,
        events.reporting_date
    from events
    left join placed on placed.event_id = events.event_id
    left join memberships on memberships.node_id = {{ x_list_element('events.node_ids', 1) }}
    left join settled on settled.node_ids = events.node_ids
),

-- sessionized in slices of time of {{ ref('int_events') }}
{% if is_incremental() -%}
-- What is already here is not read from the lake again: the wide columns of an event that is not pending have not changed.
pending as (
    select {{ event_columns() | join(', ') }} from {{ pending_events }}
),

known as (
    select {{ event_columns() | join(', ') }}
    from {{ this }} as known_event
    where {{ is_restated_known }}
        and known_event.event_id not in (select event_id from pending)
),

described as (
    select * from pending
    union all
    select * from known
),
{%- else -%}
described as (
    select {{ event_columns() | join(', ') }} from {{ all_events }}
    -- slice of time: where occurred_at
),
{%- endif %}

widened as (
    select
        {%- for column in event_columns() if column not in ('is_internal', 'value') %}
        described.{{ column }},
        {%- endfor %}
        cast(described.value as decimal(18, 4)) as value,
        sessionized.value_reporting,
        coalesce(described.is_internal, false) as is_internal,
        sessionized.is_bot,
        sessionized.is_counted,
        sessionized.is_conversion_event,
        sessionized.goals,
        sessionized.micro_conversion,
        sessionized.channel,
        sessionized.stage,
        sessionized.session_id,
        sessionized.event_number,
        sessionized.session_started_at,
        sessionized.is_intent_start,
        sessionized.is_jump_back,
        sessionized.customer_id,
        sessionized.session_key_id,
        sessionized.node_ids,
        sessionized.identifier_number,
        sessionized.reporting_date
    from described
    inner join sessionized on sessionized.event_id = described.event_id
)

select * from widened
