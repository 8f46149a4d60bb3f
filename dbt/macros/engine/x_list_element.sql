{# The element at a 1-based position; NULL beyond the end, and for a NULL list. #}
{% macro x_list_element(list, position) -%} {{ adapter.dispatch('x_list_element', 'waymark')(list, position) }} {%- endmacro %}
{% macro duckdb__x_list_element(list, position) -%} list_extract({{ list }}, {{ position }}) {%- endmacro %}
{% macro default__x_list_element(list, position) -%} get({{ list }}, {{ position }} - 1) {%- endmacro %}
