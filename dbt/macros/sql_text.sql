{# A setting as an SQL text literal. A quote inside is doubled, so that no setting can end the literal. #}
{% macro sql_text(value) -%}
    '{{ (value | string).replace("'", "''") }}'
{%- endmacro %}

{# A list of settings as the inside of an IN list. An empty list matches nothing. #}
{% macro sql_text_list(values) -%}
    {%- if values | length == 0 -%} null {%- endif -%}
    {%- for value in values -%} {{ sql_text(value) }}{{ ", " if not loop.last }} {%- endfor -%}
{%- endmacro %}
