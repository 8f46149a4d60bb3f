{# Plain schema names: staging, intermediate, marts. The default would prefix the profile's own schema. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
