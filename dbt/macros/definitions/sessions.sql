{# The gap that a session outlives, in microseconds; only a longer one ends it. #}
{% macro session_gap_us() -%} cast({{ (var('session_gap_minutes') | int) * 60 * 1000000 }} as bigint) {%- endmacro %}

{# The pause that a journey outlives, in microseconds; only a longer one ends it. #}
{% macro journey_timeout_us() -%} cast({{ (var('journey_timeout_days') | int) * 86400 * 1000000 }} as bigint) {%- endmacro %}

{# A page or a screen was seen. #}
{% macro is_page_view(event_type) -%} {{ event_type }} in ('page_viewed', 'screen_viewed') {%- endmacro %}

{# GA4's engaged session: ten seconds, or a conversion, or two page or screen views. #}
{% macro is_engaged_session(duration_us, conversion_count, page_view_count) -%}
    ({{ duration_us }} >= 10000000 or {{ conversion_count }} >= 1 or {{ page_view_count }} >= 2)
{%- endmacro %}

{# The pure name of a session: a digest of its key, its start and its first event. #}
{% macro session_id(session_key_id, started_us, first_event_id) -%}
    's_' || substr(md5(cast({{ session_key_id }} as varchar) || '|' || cast({{ started_us }} as varchar) || '|' || {{ first_event_id }}), 1, 24)
{%- endmacro %}

{# The pure name of a touchpoint: what was touched (a session, or an event without one) and by whom. #}
{% macro touchpoint_id(session_id, first_event_id, customer_id) -%}
    't_' || substr(md5(coalesce({{ session_id }}, {{ first_event_id }}) || '|' || {{ customer_id }}), 1, 24)
{%- endmacro %}
