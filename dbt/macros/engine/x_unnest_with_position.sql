{# In a FROM list: the elements of a list as rows (element, position), position from 1, beside the row that holds the list. #}
{% macro x_unnest_with_position(list, alias) -%} {{ adapter.dispatch('x_unnest_with_position', 'waymark')(list, alias) }} {%- endmacro %}
{% macro duckdb__x_unnest_with_position(list, alias) -%}
    cross join lateral (select unnest({{ list }}) as element, generate_subscripts({{ list }}, 1) as position) as {{ alias }}
{%- endmacro %}
{% macro default__x_unnest_with_position(list, alias) -%}
    cross join lateral (select col as element, pos + 1 as position from posexplode({{ list }})) as {{ alias }}
{%- endmacro %}
