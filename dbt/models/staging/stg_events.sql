{{ config(tags=['before_identity']) }}

with events as (
    {{ union_of_sources('events') }}
)

select * from events
