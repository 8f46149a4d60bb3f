with points as (
    select point.customer_point_id, point.customer_id, point.as_of_at
    from {{ ref('int_customer_activity') }} as point
    where {{ consented_today('point') }}
)

select * from points
