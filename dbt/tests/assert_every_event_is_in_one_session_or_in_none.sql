-- Sessions' events and the events without session are all events: nothing was lost or doubled on the way from staging to sessions.
-- int_events is named without ref(): it is built by the first of the run's two selections, and a check that touches both would run in that one, too early.
with counts as (
    select
        (select count(*) from intermediate.int_events) as accepted,
        (select count(*) from {{ ref('fct_events') }}) as published,
        (select count(*) from {{ ref('fct_events') }} where session_id is null) as without_session,
        (select coalesce(sum(event_count), 0) from {{ ref('fct_sessions') }}) as in_sessions
)

select * from counts where accepted <> published or without_session + in_sessions <> published
