{#- In the outputs, because published views ask what stands now, and the file that they are published in has no other clock of the run. -#}
{{ config(materialized='table', database='outputs') }}

with clock as (
    select {{ data_now() }} as data_now
),

dated as (
    select data_now, {{ x_local_date('data_now', var('reporting_timezone')) }} as reporting_date from clock
)

select * from dated
