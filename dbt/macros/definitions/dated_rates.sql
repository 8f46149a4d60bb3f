{#
  The rate table as relation (currency, valid_from DATE, valid_to DATE or NULL, rate): one unit of the currency in the reporting currency,
  from valid_from until the day before valid_to. Of two rates of one day the greater holds. No row is the reporting currency's own.
#}
{% macro dated_rates() -%}
    select
        currency,
        valid_from,
        lead(valid_from) over (partition by currency order by valid_from asc nulls first, rate asc nulls first) as valid_to,
        rate
    from (
        {%- if var('rates') | length == 0 %}
        select cast(null as varchar) as currency, cast(null as date) as valid_from, cast(null as decimal(18, 8)) as rate where 1 = 0
        {%- endif %}
        {%- for row in var('rates') %}
        select {{ sql_text(row.currency) }} as currency, cast({{ sql_text(row.valid_from) }} as date) as valid_from, cast({{ sql_text(row.rate) }} as decimal(18, 8)) as rate
        {{ "union all" if not loop.last }}
        {%- endfor %}
    ) as stated
    where currency <> {{ sql_text(var('reporting_currency')) }}
{%- endmacro %}
