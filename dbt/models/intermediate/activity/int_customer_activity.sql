{#- In the outputs, because the feature views, which are published, read it. -#}
{{ config(materialized='incremental', incremental_strategy='restate', database='outputs') }}
{%- set is_restated_customer = restated('feature_customers', 'history') %}
{%- set restated_nodes %}select history.node_id from {{ source('identity', 'membership_history') }} as history where {{ is_restated_customer }}{% endset %}
{%- set recent_from = x_add_days(finished_data_now(), -1 - (feature_days() | int)) %}
{%- set monday = x_add_days("date_trunc('week', day.day_at)", 'weeks.days_ahead') %}
{%- if is_incremental() %}
{#- A day counts for thirteen points after it; of those, an increment makes the ones that the last finished run did not reach. #}
{%- set fresh_points = "2 + cast(floor((" ~ x_epoch_us(data_now()) ~ " - " ~ x_epoch_us(finished_data_now()) ~ ") / cast(604800000000 as double)) as bigint)" %}
{%- set slices = slices_for(
    ref('int_node_days'), var('node_days_in_a_slice'),
    "cast(sum(case when counted.node_id in (" ~ restated_nodes ~ ") then 13 when counted.day_at >= " ~ recent_from ~ " then least(" ~ fresh_points ~ ", 13) else 0 end)"
        ~ " as bigint) / 13",
) %}
{%- set pieces_wanted = [
    "day.day_at >= " ~ recent_from ~ " and " ~ monday ~ " >= clock.finished_data_now",
    monday ~ " < clock.finished_data_now and day.node_id in (select history.node_id from history where " ~ is_restated_customer ~ ")",
] %}
{%- else %}
{%- set slices = slices_for(ref('int_node_days'), var('node_days_in_a_slice')) %}
{%- set pieces_wanted = ["true"] %}
{%- endif %}
{%- set sums = added_measures() %}
{%- set extremes = extreme_measures() %}
{%- set measures = (sums + extremes) | map('first') | list %}
{%- set kinds = {} %}
{%- for name, expression, kind in sums %} {%- do kinds.update({name: kind}) %} {%- endfor %}
{%- set age = "cast(floor((%s - 1 - %s) / cast(86400000000 as double)) as integer)" %}

{#- data_now is a point of the grid by itself, unless it is a Monday's midnight. Days before live_from are whole for it; what came later is read by the event. #}
{%- set clock_cte %}
clock as (
    select
        {{ data_now() }} as data_now,
        {{ finished_data_now() }} as finished_data_now,
        {{ x_add_days("date_trunc('day', " ~ data_now() ~ ")", -1 * (feature_days() | int)) }} as live_from,
        {{ data_now() }} = date_trunc('week', {{ data_now() }}) as is_monday
)
{%- endset %}

with {{ clock_cte }},

live_events as (
    select
        {{- activity_columns('event') }}
    from {{ ref('int_events_sessionized') }} as event
    cross join clock
    where event.is_counted and event.node_ids is not null and not clock.is_monday
        and event.occurred_at >= clock.live_from and event.occurred_at < clock.data_now
        -- slice of time: and event.occurred_at
),

{{ anchor_ctes('live_events') }},

-- The event's identifier as known at data_now: nearly always the first.
settled as (
    select doubtful.event_id, min_by(doubtful.node_id, doubtful.position) as node_id
    from doubtful
    cross join clock
    where doubtful.over_shared_from is null or doubtful.over_shared_from >= clock.data_now
    group by doubtful.event_id
),

live_anchors as (
    select
        live_events.event_id,
        case when shared_first.node_id is null then {{ x_list_element('live_events.node_ids', 1) }} else settled.node_id end as node_id
    from live_events
    left join over_shared as shared_first on shared_first.node_id = {{ x_list_element('live_events.node_ids', 1) }}
    left join settled on settled.event_id = live_events.event_id
),

-- The days of an identifier as data_now counts them: back from the instant.
live_days as (
    select
        live_anchors.node_id,
        {{ age | format(x_epoch_us('clock.data_now'), x_epoch_us('event.occurred_at')) }} as age_days,
        {%- for name, expression, kind in sums %}
        cast(sum({{ expression }}) as {{ kind }}) as {{ name }},
        {%- endfor %}
        {%- for name, expression, merge in extremes %}
        {{ merge }}({{ expression }}) as {{ name }}{{ "," if not loop.last }}
        {%- endfor %}
    from live_events as event
    inner join live_anchors on live_anchors.event_id = event.event_id
    cross join clock
    left join conversions as conversion on event.is_conversion_event and conversion.event_id = event.event_id
    where live_anchors.node_id is not null
    group by live_anchors.node_id, {{ age | format(x_epoch_us('clock.data_now'), x_epoch_us('event.occurred_at')) }}
),
{%- if slices > 1 %}

all_days as (
    select node_id, cast(null as integer) as age_days, usable_from, day_at, {{ measures | join(', ') }} from {{ ref('int_node_days') }}
    -- slice of time: where day_at
    union all
    select node_id, age_days, cast(null as timestamp) as usable_from, cast(null as timestamp) as day_at, {{ measures | join(', ') }} from live_days
),

-- An identifier may have been several customers', of several slices.
slices_of_nodes as (
    select distinct history.node_id, {{ slice_of_customer('history.customer_id', slices) }} as slice
    from {{ source('identity', 'membership_history') }} as history
    where {{ sure_enough('history', 'scoring') }}
),

days as (
    select all_days.*, slices_of_nodes.slice from all_days inner join slices_of_nodes on slices_of_nodes.node_id = all_days.node_id
),

-- days in {{ slices }} slices of customers, by time of {{ ref('int_events_sessionized') }}

{{ clock_cte }},

node_days as (
    select * from days where age_days is null
),

live_days as (
    select * from days where age_days is not null
),
{%- else %}

node_days as (
    select * from {{ ref('int_node_days') }}
),
{%- endif %}

history as (
    select history.node_id, history.customer_id, history.valid_from, history.valid_to
    from {{ source('identity', 'membership_history') }} as history
    where {{ sure_enough('history', 'scoring') }}
        -- slice of customers: and history.customer_id
),

weeks as (
    {%- for week in range(1, 14) %}
    select {{ week * 7 }} as days_ahead {{ "union all" if not loop.last }}
    {%- endfor %}
),

-- Points that the last finished run did not reach are computed for everybody, the others for the customers in scope alone.
monday_pieces as (
    {%- for condition in pieces_wanted %}
    select
        {{ monday }} as as_of_at,
        {{ age | format(x_epoch_us(monday), x_epoch_us('day.day_at')) }} as age_days,
        day.node_id,
        day.usable_from,
        {%- for measure in measures %}
        day.{{ measure }}{{ "," if not loop.last }}
        {%- endfor %}
    from node_days as day
    cross join weeks
    cross join clock
    where {{ monday }} <= clock.data_now
        and {{ monday }} <= {{ x_add_days('day.day_at', feature_days()) }}
        and {{ condition }}
    {{ "union all" if not loop.last }}
    {%- endfor %}
),

pieces as (
    select * from monday_pieces
    union all
    select clock.data_now as as_of_at, live_days.age_days, live_days.node_id, cast(null as timestamp) as usable_from, {{ measures | join(', ') }}
    from live_days
    cross join clock
),

aged as (
    select history.customer_id, pieces.*
    from pieces
    inner join history
        on history.node_id = pieces.node_id
        and history.valid_from < pieces.as_of_at
        and (history.valid_to is null or pieces.as_of_at <= history.valid_to)
    {%- if is_incremental() %}
    cross join clock
    {%- endif %}
    where (pieces.usable_from is null or pieces.usable_from < pieces.as_of_at)
    {%- if is_incremental() %}
        and (pieces.as_of_at >= clock.finished_data_now or {{ is_restated_customer }})
    {%- endif %}
),

summed as (
    select
        customer_id,
        as_of_at,
        {%- for name, windows in measure_windows().items() %}
        {%- for days in windows %}
        cast(sum(case when age_days < {{ days }} then {{ name }} else 0 end) as {{ kinds[name] }}) as {{ name }}_{{ days }}d,
        {%- endfor %}
        {%- endfor %}
        {%- for name in total_measures() %}
        cast(sum({{ name }}) as {{ kinds[name] }}) as {{ name }}_total,
        {%- endfor %}
        {%- for name, expression, merge in extremes %}
        {{ merge }}({{ name }}) as {{ name }},
        {%- endfor %}
        max(case when age_days < 28 then max_stage_rank end) as max_stage_rank_28d,
        max(case when age_days < 90 then max_stage_rank end) as max_stage_rank_90d,
        bit_or(case when age_days < 28 then cast(power(2, age_days) as bigint) end) as active_days,
        {#- Half as much for every seven days of age, in 2^20ths. #}
        cast(sum(case when age_days < {{ feature_days() }} then session_count * cast(round(1048576 * power(0.5, age_days / cast(7 as double))) as bigint) else 0 end) as bigint) as session_weight
    from aged
    group by customer_id, as_of_at
    having min(age_days) < {{ feature_days() }}
),

-- Nothing is made of those who did not let it be made.
recent as (
    select * from summed where {{ consented('summed') }}
),

-- What is older than the pieces: each identifier's sums up to one of its days hold until its next one.
cumulated as (
    select
        node_id,
        usable_from,
        day_at,
        lead(day_at) over node_order as next_day_at,
        {%- for name in total_measures() %}
        cast(sum({{ name }}) over up_to_here as {{ kinds[name] }}) as {{ name }},
        {%- endfor %}
        {%- for name, expression, merge in extremes %}
        {{ merge }}({{ name }}) over up_to_here as {{ name }}{{ "," if not loop.last }}
        {%- endfor %}
    from node_days
    {%- if is_incremental() %}
    where node_id in (select history.node_id from history where history.customer_id in (select recent.customer_id from recent))
    {%- endif %}
    window
        node_order as (partition by node_id, usable_from order by day_at asc nulls first),
        up_to_here as (partition by node_id, usable_from order by day_at asc nulls first rows unbounded preceding)
),

known_nodes as (
    select
        recent.customer_id,
        recent.as_of_at,
        history.node_id,
        case when recent.as_of_at = date_trunc('week', recent.as_of_at) then {{ x_add_days('recent.as_of_at', -1 * (feature_days() | int)) }} else clock.live_from end as pieces_from
    from recent
    cross join clock
    inner join history
        on history.customer_id = recent.customer_id
        and history.valid_from < recent.as_of_at
        and (history.valid_to is null or recent.as_of_at <= history.valid_to)
),

identified as (
    select customer_id, as_of_at, cast(count(*) as integer) as identifier_count from known_nodes group by customer_id, as_of_at
),

older as (
    select
        known_nodes.customer_id,
        known_nodes.as_of_at,
        {%- for name in total_measures() %}
        cast(sum(cumulated.{{ name }}) as {{ kinds[name] }}) as {{ name }}_total,
        {%- endfor %}
        {%- for name, expression, merge in extremes %}
        {{ merge }}(cumulated.{{ name }}) as {{ name }}{{ "," if not loop.last }}
        {%- endfor %}
    from known_nodes
    inner join cumulated
        on cumulated.node_id = known_nodes.node_id
        and cumulated.day_at < known_nodes.pieces_from
        and (cumulated.next_day_at is null or known_nodes.pieces_from <= cumulated.next_day_at)
        and (cumulated.usable_from is null or cumulated.usable_from < known_nodes.as_of_at)
    group by known_nodes.customer_id, known_nodes.as_of_at
),

-- A customer's points lie side by side: most columns of one are those of the next, so they are stored in little more than half the space.
activity as (
    select
        recent.customer_id,
        recent.as_of_at,
        identified.identifier_count,
        {%- for name, windows in measure_windows().items() %}
        {%- for days in windows %}
        recent.{{ name }}_{{ days }}d,
        {%- endfor %}
        {%- endfor %}
        {%- for name in total_measures() %}
        cast(recent.{{ name }}_total + coalesce(older.{{ name }}_total, 0) as {{ kinds[name] }}) as {{ name }}_total,
        {%- endfor %}
        {#- The instant of a key has done its work when all is merged: its code alone is stored, which takes a tenth of the space. #}
        {%- for name, expression, merge in extremes %}
        {{ 'least' if merge == 'min' else 'greatest' }}(
            coalesce(recent.{{ name }}, older.{{ name }}), coalesce(older.{{ name }}, recent.{{ name }})
        ) {{- ' % ' ~ code_counts()[name] if name in code_counts() }} as {{ name }},
        {%- endfor %}
        recent.max_stage_rank_28d,
        recent.max_stage_rank_90d,
        cast(bit_count(coalesce(recent.active_days, 0)) as integer) as active_day_count_28d,
        recent.session_weight
    from recent
    inner join identified on identified.customer_id = recent.customer_id and identified.as_of_at = recent.as_of_at
    left join older on older.customer_id = recent.customer_id and older.as_of_at = recent.as_of_at
    order by recent.customer_id asc nulls first, recent.as_of_at asc nulls first
)

select * from activity
