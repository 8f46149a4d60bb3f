with activity as (
    select * from {{ ref('int_customer_activity') }} as point
    where {{ consented('point') }}
),

customer_value as (
    select
        {{ customer_point_id('customer_id', 'as_of_at') }} as customer_point_id,
        customer_id,
        as_of_at,
        conversion_count_7d,
        conversion_count_28d,
        conversion_count_90d,
        conversion_count_total,
        revenue_amount_28d,
        revenue_amount_90d,
        revenue_amount_total,
        ({{ x_epoch_us('as_of_at') }} - last_conversion_us) / cast(3600000000 as double) as hours_since_last_conversion,
        cast(revenue_amount_total as double) / nullif(conversion_count_total, 0) as mean_order_amount_total,
        refund_count_90d,
        refund_amount_90d,
        cast(max_stage_rank_28d as integer) as max_stage_rank_28d,
        cast(max_stage_rank_90d as integer) as max_stage_rank_90d,
        cast(max_stage_rank as integer) as max_stage_rank_total
    from activity
)

select * from customer_value
