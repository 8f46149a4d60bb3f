{# Microseconds since 1970 of a UTC timestamp, BIGINT. Twin: whole-unit difference, exact at microseconds. #}
{% macro x_epoch_us(at) -%} {{ adapter.dispatch('x_epoch_us', 'waymark')(at) }} {%- endmacro %}
{% macro duckdb__x_epoch_us(at) -%} epoch_us({{ at }}) {%- endmacro %}
{% macro spark__x_epoch_us(at) -%} unix_micros({{ at }}) {%- endmacro %}
{% macro default__x_epoch_us(at) -%} cast(date_diff('microsecond', timestamp '1970-01-01 00:00:00', {{ at }}) as bigint) {%- endmacro %}
