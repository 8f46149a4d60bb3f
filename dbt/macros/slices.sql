{#
  A table that is too wide to be made at once is made a slice at a time, so that what is joined, sorted and grouped fits in memory and nothing wide is written
  to the scratch folder. A model says by comments where that may begin and what it bounds; read as comments, they leave it as it is. Results do not depend on it.

  of the days, in a rebuild (slices_of_time.sql):
  -- STEP in slices of time of RELATION    all before it, up to STEP (a CTE with occurred_at), is made once and kept; all after it is made once a slice
  -- in slices of time of RELATION         at the model's head: all is made once a slice
  -- slice of time: where COLUMN           the slice's bounds stand here (or: and COLUMN)
  -- part of keys: where COLUMN            in what comes before: it is made in parts, each of some keys, where events are so many that sorting them at once
                                           would fill the scratch folder (the windows and joins before STEP must be within a key)

  of the customers, wherever the model writes so, for as many as it counts (slices_of_customers.sql):
  -- STEP in N slices of customers, by time of RELATION    all before it, up to STEP (a CTE with slice), is made once and kept; all after it is made once a slice.
                                                           What comes before is made in slices of time, where it says that its parts are
  -- in N slices of customers                              at the model's head: all is made once a slice
  -- slice of customers: where COLUMN                      the slice's bounds stand here (or: and COLUMN)

  RELATION has the events by which the days are cut: occurred_at.

  What is kept lies in the order of the slices, so that each reads its own rows and not all of them. A plan has `kept`, the relation that the step is kept in,
  or none; `parts`, the statements that fill it; `made`, the model's own, one a slice.
#}

{% macro plan_of_slices(step, parts, made) -%}
    {%- set kept = api.Relation.create(database=target.database, schema=this.schema, identifier=this.identifier ~ '__step') if step else none -%}
    {{ return({'kept': kept, 'parts': parts, 'made': made}) }}
{%- endmacro %}

{% macro keep_step(plan) -%}
    {%- if plan.kept %}
        {%- call statement('step') -%}
            create or replace table {{ plan.kept }} as ({{ plan.parts[0] }});
            {{ insert_made(plan.kept, plan.parts[1:]) }}
        {%- endcall %}
        {%- do adapter.commit() -%}
    {%- endif %}
{%- endmacro %}

{# Its blocks are free for the next models once they are checkpointed, which is refused inside a transaction. #}
{% macro drop_step(plan) -%}
    {%- if plan.kept %}
        {%- call statement('drop_step') -%} drop table {{ plan.kept }} {%- endcall -%}
        {%- do adapter.commit() -%}
        {%- call statement('free_step', auto_begin=False) -%} checkpoint {{ plan.kept.include(schema=False, identifier=False) }} {%- endcall -%}
    {%- endif %}
{%- endmacro %}

{# Builds the whole model, and returns what a materialization returns. #}
{% macro build_in_slices(existing, plan) -%}
    {%- do keep_step(plan) -%}
    {%- if existing is not none -%} {%- do adapter.drop_relation(existing) -%} {%- endif -%}
    {%- call statement('main') -%}
        {{ create_table_as(False, this, plan.made[0]) }}
        {{ insert_made(this, plan.made[1:]) }}
    {%- endcall %}
    {%- do adapter.commit() -%}
    {%- do drop_step(plan) -%}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{%- endmacro %}
