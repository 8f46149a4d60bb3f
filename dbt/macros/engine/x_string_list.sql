{# A list literal of texts. #}
{% macro x_string_list(values) -%} {{ adapter.dispatch('x_string_list', 'waymark')(values) }} {%- endmacro %}
{% macro duckdb__x_string_list(values) -%} [{{ sql_text_list(values) }}] {%- endmacro %}
{% macro default__x_string_list(values) -%} array({{ sql_text_list(values) }}) {%- endmacro %}
