{# A timestamp so many whole days later. #}
{% macro x_add_days(at, days) -%} {{ adapter.dispatch('x_add_days', 'waymark')(at, days) }} {%- endmacro %}
{% macro duckdb__x_add_days(at, days) -%} ({{ at }} + to_days(cast({{ days }} as integer))) {%- endmacro %}
{% macro default__x_add_days(at, days) -%} timestampadd(day, {{ days }}, {{ at }}) {%- endmacro %}
