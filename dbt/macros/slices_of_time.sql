{# A share of the days at a time, so that a join as wide as all events fits in memory: see slices.sql. #}

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

{# Condition: the instant is in the slice, counted from 0, of several. #}
{% macro in_slice_of_time(at, starts, slice) -%}
    {%- set bounds = [] -%}
    {%- if slice > 0 -%} {%- do bounds.append(at ~ " >= timestamp '" ~ starts[slice - 1] ~ " 00:00:00'") -%} {%- endif -%}
    {%- if slice < starts | length -%} {%- do bounds.append(at ~ " < timestamp '" ~ starts[slice] ~ " 00:00:00'") -%} {%- endif -%}
    {{ return(bounds | join(' and ')) }}
{%- endmacro %}

{# The statement, once a slice of time. #}
{% macro in_slices_of_time(sql, starts) -%}
    {%- set made = [] -%}
    {%- for slice in range(starts | length + 1) if starts -%}
        {%- do made.append(modules.re.sub('-- slice of time: (where|and) (\\S+)', '\\1 ' ~ in_slice_of_time('\\2', starts, slice), sql)) -%}
    {%- endfor -%}
    {{ return(made or [sql]) }}
{%- endmacro %}

{# The plan of a rebuild; none where the model is not to be cut so, or all events are one slice. #}
{% macro plan_of_slices_of_time() -%}
    {%- set cut = modules.re.search('-- (?:(\\w+) )?in slices of time of (\\S+)', compiled_code) -%}
    {%- set starts = starts_of_slices(cut.group(2)) if cut else [] -%}
    {%- if not starts -%} {{ return(none) }} {%- endif -%}
    {%- set step, after, kept = cut.group(1), compiled_code[cut.end():], [] -%}
    {%- if step %}
        {%- set before = compiled_code[:cut.start()].rstrip().rstrip(',') ~ ' select * from ' ~ step ~ ' order by occurred_at asc nulls first' -%}
        {%- set parts = parts_of_keys(cut.group(2)) -%}
        {%- for part in range(parts) -%} {%- do kept.append(in_part_of_keys(before, part, parts)) -%} {%- endfor -%}
        {%- set after = 'with ' ~ step ~ ' as (select * from ' ~ plan_of_slices(step).kept ~ ' -- slice of time: where occurred_at\n), ' ~ after -%}
    {%- endif %}
    {{ return(plan_of_slices(step, kept, in_slices_of_time(after, starts))) }}
{%- endmacro %}
