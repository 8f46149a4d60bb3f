{#
  A stable 63-bit key of a text: the last eight bytes of its md5, read little-endian, without the lowest bit. BIGINT, never negative.
  Not hash(): that one differs between engines and versions. The twin works digit by digit, in BIGINT arithmetic that every engine has.
#}
{% macro x_visitor_key(text) -%} {{ adapter.dispatch('x_visitor_key', 'waymark')(text) }} {%- endmacro %}
{% macro duckdb__x_visitor_key(text) -%} cast(md5_number_lower({{ text }}) >> 1 as bigint) {%- endmacro %}
{% macro default__x_visitor_key(text) -%}
    (
    {#- digit positions in md5's 32 hex digits, most significant first: bytes 16 .. 9, each of two digits -#}
    {%- set positions = [31, 32, 29, 30, 27, 28, 25, 26, 23, 24, 21, 22, 19, 20, 17, 18] -%}
    {%- for position in positions -%}
        {%- set digit = "cast(instr('0123456789abcdef', substr(md5(" ~ text ~ "), " ~ position ~ ", 1)) - 1 as bigint)" -%}
        {%- if loop.last -%} cast(floor({{ digit }} / 2.0) as bigint)
        {%- else -%} {{ digit }} * cast({{ 8 * 16 ** (14 - loop.index0) }} as bigint) +
        {%- endif %}
    {% endfor -%}
    )
{%- endmacro %}
