{# Does the event count toward sessions, journeys and features? Bots and staff do not, unless the project says so; what was said of consent never does. #}
{% macro counts_toward_journeys(is_bot, is_internal, is_consent_event) -%}
    (not {{ is_consent_event }}
        {%- if var('exclude_bots') %} and not {{ is_bot }} {%- endif %}
        {%- if var('exclude_internal') %} and not {{ is_internal }} {%- endif -%}
    )
{%- endmacro %}
