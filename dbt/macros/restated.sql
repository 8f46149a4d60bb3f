{#
  What a run re-states. Each scope is one predicate over an alias, used twice: to pick the rows that are computed again, and to delete the old ones.

  session_keys    the sessions of a key from an instant on
  events          events named one by one: the pending ones, those of a restated order, those without session whose customer changed
  placements      events whose session or customer is stated again: those of session_keys and of events
  first_placements  the same, where the column is first_event_id
  orders          orders of which a report arrived or changed
  customers       customers, by old and new id
  pending_events  events of batches that no finished run has seen: all that is known before identities are resolved
  journey_status  journeys that time alone moved from open to lapsed
  nodes           identifiers whose daily activity changed
  feature_customers  customers, as known at any time, whose features or labels changed
  fresh_points    points of the feature grid that the last finished run did not reach, and its own data_now, which may be a point no more
  fresh_labels    points whose label was not ripe when the last run finished

  `waymark.identity` fills the tables (docs/architecture.md, section 3) so that each scope is whole by itself: an order's events bring their session
  keys and their customers along, and a key is re-stated from the start of the session that holds the instant.

  Placements and pending events are named by their instants too, all under which a table can hold them: an event's time is narrow, and tables of events are
  stored in its order, so an engine skips what lies outside and decodes the text of few rows. It drops nothing: a row with one of these ids has one of these
  instants. A pending event whose content was another before stands in raw.event_conflicts with the time of each of its contents.
#}
{% macro restated(scope, alias, at='occurred_at') -%}
    {%- if scope == 'session_keys' -%}
        {#- The first condition follows from the second, and spares it nearly all rows: an engine takes it as a semi-join, the second as a join with every row that is left. -#}
        ({{ alias }}.session_key_id in (select restated.session_key_id from {{ source('identity', 'restated_session_keys') }} as restated)
        and exists (select 1 from {{ source('identity', 'restated_session_keys') }} as restated where restated.session_key_id = {{ alias }}.session_key_id and restated.restate_from <= {{ alias }}.{{ at }}))
    {%- elif scope == 'pending_events' -%}
        {{ alias }}.event_id in (select pending.event_id from {{ ref('stg_pending_events') }} as pending)
        and {{ alias }}.{{ at }} in (
            select pending.occurred_at from {{ ref('stg_pending_events') }} as pending
            union all
            select conflict.occurred_at from {{ source('raw', 'event_conflicts') }} as conflict
            where conflict.event_id in (select pending.event_id from {{ ref('stg_pending_events') }} as pending)
        )
    {%- elif scope == 'events' -%}
        {{ alias }}.event_id in (select restated.event_id from {{ source('identity', 'restated_events') }} as restated)
    {%- elif scope in ('placements', 'first_placements') -%}
        {{ alias }}.{{ 'first_event_id' if scope == 'first_placements' else 'event_id' }} in (select restated.event_id from {{ source('identity', 'restated_placements') }} as restated)
        and {{ alias }}.{{ at }} in (select restated.occurred_at from {{ source('identity', 'restated_placements') }} as restated)
    {%- elif scope == 'orders' -%}
        {{ alias }}.order_id in (select restated.order_id from {{ source('identity', 'restated_orders') }} as restated)
    {%- elif scope == 'customers' -%}
        {{ alias }}.customer_id in (select restated.customer_id from {{ source('identity', 'restated_customers') }} as restated)
    {%- elif scope == 'nodes' -%}
        {{ alias }}.node_id in (select restated.node_id from {{ source('identity', 'restated_nodes') }} as restated)
    {%- elif scope == 'feature_customers' -%}
        {{ alias }}.customer_id in (select restated.customer_id from {{ source('identity', 'restated_feature_customers') }} as restated)
    {%- elif scope == 'fresh_points' -%}
        {{ alias }}.as_of_at >= {{ finished_data_now() }}
    {%- elif scope == 'fresh_labels' -%}
        {{ x_add_days(alias ~ '.as_of_at', var('horizon_days')) }} > {{ finished_data_now() }}
    {%- elif scope == 'journey_status' -%}
        {{ alias }}.status <> {{ journey_status(alias ~ '.converted_at', alias ~ '.ended_at') }}
    {%- else -%}
        {{ exceptions.raise_compiler_error("no such scope: '" ~ scope ~ "' (see macros/restated.sql)") }}
    {%- endif -%}
{%- endmacro %}

{#
  Generic tests of event-sized tables may say `where: "restated"`: all rows after a full refresh, else only the rows that the run re-stated.
  A duplicate shares its key with its twin, so nothing that a run could have broken stays unseen.
#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where') -%}
    {%- if not where -%} {{ relation }}
    {%- elif where.startswith('restated') -%}
        {%- if flags.FULL_REFRESH -%} {{ relation }}
        {%- else -%}
            {%- set scope = where.split(' ')[1] if ' ' in where else 'placements' -%}
            (select * from {{ relation }} as tested where
            {%- if scope == 'placements' %} tested.event_id in (select event_id from identity.restated_placements)
            {%- elif scope == 'pending' %} tested.event_id in (select event_id from staging.stg_pending_events)
            {%- elif scope == 'nodes' %} tested.node_id in (select node_id from identity.restated_nodes)
            {%- elif scope == 'points' %} tested.as_of_at >= (select coalesce(max(data_now), timestamp '0001-01-01 00:00:00') from identity.finished_clock)
                or tested.customer_id in (select customer_id from identity.restated_feature_customers)
            {%- elif scope == 'first_placements' %} tested.first_event_id in (select event_id from identity.restated_placements)
            {%- else %} {{ exceptions.raise_compiler_error("no such test scope: " ~ where) }} {%- endif %}) as dbt_subquery
        {%- endif -%}
    {%- else -%} (select * from {{ relation }} where {{ where }}) as dbt_subquery
    {%- endif -%}
{%- endmacro %}

{# data_now of the last finished run; before all time where none finished. #}
{% macro finished_data_now() -%}
    coalesce((select max(finished.data_now) from {{ source('identity', 'finished_clock') }} as finished), timestamp '0001-01-01 00:00:00')
{%- endmacro %}

{# This run's clock. #}
{% macro data_now() -%} (select clock.data_now from {{ source('raw', 'run_clock') }} as clock) {%- endmacro %}
