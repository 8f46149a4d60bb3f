{#
  A rebuild of a table as wide as all events, a share of the days at a time, so that what is joined fits in memory and nothing wide is written to the scratch
  folder. A model says by comments where that may begin and what it bounds; read as comments, they leave it as it is:

  -- STEP in slices of time of RELATION    all before it, up to STEP (a CTE with occurred_at), is made once and kept; all after it is made once a slice
  -- in slices of time of RELATION         at the model's head: all is made once a slice
  -- slice of time: where COLUMN           in what comes after: the slice's bounds stand here (or: and COLUMN)
  -- part of keys: where COLUMN            in what comes before: it is made in parts, each of some keys, where events are so many that sorting them at once
                                           would fill the scratch folder (the windows and joins before STEP must be within a key)

  RELATION has the events by which the days are cut: occurred_at. Results do not depend on how.
#}

{# Into how many parts STEP is made: each of so many events that its sorts take some gigabytes of scratch beside the default memory limit. #}
{% macro parts_of_keys(relation) -%}
    {%- set events = run_query("select count(*) from " ~ relation).columns[0].values()[0] | int -%}
    {{ return(1 + events // (4 * (var('events_in_a_slice') | int))) }}
{%- endmacro %}

{# The statement up to STEP with the condition of a part, counted from 0. #}
{% macro in_part_of_keys(sql, part, parts) -%}
    {{ return(modules.re.sub('-- part of keys: (where|and) (\\S+)', '\\1 coalesce(\\2, 0) % ' ~ parts ~ ' = ' ~ part, sql)) }}
{%- endmacro %}

{# The days at which a slice begins, but for the first; none where all events are one slice. #}
{% macro starts_of_slices(relation) -%}
    {%- set days = run_query("select cast(occurred_at as date) as day, count(*) as event_count from " ~ relation ~ " group by day order by day asc nulls first") -%}
    {%- set cut = namespace(starts=[], held=0) -%}
    {%- for row in days.rows -%}
        {%- if cut.held > 0 and cut.held + row[1] > (var('events_in_a_slice') | int) -%}
            {%- do cut.starts.append(row[0] | string) -%} {%- set cut.held = 0 -%}
        {%- endif -%}
        {%- set cut.held = cut.held + row[1] -%}
    {%- endfor -%}
    {{ return(cut.starts) }}
{%- endmacro %}

{# Condition: the instant is in the slice, counted from 0. #}
{% macro in_slice_of_time(at, starts, slice) -%}
    {%- set bounds = [] -%}
    {%- if slice > 0 -%} {%- do bounds.append(at ~ " >= timestamp '" ~ starts[slice - 1] ~ " 00:00:00'") -%} {%- endif -%}
    {%- if slice < starts | length -%} {%- do bounds.append(at ~ " < timestamp '" ~ starts[slice] ~ " 00:00:00'") -%} {%- endif -%}
    {{ return(bounds | join(' and ')) }}
{%- endmacro %}

{# Where the model may be cut, as a match with the groups STEP and RELATION; None where it may not. #}
{% macro cut_of_time() -%}
    {{ return(modules.re.search('-- (?:(\\w+) )?in slices of time of (\\S+)', compiled_code)) }}
{%- endmacro %}

{# Builds the whole model, and returns what a materialization returns. starts: of the slices, one or more. #}
{% macro build_in_slices_of_time(existing, starts) -%}
    {%- set cut = cut_of_time() -%}
    {%- set step, kept = cut.group(1), cut.group(2).rsplit('.', 1)[0] ~ '.' ~ this.identifier ~ '__step' -%}
    {%- if step %}
        {#- In the order of time within a part, so that a slice reads its own days of the step and not all of it. -#}
        {%- set parts, before = parts_of_keys(cut.group(2)), compiled_code[:cut.start()].rstrip().rstrip(',') -%}
        {%- set before = before ~ ' select * from ' ~ step ~ ' order by occurred_at asc nulls first' -%}
        {%- call statement('step') -%}
            create or replace table {{ kept }} as ({{ in_part_of_keys(before, 0, parts) }});
            {%- for part in range(1, parts) %}
            insert into {{ kept }} {{ in_part_of_keys(before, part, parts) }};
            {%- endfor %}
        {%- endcall %}
        {%- do adapter.commit() -%}
    {%- endif %}
    {%- set made = [] -%}
    {%- for slice in range(starts | length + 1) -%}
        {%- set head = "with " ~ step ~ " as (select * from " ~ kept ~ " where " ~ in_slice_of_time('occurred_at', starts, slice) ~ "), " if step else "" -%}
        {%- do made.append(head ~ modules.re.sub('-- slice of time: (where|and) (\\S+)', '\\1 ' ~ in_slice_of_time('\\2', starts, slice), compiled_code[cut.end():])) -%}
    {%- endfor -%}
    {%- if existing is not none -%} {%- do adapter.drop_relation(existing) -%} {%- endif -%}
    {%- call statement('main') -%}
        {{ create_table_as(False, this, made[0]) }}
        {%- for sql in made[1:] %}
        insert into {{ this }} by name {{ sql }};
        {%- endfor %}
    {%- endcall %}
    {%- do adapter.commit() -%}
    {%- if step %}
        {#- Its blocks are free for the next models once they are checkpointed, which is refused inside a transaction. -#}
        {%- call statement('drop_step') -%} drop table {{ kept }} {%- endcall -%}
        {%- do adapter.commit() -%}
        {%- call statement('free_step', auto_begin=False) -%} checkpoint {{ kept.split('.')[0] }} {%- endcall -%}
    {%- endif %}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{%- endmacro %}
