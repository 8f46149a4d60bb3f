{{ config(severity='warn', meta={'remedy': 'List the scope under consent.scopes of waymark.yml, or name it under consent.names of the mapping.'}) }}
-- Nothing can ask for a scope that nobody declared, so what is said of it changes nothing: a misspelling, most likely.
select distinct scope
from {{ ref('fct_consent_intervals') }}
where scope not in ({{ sql_text_list(var('consent_scopes')) }})
