with activity as (
    select * from {{ ref('int_customer_activity') }} as point
    where {{ consented('point') }}
),

channels as (
    select
        {{ customer_point_id('customer_id', 'as_of_at') }} as customer_point_id,
        customer_id,
        as_of_at,
        touch_count_7d,
        touch_count_28d,
        touch_count_90d,
        direct_touch_count_90d,
        organic_search_touch_count_90d,
        paid_search_touch_count_90d,
        organic_social_touch_count_90d,
        paid_social_touch_count_90d,
        email_touch_count_90d,
        display_touch_count_90d,
        referral_touch_count_90d,
        message_touch_count_90d,
        other_touch_count_90d,
        organic_social_touch_count_total,
        paid_social_touch_count_total,
        email_touch_count_total,
        cast(case when direct_touch_count_90d > 0 then 1 else 0 end + case when organic_search_touch_count_90d > 0 then 1 else 0 end + case when paid_search_touch_count_90d > 0 then 1 else 0 end + case when organic_social_touch_count_90d > 0 then 1 else 0 end + case when paid_social_touch_count_90d > 0 then 1 else 0 end + case when email_touch_count_90d > 0 then 1 else 0 end + case when display_touch_count_90d > 0 then 1 else 0 end + case when referral_touch_count_90d > 0 then 1 else 0 end + case when message_touch_count_90d > 0 then 1 else 0 end + case when other_touch_count_90d > 0 then 1 else 0 end as integer) as channel_count_90d,
        {{ channel_of_code('first_touch_key % 32') }} as first_channel,
        {{ channel_of_code('last_touch_key % 32') }} as last_channel,
        {{ device_of_code('last_device_key % 8') }} as last_device_type,
        desktop_session_count_90d,
        mobile_session_count_90d,
        tablet_session_count_90d,
        cast(mobile_session_count_90d as double) / nullif(session_count_90d, 0) as mobile_session_share_90d
    from activity
)

select * from channels
