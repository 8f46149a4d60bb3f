{{ config(severity='warn', meta={'remedy': 'Declare it under consent.jurisdictions of waymark.yml, with countries or without, or mend it at the source.'}) }}
-- No rule names a place that nobody declared, so what holds elsewhere decides there: a misspelling, most likely. Where no place is declared, none matters.
select distinct jurisdiction
from {{ ref('int_event_jurisdictions') }}
where jurisdiction not in ({{ sql_text_list(var('consent_jurisdictions') | list) }}, 'default')
