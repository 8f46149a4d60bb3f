{{ config(materialized='table') }}

with restatements as (
    select
        cast(run_number as varchar) || '_' || customer_before || '_' || coalesce(customer_after, 'nobody') || '_' || why as restatement_id,
        run_number,
        data_now,
        customer_before,
        customer_after,
        why,
        identifier_count,
        rows_by_table
    from {{ source('identity', 'restatements') }}
)

select * from restatements
