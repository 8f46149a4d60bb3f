{#
  The order-free digest of a published table, brought up to date with what an increment takes out and puts in, so that publishing reads no table whole.

  A row's two hashes add up (waymark.core.digest), so a table's sums lose those of the rows that go and gain those of the rows that come. What is kept stands
  in main.table_digests of the outputs, written by waymark.pipeline.kept_digests, in the file and in the transaction of the table itself. A table of which none
  is kept, or that is built whole, is digested when it is published.
#}

{# Is a digest of the relation kept, by this version of the engine, whose hashes may be another's? #}
{% macro keeps_digest(relation) -%}
    {%- set there = "select 1 from duckdb_tables() where database_name = " ~ sql_text(relation.database) ~ " and schema_name = 'main' and table_name = 'table_digests'" -%}
    {%- if not run_query(there).rows -%} {{ return(false) }} {%- endif -%}
    {{ return(run_query("select 1 from " ~ kept_digests(relation) ~ " where " ~ kept_digest_of(relation) ~ " and engine = version()").rows | length > 0) }}
{%- endmacro %}

{% macro kept_digests(relation) -%} {{ return(relation.database ~ ".main.table_digests") }} {%- endmacro %}

{% macro kept_digest_of(relation) -%} {{ return("table_name = " ~ sql_text(relation.schema ~ "." ~ relation.identifier)) }} {%- endmacro %}

{# Statement: adds the sums of a relation's rows to what is kept (or takes them away). first, second: the two hashes of a row. #}
{% macro add_to_digest(target, rows, first, second, sign) -%}
    update {{ kept_digests(target) }} set row_count = row_count {{ sign }} rows_.n, first = first {{ sign }} rows_.a, second = second {{ sign }} rows_.b
    from (select count(*) as n, coalesce(sum({{ first }}::hugeint), 0) as a, coalesce(sum({{ second }}::hugeint), 0) as b from {{ rows }} as one) as rows_
    where {{ kept_digest_of(target) }};
{%- endmacro %}

{# Statements: what `delete_restated` and an insert do, with the digest. A scope's rows are found once, then taken out by their places. #}
{% macro restate_with_digest(target, made) -%}
    {%- set meta, computed, gone = config.get('meta', {}), target.identifier ~ '__computed', target.identifier ~ '__gone' -%}
    {{ compute_aside(computed, target, made) }}
    {%- for scope in meta['restated_by'] %}
    create or replace temporary table {{ gone }} as
        select target.rowid as place, hash(target) as first, hash(hash(target), 'waymark') as second
        from {{ target }} as target where {{ restated(scope, 'target', meta.get('restated_at', 'occurred_at')) }};
    {{ add_to_digest(target, gone, 'one.first', 'one.second', '-') }}
    delete from {{ target }} as target where target.rowid in (select place from {{ gone }});
    {%- endfor %}
    {{ add_to_digest(target, computed, 'hash(one)', "hash(hash(one), 'waymark')", '+') }}
    insert into {{ target }} by name from {{ computed }};
    drop table {{ computed }};
    drop table if exists {{ gone }};
{%- endmacro %}

{# Forgets the digest of a table that is built whole, before it is. #}
{% macro forget_digest(relation) -%}
    {%- if keeps_digest(relation) -%}
        {%- call statement('forget_digest') -%} delete from {{ kept_digests(relation) }} where {{ kept_digest_of(relation) }} {%- endcall -%}
        {%- do adapter.commit() -%}
    {%- endif -%}
{%- endmacro %}
