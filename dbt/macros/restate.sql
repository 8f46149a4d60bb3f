{# Deletes what the scopes of meta.restated_by name. A scope deletes by a statement of its own, so that each is one semi-join. #}
{% macro delete_restated(target) -%}
    {%- set meta = config.get('meta', {}) -%}
    {%- if not meta.get('restated_by') -%}
        {{ exceptions.raise_compiler_error("model " ~ target.identifier ~ " uses strategy restate, but its meta names no restated_by") }}
    {%- endif -%}
    {%- for scope in meta['restated_by'] %}
    delete from {{ target }} as target where {{ restated(scope, 'target', meta.get('restated_at', 'occurred_at')) }};
    {% endfor %}
{%- endmacro %}

{# Incremental strategy `restate`: delete what the scopes name, insert what the model computed for them, in the one transaction that the materialization opens and commits. #}
{% macro get_incremental_restate_sql(arg_dict) -%}
    {%- set names = arg_dict['dest_columns'] | map(attribute='quoted') | join(', ') -%}
    {{ delete_restated(arg_dict['target_relation']) }}
    insert into {{ arg_dict['target_relation'] }} ({{ names }}) select {{ names }} from {{ arg_dict['temp_relation'] }};
{%- endmacro %}

{# Statements: the rows that the model's statements give, put into a table. By name: to ask which columns it has takes dbt longer than a small increment takes the engine. #}
{% macro insert_made(target, made) -%}
    {%- for sql in made %}
    insert into {{ target }} by name (
        {{ sql }}
    );
    {%- endfor %}
{%- endmacro %}

{# Statements: the same into a temporary table of the target's columns. #}
{% macro compute_aside(computed, target, made) -%}
    create or replace temporary table {{ computed }} as select * from {{ target }} limit 0;
    {{ insert_made(computed, made) }}
{%- endmacro %}

{#
  The same on DuckDB, where the adapter would write the computed rows into a temporary table first, and describe both tables four times: rows go straight
  into their table, unless the model reads what stands there, which must then still stand. The whole model is built by the adapter, or in slices (slices.sql).
#}
{% materialization incremental, adapter='duckdb' -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is none or not existing.is_table or should_full_refresh() -%}
        {{- forget_digest(this) -}}
        {%- set plan = plan_of_slices_of_customers() or plan_of_slices_of_time() -%}
        {{ return(build_in_slices(existing, plan) if plan else dbt.materialization_incremental_duckdb()) }}
    {%- endif -%}
    {%- set plan = plan_of_slices_of_customers() or plan_of_slices(none, [], [compiled_code]) -%}
    {%- set computed = this.identifier ~ '__computed' -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- set has_digest = keeps_digest(this) -%}
    {%- do keep_step(plan) -%}
    {% call statement('main') -%}
        {%- if has_digest -%}
        {{ restate_with_digest(this, plan.made) }}
        {%- elif (this | string) in compiled_code -%}
        {{ compute_aside(computed, this, plan.made) }}
        {{ delete_restated(this) }}
        insert into {{ this }} by name from {{ computed }};
        drop table {{ computed }};
        {%- else -%}
        {{ delete_restated(this) }}
        {{ insert_made(this, plan.made) }}
        {%- endif -%}
    {%- endcall %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {%- do drop_step(plan) -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [this]}) }}
{%- endmaterialization %}
