{# The names of the goals that an event type reaches, in the order of `goals`; NULL where it reaches none. #}
{% macro goals_reached(event_type) -%}
    {%- set reached = {} -%}
    {%- for goal in var('goals') -%}
        {%- for name in goal.event_types -%}
            {%- if goal.name not in reached.get(name, []) -%} {%- do reached.update({name: reached.get(name, []) + [goal.name]}) -%} {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    case {{ event_type }}
        {%- for name, goals in reached.items() %}
        when {{ sql_text(name) }} then {{ x_string_list(goals) }}
        {%- endfor %}
    end
{%- endmacro %}

{# Is the event type one of any goal's? #}
{% macro is_conversion(event_type) -%}
    coalesce({{ event_type }} in (
        {%- set names = [] -%}
        {%- for goal in var('goals') -%} {%- do names.extend(goal.event_types) -%} {%- endfor -%}
        {{ sql_text_list(names | unique | list) }}), false)
{%- endmacro %}

{# The name of the first micro-conversion that lists the event type; NULL where none does. #}
{% macro micro_conversion(event_type) -%}
    {%- if var('micro_conversions') | length == 0 -%} cast(null as varchar)
    {%- else -%}
    case
        {%- for micro in var('micro_conversions') %}
        when {{ event_type }} in ({{ sql_text_list(micro.event_types) }}) then {{ sql_text(micro.name) }}
        {%- endfor %}
    end
    {%- endif -%}
{%- endmacro %}
