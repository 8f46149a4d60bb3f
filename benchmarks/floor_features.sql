-- The floor of the features: from the marts' events to the same columns of features and labels, by hand, as fast as DuckDB 2.0 does it, with nothing kept for
-- a next run. benchmarks/run.py runs it statement by statement and checks that its columns equal those of dbt's views, row for row.
--
-- What it may do and the models may not: count customers by position, keep the days of an identifier in a temporary table, take every point's whole history in
-- one aggregate because this history is half a year (the models' pieces end after 90 days, and what is older is summed once), and take as many customers at a
-- time as fit in memory. What both do: read the same events, count them for whom they were known to belong to at each point, write the same columns to disk.
--
-- Given: the pipeline's warehouse attached as `pipeline`; variables goal (name of the first goal), horizon_days, buckets, and bucket, for which a statement
-- that reads it is run once each, from 0.

-- Events whose first identifier is over-shared some day count for the next one at points after that, and so forth.
-- statement: shared
create temp table shared as
with listed as (
    select event_id, unnest(node_ids) as node_id, generate_subscripts(node_ids, 1) as place
    from pipeline_outputs.intermediate.int_events_sessionized
    where is_counted and node_ids[1] in (select node_id from pipeline.identity.over_shared_since)
)

select event_id, node_id, usable_from
from (
    select
        listed.event_id, listed.node_id, listed.place,
        max(over_shared_from) over earlier as usable_from,
        count(*) over earlier = count(over_shared_from) over earlier as is_next
    from listed
    left join pipeline.identity.over_shared_since using (node_id)
    window earlier as (partition by listed.event_id order by listed.place rows between unbounded preceding and 1 preceding)
)
where place > 1 and is_next;

-- What one event adds, or shows; a key is an instant with a code in its low digits.
-- statement: activity
create temp view activity as
with counted as (
    select
        *,
        epoch_us(occurred_at) as at_us,
        epoch_us(coalesce(session_started_at, occurred_at)) as visit_us,
        session_id is null or event_number = 1 as is_touch,
        coalesce(event_number = 1, false) as is_first,
        case stage when 'awareness' then 1 when 'consideration' then 2 when 'intent' then 3 when 'purchase' then 4 when 'post_sale' then 5 end as stage_rank,
        case channel
            when 'direct' then 1 when 'organic_search' then 2 when 'organic_shopping' then 2 when 'paid_search' then 3 when 'paid_shopping' then 3 when 'cross_network' then 3
            when 'organic_social' then 4 when 'organic_video' then 4 when 'paid_social' then 5 when 'paid_video' then 5 when 'email' then 6 when 'display' then 7
            when 'paid_other' then 7 when 'referral' then 8 when 'affiliates' then 8 when 'sms' then 9 when 'mobile_push' then 9 else 10
        end as channel_code,
        case device_type when 'desktop' then 1 when 'mobile' then 2 when 'tablet' then 3 when 'other' then 4 else 0 end as device_code,
        is_conversion_event and event_id in (
            select event_id from pipeline.intermediate.int_conversions_deduplicated where goal = getvariable('goal')
        ) as is_conversion
    from pipeline_outputs.intermediate.int_events_sessionized
    where is_counted and node_ids is not null
),

placed as (
    select node_ids[1] as node_id, cast(null as timestamp) as usable_from, counted.* from counted
    union all
    select shared.node_id, shared.usable_from, counted.* from counted inner join shared using (event_id)
)

select
    node_id, usable_from, occurred_at,
    1 as event_count,
    cast(event_type in ('page_viewed', 'screen_viewed') as integer) as page_view_count,
    cast(is_first as integer) as session_count,
    cast(is_touch as integer) as touch_count,
    cast(micro_conversion is not null as integer) as micro_conversion_count,
    cast(coalesce(stage_rank = 2, false) as integer) as consideration_event_count,
    cast(coalesce(stage_rank = 3, false) as integer) as intent_event_count,
    cast(coalesce(stage_rank = 5, false) as integer) as post_sale_event_count,
    cast(is_intent_start as integer) as intent_session_count,
    cast(is_jump_back as integer) as jump_back_count,
    cast(is_conversion as integer) as conversion_count,
    case when is_conversion then coalesce(value_reporting, 0) else 0 end as revenue_amount,
    cast(coalesce(value_reporting < 0, false) as integer) as refund_count,
    case when value_reporting < 0 then -value_reporting else 0 end as refund_amount,
    cast(is_touch and channel_code = 1 as integer) as direct_touch_count, cast(is_touch and channel_code = 2 as integer) as organic_search_touch_count,
    cast(is_touch and channel_code = 3 as integer) as paid_search_touch_count, cast(is_touch and channel_code = 4 as integer) as organic_social_touch_count,
    cast(is_touch and channel_code = 5 as integer) as paid_social_touch_count, cast(is_touch and channel_code = 6 as integer) as email_touch_count,
    cast(is_touch and channel_code = 7 as integer) as display_touch_count, cast(is_touch and channel_code = 8 as integer) as referral_touch_count,
    cast(is_touch and channel_code = 9 as integer) as message_touch_count, cast(is_touch and channel_code = 10 as integer) as other_touch_count,
    cast(is_first and device_code = 1 as integer) as desktop_session_count,
    cast(is_first and device_code = 2 as integer) as mobile_session_count,
    cast(is_first and device_code = 3 as integer) as tablet_session_count,
    at_us as first_event_us,
    at_us as last_event_us,
    case when is_first then at_us end as first_session_us,
    case when is_first then at_us end as last_session_us,
    case when stage_rank = 3 then at_us end as last_intent_us,
    case when is_conversion then at_us end as last_conversion_us,
    case when is_touch then at_us * 32 + channel_code end as first_touch_key,
    case when is_touch then at_us * 32 + channel_code end as last_touch_key,
    case when device_type is not null then at_us * 8 + device_code end as last_device_key,
    visit_us * 8 + stage_rank as last_visit_stage_key,
    visit_us * 1024 + least(coalesce(event_number, 1), 1023) as last_visit_event_key,
    visit_us * 2 + cast(micro_conversion is not null as integer) as last_visit_micro_key,
    stage_rank as max_stage_rank
from placed;

-- A Monday's midnight sees whole days; data_now, where it is none, sees days that end at its own hour.
-- statement: days
create temp table days as
select
    node_id, usable_from, date_trunc('day', occurred_at) as day_at, cast(null as integer) as age_days,
    cast(sum(event_count) as integer) as event_count, cast(sum(page_view_count) as integer) as page_view_count, cast(sum(session_count) as integer) as session_count,
    cast(sum(touch_count) as integer) as touch_count, cast(sum(micro_conversion_count) as integer) as micro_conversion_count, cast(sum(consideration_event_count) as integer) as consideration_event_count,
    cast(sum(intent_event_count) as integer) as intent_event_count, cast(sum(post_sale_event_count) as integer) as post_sale_event_count, cast(sum(intent_session_count) as integer) as intent_session_count,
    cast(sum(jump_back_count) as integer) as jump_back_count, cast(sum(conversion_count) as integer) as conversion_count, cast(sum(revenue_amount) as decimal(18, 4)) as revenue_amount,
    cast(sum(refund_count) as integer) as refund_count, cast(sum(refund_amount) as decimal(18, 4)) as refund_amount, cast(sum(direct_touch_count) as integer) as direct_touch_count,
    cast(sum(organic_search_touch_count) as integer) as organic_search_touch_count, cast(sum(paid_search_touch_count) as integer) as paid_search_touch_count, cast(sum(organic_social_touch_count) as integer) as organic_social_touch_count,
    cast(sum(paid_social_touch_count) as integer) as paid_social_touch_count, cast(sum(email_touch_count) as integer) as email_touch_count, cast(sum(display_touch_count) as integer) as display_touch_count,
    cast(sum(referral_touch_count) as integer) as referral_touch_count, cast(sum(message_touch_count) as integer) as message_touch_count, cast(sum(other_touch_count) as integer) as other_touch_count,
    cast(sum(desktop_session_count) as integer) as desktop_session_count, cast(sum(mobile_session_count) as integer) as mobile_session_count, cast(sum(tablet_session_count) as integer) as tablet_session_count,
    min(first_event_us) as first_event_us, min(first_session_us) as first_session_us, min(first_touch_key) as first_touch_key, max(last_event_us) as last_event_us,
    max(last_session_us) as last_session_us, max(last_intent_us) as last_intent_us, max(last_conversion_us) as last_conversion_us, max(last_touch_key) as last_touch_key,
    max(last_device_key) as last_device_key, max(last_visit_stage_key) as last_visit_stage_key, max(last_visit_event_key) as last_visit_event_key, max(last_visit_micro_key) as last_visit_micro_key,
    max(max_stage_rank) as max_stage_rank
from activity
group by node_id, usable_from, date_trunc('day', occurred_at)
union all
select
    node_id, usable_from, cast(null as timestamp), cast(floor((epoch_us(data_now) - 1 - epoch_us(occurred_at)) / 86400000000.0) as integer) as age_days,
    cast(sum(event_count) as integer) as event_count, cast(sum(page_view_count) as integer) as page_view_count, cast(sum(session_count) as integer) as session_count,
    cast(sum(touch_count) as integer) as touch_count, cast(sum(micro_conversion_count) as integer) as micro_conversion_count, cast(sum(consideration_event_count) as integer) as consideration_event_count,
    cast(sum(intent_event_count) as integer) as intent_event_count, cast(sum(post_sale_event_count) as integer) as post_sale_event_count, cast(sum(intent_session_count) as integer) as intent_session_count,
    cast(sum(jump_back_count) as integer) as jump_back_count, cast(sum(conversion_count) as integer) as conversion_count, cast(sum(revenue_amount) as decimal(18, 4)) as revenue_amount,
    cast(sum(refund_count) as integer) as refund_count, cast(sum(refund_amount) as decimal(18, 4)) as refund_amount, cast(sum(direct_touch_count) as integer) as direct_touch_count,
    cast(sum(organic_search_touch_count) as integer) as organic_search_touch_count, cast(sum(paid_search_touch_count) as integer) as paid_search_touch_count, cast(sum(organic_social_touch_count) as integer) as organic_social_touch_count,
    cast(sum(paid_social_touch_count) as integer) as paid_social_touch_count, cast(sum(email_touch_count) as integer) as email_touch_count, cast(sum(display_touch_count) as integer) as display_touch_count,
    cast(sum(referral_touch_count) as integer) as referral_touch_count, cast(sum(message_touch_count) as integer) as message_touch_count, cast(sum(other_touch_count) as integer) as other_touch_count,
    cast(sum(desktop_session_count) as integer) as desktop_session_count, cast(sum(mobile_session_count) as integer) as mobile_session_count, cast(sum(tablet_session_count) as integer) as tablet_session_count,
    min(first_event_us) as first_event_us, min(first_session_us) as first_session_us, min(first_touch_key) as first_touch_key, max(last_event_us) as last_event_us,
    max(last_session_us) as last_session_us, max(last_intent_us) as last_intent_us, max(last_conversion_us) as last_conversion_us, max(last_touch_key) as last_touch_key,
    max(last_device_key) as last_device_key, max(last_visit_stage_key) as last_visit_stage_key, max(last_visit_event_key) as last_visit_event_key, max(last_visit_micro_key) as last_visit_micro_key,
    max(max_stage_rank) as max_stage_rank
from activity
cross join pipeline.raw.run_clock
where data_now <> date_trunc('week', data_now) and occurred_at < data_now
group by all;

-- statement: grid
create temp table grid as
select data_now as as_of_at, data_now = date_trunc('week', data_now) as is_monday from pipeline.raw.run_clock
union
select unnest(generate_series(date_trunc('week', min(day_at)) + interval 7 day, max(data_now), interval 7 day)), true from days cross join pipeline.raw.run_clock;

-- statement: known
create temp table known as
select node_id, customer_id, cast(dense_rank() over (order by customer_id) as integer) as person, valid_from, valid_to
from pipeline.identity.membership_history;

-- Each bucket of customers is one hash table that fits in memory.
-- statement: points
create table features.points as
with seen as (
    select
        owned.* exclude (age_days), grid.as_of_at,
        case when grid.is_monday then date_diff('day', owned.day_at, grid.as_of_at) - 1 else owned.age_days end as age_days
    from (
        select days.*, known.person, known.valid_from, known.valid_to
        from days
        inner join known using (node_id)
        where known.person % getvariable('buckets') = getvariable('bucket')
    ) as owned
    inner join grid
        on owned.valid_from < grid.as_of_at and (owned.valid_to is null or grid.as_of_at <= owned.valid_to)
        and (owned.usable_from is null or owned.usable_from < grid.as_of_at)
        and case when grid.is_monday then owned.day_at < grid.as_of_at else owned.age_days is not null end
),

summed as (
    select
        person, as_of_at,
        sum(case when age_days < 1 then event_count else 0 end) as event_count_1d, sum(case when age_days < 7 then event_count else 0 end) as event_count_7d,
        sum(case when age_days < 28 then event_count else 0 end) as event_count_28d, sum(case when age_days < 90 then event_count else 0 end) as event_count_90d,
        sum(case when age_days < 7 then page_view_count else 0 end) as page_view_count_7d, sum(case when age_days < 28 then page_view_count else 0 end) as page_view_count_28d,
        sum(case when age_days < 90 then page_view_count else 0 end) as page_view_count_90d, sum(case when age_days < 1 then session_count else 0 end) as session_count_1d,
        sum(case when age_days < 7 then session_count else 0 end) as session_count_7d, sum(case when age_days < 28 then session_count else 0 end) as session_count_28d,
        sum(case when age_days < 90 then session_count else 0 end) as session_count_90d, sum(case when age_days < 7 then touch_count else 0 end) as touch_count_7d,
        sum(case when age_days < 28 then touch_count else 0 end) as touch_count_28d, sum(case when age_days < 90 then touch_count else 0 end) as touch_count_90d,
        sum(case when age_days < 1 then micro_conversion_count else 0 end) as micro_conversion_count_1d, sum(case when age_days < 7 then micro_conversion_count else 0 end) as micro_conversion_count_7d,
        sum(case when age_days < 28 then micro_conversion_count else 0 end) as micro_conversion_count_28d, sum(case when age_days < 90 then micro_conversion_count else 0 end) as micro_conversion_count_90d,
        sum(case when age_days < 7 then consideration_event_count else 0 end) as consideration_event_count_7d, sum(case when age_days < 28 then consideration_event_count else 0 end) as consideration_event_count_28d,
        sum(case when age_days < 90 then consideration_event_count else 0 end) as consideration_event_count_90d, sum(case when age_days < 1 then intent_event_count else 0 end) as intent_event_count_1d,
        sum(case when age_days < 7 then intent_event_count else 0 end) as intent_event_count_7d, sum(case when age_days < 28 then intent_event_count else 0 end) as intent_event_count_28d,
        sum(case when age_days < 90 then intent_event_count else 0 end) as intent_event_count_90d, sum(case when age_days < 28 then post_sale_event_count else 0 end) as post_sale_event_count_28d,
        sum(case when age_days < 90 then post_sale_event_count else 0 end) as post_sale_event_count_90d, sum(case when age_days < 7 then intent_session_count else 0 end) as intent_session_count_7d,
        sum(case when age_days < 28 then intent_session_count else 0 end) as intent_session_count_28d, sum(case when age_days < 90 then intent_session_count else 0 end) as intent_session_count_90d,
        sum(case when age_days < 7 then jump_back_count else 0 end) as jump_back_count_7d, sum(case when age_days < 28 then jump_back_count else 0 end) as jump_back_count_28d,
        sum(case when age_days < 90 then jump_back_count else 0 end) as jump_back_count_90d, sum(case when age_days < 7 then conversion_count else 0 end) as conversion_count_7d,
        sum(case when age_days < 28 then conversion_count else 0 end) as conversion_count_28d, sum(case when age_days < 90 then conversion_count else 0 end) as conversion_count_90d,
        sum(case when age_days < 28 then revenue_amount else 0 end) as revenue_amount_28d, sum(case when age_days < 90 then revenue_amount else 0 end) as revenue_amount_90d,
        sum(case when age_days < 90 then refund_count else 0 end) as refund_count_90d, sum(case when age_days < 90 then refund_amount else 0 end) as refund_amount_90d,
        sum(case when age_days < 90 then direct_touch_count else 0 end) as direct_touch_count_90d, sum(case when age_days < 90 then organic_search_touch_count else 0 end) as organic_search_touch_count_90d,
        sum(case when age_days < 90 then paid_search_touch_count else 0 end) as paid_search_touch_count_90d, sum(case when age_days < 90 then organic_social_touch_count else 0 end) as organic_social_touch_count_90d,
        sum(case when age_days < 90 then paid_social_touch_count else 0 end) as paid_social_touch_count_90d, sum(case when age_days < 90 then email_touch_count else 0 end) as email_touch_count_90d,
        sum(case when age_days < 90 then display_touch_count else 0 end) as display_touch_count_90d, sum(case when age_days < 90 then referral_touch_count else 0 end) as referral_touch_count_90d,
        sum(case when age_days < 90 then message_touch_count else 0 end) as message_touch_count_90d, sum(case when age_days < 90 then other_touch_count else 0 end) as other_touch_count_90d,
        sum(case when age_days < 90 then desktop_session_count else 0 end) as desktop_session_count_90d, sum(case when age_days < 90 then mobile_session_count else 0 end) as mobile_session_count_90d,
        sum(case when age_days < 90 then tablet_session_count else 0 end) as tablet_session_count_90d,
        sum(event_count) as event_count_total, sum(session_count) as session_count_total, sum(micro_conversion_count) as micro_conversion_count_total,
        sum(intent_session_count) as intent_session_count_total, sum(conversion_count) as conversion_count_total, sum(revenue_amount) as revenue_amount_total,
        sum(organic_social_touch_count) as organic_social_touch_count_total, sum(paid_social_touch_count) as paid_social_touch_count_total, sum(email_touch_count) as email_touch_count_total,
        min(first_event_us) as first_event_us, min(first_session_us) as first_session_us, min(first_touch_key) as first_touch_key, max(last_event_us) as last_event_us,
        max(last_session_us) as last_session_us, max(last_intent_us) as last_intent_us, max(last_conversion_us) as last_conversion_us, max(last_touch_key) as last_touch_key,
        max(last_device_key) as last_device_key, max(last_visit_stage_key) as last_visit_stage_key, max(last_visit_event_key) as last_visit_event_key, max(last_visit_micro_key) as last_visit_micro_key,
        max(max_stage_rank) as max_stage_rank,
        max(case when age_days < 28 then max_stage_rank end) as max_stage_rank_28d, max(case when age_days < 90 then max_stage_rank end) as max_stage_rank_90d,
        bit_count(coalesce(bit_or(case when age_days < 28 then cast(1 as bigint) << age_days end), 0)) as active_day_count_28d,
        -- Half as much for every seven days of age, in 2^20ths.
        sum(case when age_days < 90 then session_count * cast(round(1048576 * power(0.5, age_days / 7.0)) as bigint) else 0 end) as session_weight
    from seen
    group by person, as_of_at
    having min(age_days) < 90
),

identified as (
    select person, as_of_at, count(*) as identifier_count
    from known
    inner join grid on known.valid_from < grid.as_of_at and (known.valid_to is null or grid.as_of_at <= known.valid_to)
    where person % getvariable('buckets') = getvariable('bucket')
    group by person, as_of_at
),

persons as (
    select distinct person, customer_id from known
)

select
    customer_id || '_' || epoch_us(as_of_at) as customer_point_id, customer_id, as_of_at,
    cast(identifier_count as integer) as identifier_count,
    (epoch_us(as_of_at) - last_event_us) / 3600000000::double as hours_since_last_event,
    (epoch_us(as_of_at) - first_event_us) / 3600000000::double as hours_since_first_event,
    (epoch_us(as_of_at) - last_session_us) / 3600000000::double as hours_since_last_session,
    cast(event_count_1d as integer) as event_count_1d, cast(event_count_7d as integer) as event_count_7d, cast(event_count_28d as integer) as event_count_28d, cast(event_count_90d as integer) as event_count_90d, cast(event_count_total as integer) as event_count_total,
    cast(page_view_count_7d as integer) as page_view_count_7d, cast(page_view_count_28d as integer) as page_view_count_28d, cast(page_view_count_90d as integer) as page_view_count_90d,
    cast(session_count_1d as integer) as session_count_1d, cast(session_count_7d as integer) as session_count_7d, cast(session_count_28d as integer) as session_count_28d, cast(session_count_90d as integer) as session_count_90d, cast(session_count_total as integer) as session_count_total,
    cast(active_day_count_28d as integer) as active_day_count_28d,
    session_weight / 1048576::double as session_recency_weight,
    (last_session_us - first_session_us) / 3600000000::double / nullif(session_count_total - 1, 0) as hours_between_sessions_mean,
    event_count_28d::double / nullif(session_count_28d, 0) as events_per_session_28d,
    page_view_count_28d::double / nullif(session_count_28d, 0) as page_views_per_session_28d,
    cast(last_visit_event_key % 1024 as integer) as last_visit_event_count,
    cast(last_visit_stage_key % 8 as integer) as last_visit_stage_rank,
    last_visit_micro_key % 2 = 1 as last_visit_has_micro_conversion,
    cast(micro_conversion_count_1d as integer) as micro_conversion_count_1d, cast(micro_conversion_count_7d as integer) as micro_conversion_count_7d, cast(micro_conversion_count_28d as integer) as micro_conversion_count_28d, cast(micro_conversion_count_90d as integer) as micro_conversion_count_90d, cast(micro_conversion_count_total as integer) as micro_conversion_count_total,
    cast(consideration_event_count_7d as integer) as consideration_event_count_7d, cast(consideration_event_count_28d as integer) as consideration_event_count_28d, cast(consideration_event_count_90d as integer) as consideration_event_count_90d,
    cast(intent_event_count_1d as integer) as intent_event_count_1d, cast(intent_event_count_7d as integer) as intent_event_count_7d, cast(intent_event_count_28d as integer) as intent_event_count_28d, cast(intent_event_count_90d as integer) as intent_event_count_90d,
    cast(intent_session_count_7d as integer) as intent_session_count_7d, cast(intent_session_count_28d as integer) as intent_session_count_28d, cast(intent_session_count_90d as integer) as intent_session_count_90d, cast(intent_session_count_total as integer) as intent_session_count_total,
    cast(post_sale_event_count_28d as integer) as post_sale_event_count_28d, cast(post_sale_event_count_90d as integer) as post_sale_event_count_90d,
    cast(jump_back_count_7d as integer) as jump_back_count_7d, cast(jump_back_count_28d as integer) as jump_back_count_28d, cast(jump_back_count_90d as integer) as jump_back_count_90d,
    (epoch_us(as_of_at) - last_intent_us) / 3600000000::double as hours_since_last_intent,
    coalesce(last_intent_us > coalesce(last_conversion_us, 0), false) as has_open_intent,
    cast(touch_count_7d as integer) as touch_count_7d, cast(touch_count_28d as integer) as touch_count_28d, cast(touch_count_90d as integer) as touch_count_90d,
    cast(direct_touch_count_90d as integer) as direct_touch_count_90d, cast(organic_search_touch_count_90d as integer) as organic_search_touch_count_90d, cast(paid_search_touch_count_90d as integer) as paid_search_touch_count_90d,
    cast(organic_social_touch_count_90d as integer) as organic_social_touch_count_90d, cast(paid_social_touch_count_90d as integer) as paid_social_touch_count_90d, cast(email_touch_count_90d as integer) as email_touch_count_90d,
    cast(display_touch_count_90d as integer) as display_touch_count_90d, cast(referral_touch_count_90d as integer) as referral_touch_count_90d, cast(message_touch_count_90d as integer) as message_touch_count_90d,
    cast(other_touch_count_90d as integer) as other_touch_count_90d,
    cast(organic_social_touch_count_total as integer) as organic_social_touch_count_total, cast(paid_social_touch_count_total as integer) as paid_social_touch_count_total, cast(email_touch_count_total as integer) as email_touch_count_total,
    (direct_touch_count_90d > 0)::integer + (organic_search_touch_count_90d > 0)::integer + (paid_search_touch_count_90d > 0)::integer + (organic_social_touch_count_90d > 0)::integer + (paid_social_touch_count_90d > 0)::integer + (email_touch_count_90d > 0)::integer + (display_touch_count_90d > 0)::integer + (referral_touch_count_90d > 0)::integer + (message_touch_count_90d > 0)::integer + (other_touch_count_90d > 0)::integer as channel_count_90d,
    ['direct', 'organic_search', 'paid_search', 'organic_social', 'paid_social', 'email', 'display', 'referral', 'message', 'other'][first_touch_key % 32] as first_channel,
    ['direct', 'organic_search', 'paid_search', 'organic_social', 'paid_social', 'email', 'display', 'referral', 'message', 'other'][last_touch_key % 32] as last_channel,
    ['desktop', 'mobile', 'tablet', 'other'][last_device_key % 8] as last_device_type,
    cast(desktop_session_count_90d as integer) as desktop_session_count_90d, cast(mobile_session_count_90d as integer) as mobile_session_count_90d, cast(tablet_session_count_90d as integer) as tablet_session_count_90d,
    mobile_session_count_90d::double / nullif(session_count_90d, 0) as mobile_session_share_90d,
    cast(conversion_count_7d as integer) as conversion_count_7d, cast(conversion_count_28d as integer) as conversion_count_28d, cast(conversion_count_90d as integer) as conversion_count_90d, cast(conversion_count_total as integer) as conversion_count_total,
    cast(revenue_amount_28d as decimal(18, 4)) as revenue_amount_28d, cast(revenue_amount_90d as decimal(18, 4)) as revenue_amount_90d, cast(revenue_amount_total as decimal(18, 4)) as revenue_amount_total,
    (epoch_us(as_of_at) - last_conversion_us) / 3600000000::double as hours_since_last_conversion,
    cast(revenue_amount_total as decimal(18, 4))::double / nullif(conversion_count_total, 0) as mean_order_amount_total,
    cast(refund_count_90d as integer) as refund_count_90d, cast(refund_amount_90d as decimal(18, 4)) as refund_amount_90d,
    max_stage_rank_28d, max_stage_rank_90d, max_stage_rank as max_stage_rank_total
from summed
inner join identified using (person, as_of_at)
inner join persons using (person);

-- A conversion belongs to whom it is known to belong to when the horizon ends, and so to whoever that person's identifiers were known as at the point.
-- statement: label_conversion
create table features.label_conversion as
with ripe as (
    select as_of_at, as_of_at + to_days(getvariable('horizon_days')) as ends_at
    from grid
    cross join pipeline.raw.run_clock
    where is_monday and as_of_at + to_days(getvariable('horizon_days')) <= data_now
),

aimed as (
    select event_id, occurred_at, value_reporting, as_of_at, ends_at, unnest(node_ids) as node_id, generate_subscripts(node_ids, 1) as place
    from pipeline_outputs.intermediate.int_events_sessionized
    inner join ripe on as_of_at <= occurred_at and occurred_at < ends_at
    where is_counted and event_id in (select event_id from pipeline.intermediate.int_conversions_deduplicated where goal = getvariable('goal'))
),

buyers as (
    select event_id, as_of_at, ends_at, any_value(occurred_at) as occurred_at, any_value(value_reporting) as value_reporting, min_by(person, place) as person
    from aimed
    inner join known using (node_id)
    where known.valid_from < ends_at and (known.valid_to is null or ends_at <= known.valid_to)
    group by event_id, as_of_at, ends_at
),

known_buyers as (
    select distinct buyers.event_id, buyers.as_of_at, buyers.occurred_at, buyers.value_reporting, earlier.customer_id
    from buyers
    inner join known as later
        on later.person = buyers.person and later.valid_from < buyers.ends_at and (later.valid_to is null or buyers.ends_at <= later.valid_to)
    inner join known as earlier
        on earlier.node_id = later.node_id and earlier.valid_from < buyers.as_of_at and (earlier.valid_to is null or buyers.as_of_at <= earlier.valid_to)
),

converted as (
    select
        customer_id, as_of_at, min(occurred_at) as first_converted_at, cast(sum(coalesce(value_reporting, 0)) as decimal(18, 4)) as conversion_value
    from known_buyers
    group by customer_id, as_of_at
)

select
    points.customer_point_id, points.customer_id, points.as_of_at, getvariable('horizon_days') as horizon_days,
    converted.customer_id is not null as is_converted, converted.first_converted_at, converted.conversion_value
from features.points
inner join ripe using (as_of_at)
left join converted on converted.customer_id = points.customer_id and converted.as_of_at = points.as_of_at;
