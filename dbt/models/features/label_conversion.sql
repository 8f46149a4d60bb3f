with labels as (
    select * from {{ ref('int_customer_labels') }} as label
    where {{ consented('label') }}
),

labelled as (
    select
        {{ customer_point_id('customer_id', 'as_of_at') }} as customer_point_id,
        customer_id,
        as_of_at,
        {{ var('horizon_days') | int }} as horizon_days,
        is_converted,
        first_converted_at,
        conversion_value
    from labels
)

select * from labelled
