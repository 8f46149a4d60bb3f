{#
  A model of many wide groups is computed a slice of the customers at a time, so that each slice's groups fit in memory. The model's own statement is the
  first slice and says so (`slice_mark`); `insert_other_slices`, its post-hook, repeats it for the others, in the same transaction.
#}

{# How many slices: a relation's rows beside rows_in_a_slice (default: var node_days_in_a_slice). condition: which rows count, over alias `counted`. 1 where nothing runs. #}
{% macro slices_for(relation, condition='true', rows_in_a_slice=none) -%}
    {%- if not execute or flags.WHICH not in ('build', 'run') or not load_relation(relation) -%} {{ return(1) }} {%- endif -%}
    {%- set rows = run_query("select count(*) from " ~ relation ~ " as counted where " ~ condition).columns[0].values()[0] -%}
    {{ return([1 + (rows | int) // (rows_in_a_slice or var('node_days_in_a_slice') | int), 256] | min) }}
{%- endmacro %}

{% macro slice_mark(slices) -%} -- slice 1 of {{ slices }} {%- endmacro %}

{# Condition: the customer is of this slice, counted from 0. An id is two characters and a digest in hex: equal ranges of its first two digits are equal shares. #}
{% macro in_slice(customer_id, slice, slices) -%}
    {%- set digits = "substr(" ~ customer_id ~ ", 3, 2)" -%}
    {{ digits }} >= '{{ '%02x' | format(256 * slice // slices) }}'
    {%- if slice + 1 < slices %} and {{ digits }} < '{{ '%02x' | format(256 * (slice + 1) // slices) }}' {%- endif %}
{%- endmacro %}

{% macro insert_other_slices(customer_id) -%}
    {%- if execute -%}
    {%- set slices = modules.re.search('slice 1 of ([0-9]+)', compiled_code).group(1) | int -%}
    {%- set names = adapter.get_columns_in_relation(this) | map(attribute='quoted') | join(', ') -%}
    {%- for slice in range(1, slices) %}
    insert into {{ this }} ({{ names }}) {{ compiled_code | replace(in_slice(customer_id, 0, slices), in_slice(customer_id, slice, slices)) }};
    {% endfor %}
    {%- endif -%}
{%- endmacro %}
