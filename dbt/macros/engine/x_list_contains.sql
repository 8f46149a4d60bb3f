{# Is the value in the list? False where the list is NULL. #}
{% macro x_list_contains(list, value) -%} {{ adapter.dispatch('x_list_contains', 'waymark')(list, value) }} {%- endmacro %}
{% macro duckdb__x_list_contains(list, value) -%} coalesce(list_contains({{ list }}, {{ value }}), false) {%- endmacro %}
{% macro default__x_list_contains(list, value) -%} coalesce(array_contains({{ list }}, {{ value }}), false) {%- endmacro %}
