{# The node ids of a list of identifiers, in the list's order; NULL for NULL. #}
{% macro x_node_ids(identifiers) -%} {{ adapter.dispatch('x_node_ids', 'waymark')(identifiers) }} {%- endmacro %}
{% macro duckdb__x_node_ids(identifiers) -%}
    list_transform({{ identifiers }}, lambda identifier: {{ x_visitor_key("identifier.type || '|' || identifier.value") }})
{%- endmacro %}
{% macro default__x_node_ids(identifiers) -%}
    transform({{ identifiers }}, identifier -> {{ x_visitor_key("identifier.type || '|' || identifier.value") }})
{%- endmacro %}
