{# A share of the customers at a time, so that groups as wide as all their features fit in memory: see slices.sql. #}

{# How many slices: rows (an aggregate over alias `counted`) of a relation beside rows_in_a_slice. 1 where nothing runs. #}
{% macro slices_for(relation, rows_in_a_slice, rows='count(*)') -%}
    {%- if not execute or flags.WHICH not in ('build', 'run') or not load_relation(relation) -%} {{ return(1) }} {%- endif -%}
    {%- set rows = run_query("select coalesce(" ~ rows ~ ", 0) from " ~ relation ~ " as counted").columns[0].values()[0] -%}
    {{ return([1 + (rows | int) // (rows_in_a_slice | int), 256] | min) }}
{%- endmacro %}

{# The first id of a slice, counted from 0. An id is `c_` and a digest in hex: equal ranges of its first two digits are equal shares. #}
{% macro start_of_slice(slice, slices) -%} 'c_{{ '%02x' | format(256 * slice // slices) }}' {%- endmacro %}

{# Condition: the customer is of the slice. #}
{% macro in_slice_of_customers(customer_id, slice, slices) -%}
    {{ customer_id }} >= {{ start_of_slice(slice, slices) }} {%- if slice + 1 < slices %} and {{ customer_id }} < {{ start_of_slice(slice + 1, slices) }} {%- endif %}
{%- endmacro %}

{# The customer's slice, as a number from 0. #}
{% macro slice_of_customer(customer_id, slices) -%}
    cast(case {%- for slice in range(slices - 1) %} when {{ customer_id }} < {{ start_of_slice(slice + 1, slices) }} then {{ slice }} {%- endfor %} else {{ slices - 1 }} end as smallint)
{%- endmacro %}

{# The plan; none where the model is not cut so. #}
{% macro plan_of_slices_of_customers() -%}
    {%- set cut = modules.re.search('-- (?:(\\w+) )?in ([0-9]+) slices of customers(?:, by time of (\\S+))?', compiled_code) -%}
    {%- if not cut -%} {{ return(none) }} {%- endif -%}
    {%- set step, slices, after, kept, made = cut.group(1), cut.group(2) | int, compiled_code[cut.end():], [], [] -%}
    {%- if step %}
        {%- set before = compiled_code[:cut.start()].rstrip().rstrip(',') ~ ' select * from ' ~ step ~ ' order by slice asc nulls first' -%}
        {%- set kept = in_slices_of_time(before, starts_of_slices(cut.group(3))) -%}
    {%- endif %}
    {%- for slice in range(slices) -%}
        {%- set head = 'with ' ~ step ~ ' as (select * from ' ~ plan_of_slices(step).kept ~ ' where slice = ' ~ slice ~ '), ' if step else '' -%}
        {%- do made.append(head ~ modules.re.sub('-- slice of customers: (where|and) (\\S+)', '\\1 ' ~ in_slice_of_customers('\\2', slice, slices), after)) -%}
    {%- endfor -%}
    {{ return(plan_of_slices(step, kept, made)) }}
{%- endmacro %}
