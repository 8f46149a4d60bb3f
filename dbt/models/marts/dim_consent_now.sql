{{ config(materialized='view') }}

with clock as (
    select data_now from {{ ref('int_run_clock') }}
),

intervals as (
    select * from {{ ref('fct_consent_intervals') }}
),

standing as (
    select intervals.*
    from intervals
    inner join clock on intervals.valid_from <= clock.data_now and (intervals.valid_to is null or clock.data_now < intervals.valid_to)
),

-- A withdrawal or an expiry of a clock that runs ahead, with nothing after it. An event that grants is none, also where its grant lapses one day.
ahead as (
    select intervals.*
    from intervals
    inner join clock on clock.data_now < intervals.valid_from
    where intervals.valid_to is null
        and not exists (
            select 1 from intervals as granted
            where granted.customer_id = intervals.customer_id
                and granted.scope = intervals.scope
                and granted.event_id = intervals.event_id
                and granted.state = 'granted'
        )
),

consent_now as (
    select * from ahead
    union all
    select * from standing
    where not exists (select 1 from ahead where ahead.customer_id = standing.customer_id and ahead.scope = standing.scope)
)

select * from consent_now
