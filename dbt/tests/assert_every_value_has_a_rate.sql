-- Every event with a value has it in the reporting currency too. A row here names a currency and the days for which money.rates in waymark.yml states no rate.
{{ config(meta={'remedy': "State a rate for each currency and day under money.rates in waymark.yml (a CSV: valid_from, currency, rate),
    or set money.reporting_currency to the currency of your shop; then: waymark run, with --full-refresh where a snapshot is published already, for rates
    bind tables that are built."}) }}

select
    coalesce(currency, '(none)') as currency,
    min(reporting_date) as first_day,
    max(reporting_date) as last_day,
    count(*) as event_count
from {{ ref('int_events') }}
where value is not null and value_reporting is null
group by coalesce(currency, '(none)')
