{# The calendar date of a UTC timestamp in a time zone. Twin for UTC: the plain cast. #}
{% macro x_local_date(at, time_zone) -%}
    {%- if time_zone == 'UTC' -%} cast({{ at }} as date) {%- else -%} {{ adapter.dispatch('x_local_date', 'waymark')(at, time_zone) }} {%- endif -%}
{%- endmacro %}
{% macro duckdb__x_local_date(at, time_zone) -%} cast(timezone({{ sql_text(time_zone) }}, timezone('UTC', {{ at }})) as date) {%- endmacro %}
{% macro default__x_local_date(at, time_zone) -%} cast(from_utc_timestamp({{ at }}, {{ sql_text(time_zone) }}) as date) {%- endmacro %}
