{#- In the outputs, because published views ask what stands now, and the file that they are published in has no other clock of the run. -#}
{{ config(materialized='table', database='outputs') }}

with clock as (
    select {{ data_now() }} as data_now
),

-- Before anything has come in, the clock stands nowhere.
dated as (
    select data_now, {{ x_local_date('data_now', var('reporting_timezone')) }} as reporting_date from clock where data_now is not null
)

select * from dated
