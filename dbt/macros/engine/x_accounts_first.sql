{# The same identifiers with accounts before all others: what somebody did logged in is the account holder's, on whosever device. NULL for NULL. #}
{% macro x_accounts_first(identifiers) -%} {{ adapter.dispatch('x_accounts_first', 'waymark')(identifiers) }} {%- endmacro %}
{% macro duckdb__x_accounts_first(identifiers) -%}
    case when {{ identifiers }} is not null then list_concat(
        list_filter({{ identifiers }}, lambda identifier: identifier.type = 'user_id'),
        list_filter({{ identifiers }}, lambda identifier: identifier.type <> 'user_id')
    ) end
{%- endmacro %}
{% macro default__x_accounts_first(identifiers) -%}
    flatten(array(
        filter({{ identifiers }}, identifier -> identifier.type = 'user_id'),
        filter({{ identifiers }}, identifier -> identifier.type <> 'user_id')
    ))
{%- endmacro %}
