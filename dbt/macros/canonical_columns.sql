{# The canonical columns of an event (docs/architecture.md), less its provenance, which depends on how files were cut. #}
{% macro canonical_columns() -%}
    {{ return(['event_id', 'source', 'source_event_id', 'event_type', 'occurred_at', 'received_at', 'session_key', 'anonymous_id', 'user_id', 'identifiers', 'source_channel',
        'utm_source', 'utm_medium', 'utm_campaign', 'utm_term', 'utm_content', 'click_id_type', 'click_id', 'referrer', 'referrer_host', 'page_url', 'page_host', 'page_path', 'screen',
        'user_agent', 'device_type', 'os', 'browser', 'country', 'region', 'city', 'language', 'order_id', 'value', 'currency', 'properties', 'text', 'consent_scopes', 'is_internal', 'content_digest']) }}
{%- endmacro %}

{# What is kept of them in the table of events: a content's digest is for ingestion, and would take a tenth of the table. #}
{% macro event_columns() -%} {{ return(canonical_columns() | reject('equalto', 'content_digest') | list) }} {%- endmacro %}

{# All sources' rows of one kind (`events` or `pending`), columns named one by one; an act of consent goes no further than to the ledger. #}
{% macro union_of_sources(kind) -%}
    {%- for name in var('sources') %}
    select
        {{ (canonical_columns() + ['consent_act']) | join(',\n        ') }}
    from {{ source('raw', name ~ '_' ~ kind) }}
    {{ "union all" if not loop.last }}
    {%- endfor %}
{%- endmacro %}
