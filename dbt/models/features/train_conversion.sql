with labels as (
    select * from {{ ref('label_conversion') }} as label
    where {{ consented_today('label') }}
)

select * from labels
