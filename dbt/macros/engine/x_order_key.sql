{# Several columns as one sort key, for min_by and max_by. #}
{% macro x_order_key(columns) -%} {{ adapter.dispatch('x_order_key', 'waymark')(columns) }} {%- endmacro %}
{% macro duckdb__x_order_key(columns) -%} row({{ columns | join(", ") }}) {%- endmacro %}
{% macro default__x_order_key(columns) -%} struct({{ columns | join(", ") }}) {%- endmacro %}
