-- What does not count has no session and no customer.
select event_id from {{ ref('fct_events') }}
where not is_counted and (session_id is not null or customer_id is not null)
