{{ config(tags=['before_identity']) }}

with pending_events as (
    {{ union_of_sources('pending') }}
)

select * from pending_events
