{# Does a text hold a match of a regular expression (an SQL literal)? Case counts: fold it first. #}
{% macro x_matches(text, pattern) -%} {{ adapter.dispatch('x_matches', 'waymark')(text, pattern) }} {%- endmacro %}
{% macro duckdb__x_matches(text, pattern) -%} regexp_matches({{ text }}, {{ pattern }}) {%- endmacro %}
{% macro default__x_matches(text, pattern) -%} regexp_like({{ text }}, {{ pattern }}) {%- endmacro %}
