{# Does the event count toward sessions, journeys and features? Bots and staff do not, unless the project says so. #}
{% macro counts_toward_journeys(is_bot, is_internal) -%}
    (
        {%- if var('exclude_bots') %} not {{ is_bot }} {%- else %} true {%- endif %}
        {%- if var('exclude_internal') %} and not {{ is_internal }} {%- endif -%}
    )
{%- endmacro %}
