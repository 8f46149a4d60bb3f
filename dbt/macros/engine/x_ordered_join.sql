{# Aggregate: the texts of a group, in the given order (never without one), joined by a separator. #}
{% macro x_ordered_join(text, separator, order_by) -%} {{ adapter.dispatch('x_ordered_join', 'waymark')(text, separator, order_by) }} {%- endmacro %}
{% macro duckdb__x_ordered_join(text, separator, order_by) -%}
    array_to_string(list({{ text }} order by {{ order_by | join(' asc nulls first, ') }} asc nulls first), {{ sql_text(separator) }})
{%- endmacro %}
{% macro default__x_ordered_join(text, separator, order_by) -%}
    array_join(transform(array_sort(collect_list(struct({{ order_by | join(", ") }}, {{ text }} as joined_text))), item -> item.joined_text), {{ sql_text(separator) }})
{%- endmacro %}
