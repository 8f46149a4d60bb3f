with activity as (
    select * from {{ ref('int_customer_activity') }} as point
    where {{ consented_today('point') }}
),

points as (
    select
        {{ customer_point_id('customer_id', 'as_of_at') }} as customer_point_id,
        customer_id,
        as_of_at
    from activity
)

select * from points
