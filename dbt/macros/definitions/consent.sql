{# What docs/consent.md says, in SQL. Every moment is read as (from, to]: what happened at an instant is known, and holds, for what comes after it. #}

{# Is the event itself an act of consent, and no event of a journey? What ordinary events state beside makes them no such thing. #}
{% macro is_consent_event(consent_act) -%} coalesce(not {{ consent_act }}.is_statement, false) {%- endmacro %}

{# Of two acts of one instant the stricter stands: a withdrawal before an expiry before a grant, and of two grants the one that lapses first. #}
{% macro consent_strictness(action) -%} case {{ action }} when 'grant' then 0 when 'expire' then 1 when 'withdraw' then 2 end {%- endmacro %}

{# Until when an act lets the scope be used: a grant to its expiry, for ever where it has none; the others not at all. #}
{% macro consent_granted_until(action, expires_at) -%}
    case when {{ action }} = 'grant' then coalesce({{ expires_at }}, timestamp '9999-12-31 00:00:00') else timestamp '0001-01-01 00:00:00' end
{%- endmacro %}

{# The columns by which the acts of an alias come one after the other; the last of them stands. Later expiries first, in negative numbers, which every engine sorts. #}
{% macro consent_order(alias) -%}
    {{ return([alias ~ '.occurred_at', alias ~ '.strictness', '-' ~ x_epoch_us(alias ~ '.granted_until'), alias ~ '.event_id']) }}
{%- endmacro %}

{#
  CTEs told, compared, new_grants and acts: one row per act, scope and identifier that it names. What ordinary events state is an act where it differs from what
  the same source stated before of the same identifier: a page viewed with last year's cookie does not take back a withdrawal. A grant that is new of one
  identifier and repeated of another stands here for both (is_repeated): whoever both belong to has granted nothing by it. condition: which identifiers, over `nodes`.
#}
{% macro consent_act_ctes(condition='true') -%}
told as (
    select
        nodes.element as node_id,
        event.event_id,
        event.source,
        event.occurred_at,
        event.scope,
        event.action,
        {{ consent_strictness('event.action') }} as strictness,
        {{ consent_granted_until('event.action', 'event.expires_at') }} as granted_until,
        event.is_statement
    from {{ ref('int_consent_events') }} as event
    {{ x_unnest_with_position('event.node_ids', 'nodes') }}
    where {{ condition }}
),

compared as (
    select
        *,
        coalesce(
            is_statement and action = lag(action) over (
                partition by source, node_id, scope, is_statement
                order by occurred_at asc nulls first, strictness asc nulls first, granted_until desc nulls last, event_id asc nulls first
            ),
            false
        ) as is_repeated
    from told
),

new_grants as (
    select distinct event_id, scope
    from compared
    where is_statement and action = 'grant' and not is_repeated
),

acts as (
    select node_id, event_id, occurred_at, scope, action, strictness, granted_until, is_repeated
    from compared
    where not is_repeated
    union all
    select
        compared.node_id, compared.event_id, compared.occurred_at, compared.scope, compared.action, compared.strictness, compared.granted_until,
        compared.is_repeated
    from compared
    inner join new_grants on new_grants.event_id = compared.event_id and new_grants.scope = compared.scope
    where compared.is_repeated and compared.action = 'grant'
)
{%- endmacro %}

{#
  CTE of_customers: the acts of each customer, as `memberships` has them. Consent is the person's: an act that names two of the person's identifiers is one act,
  and a grant that a source had stated of one of the two before is none.
#}
{% macro consent_acts_of_customers_cte() -%}
of_customers as (
    select memberships.customer_id, acts.scope, acts.event_id, acts.occurred_at, acts.action, acts.strictness, acts.granted_until
    from acts
    inner join memberships on memberships.node_id = acts.node_id
    group by memberships.customer_id, acts.scope, acts.event_id, acts.occurred_at, acts.action, acts.strictness, acts.granted_until
    having max(case when acts.is_repeated then 1 else 0 end) = 0
)
{%- endmacro %}

{# Condition of a join to `spans`: what an alias tells of the customer and scope was known, and still is, when the span begins. #}
{% macro is_known_in_span(alias) -%}
    {{ alias }}.customer_id = spans.customer_id
    and {{ alias }}.scope = spans.scope
    and {{ alias }}.known_from <= spans.valid_from
    and ({{ alias }}.known_to is null or spans.valid_from < {{ alias }}.known_to)
{%- endmacro %}

{# Scopes whose absence is a denial somewhere, as (scope, jurisdiction, is_denied); no row where absence is granted everywhere. #}
{% macro consent_absence_rules() -%}
    {%- set rules = [] -%}
    {%- for scope, places in var('consent_denied_when_absent').items() -%}
        {%- for place, is_denied in places.items() -%} {%- do rules.append((scope, place, is_denied)) -%} {%- endfor -%}
    {%- endfor -%}
    {%- for scope, place, is_denied in rules %}
    select {{ sql_text(scope) }} as scope, {{ sql_text(place) }} as jurisdiction, {{ is_denied | lower }} as is_denied {{ "union all" if not loop.last }}
    {%- else %}
    select cast(null as varchar) as scope, cast(null as varchar) as jurisdiction, false as is_denied where false
    {%- endfor %}
{%- endmacro %}

{# The scope that the model's yml names in meta.consent_scope: the one place where it stands. A unit test, which is no model, overrides this macro. #}
{% macro consent_scope_of_model() -%}
    {%- if not execute -%} {{ return('') }} {%- endif -%}
    {%- set scope = model.get('config', {}).get('meta', {}).get('consent_scope') -%}
    {%- if not scope -%} {{ exceptions.raise_compiler_error("model " ~ model.name ~ " asks for consent, but its meta names no consent_scope") }} {%- endif -%}
    {%- if scope not in var('consent_scopes') -%} {{ exceptions.raise_compiler_error("model " ~ model.name ~ " needs the consent scope '" ~ scope ~ "', which nobody can give: list it in consent.scopes of waymark.yml") }} {%- endif -%}
    {{ return(scope) }}
{%- endmacro %}

{# Condition over rows (customer_id, as_of_at): the scope of the model's yml was valid at as_of_at, as known then. #}
{% macro consented(alias) -%}
    not exists (
        select 1 from {{ ref('int_consent_denials') }} as denial
        where denial.scope = {{ sql_text(consent_scope_of_model()) }}
            and denial.customer_id = {{ alias }}.customer_id
            and denial.valid_from < {{ alias }}.as_of_at
            and (denial.valid_to is null or {{ alias }}.as_of_at <= denial.valid_to)
    )
{%- endmacro %}

{#
  Rows (customer_id, valid_from, valid_to): from valid_from until valid_to the scope of the model's yml was not valid, as known then, under some name that one of
  the identifiers had then of who is customer_id today. For tables of today's customers, which hold what happened under earlier names, and whose rows are what
  was done rather than what is known of it: a row is masked from the very instant of a withdrawal on, and from that of a first sight.
#}
{% macro denied_by_any_name() -%}
    select
        current_cluster.customer_id,
        greatest(denial.valid_from, named.valid_from) as valid_from,
        least(denial.valid_to, named.valid_to) as valid_to
    from {{ ref('int_consent_denials') }} as denial
    inner join {{ ref('dim_identity_clusters') }} as named
        on named.customer_id = denial.customer_id
        and (denial.valid_to is null or named.valid_from < denial.valid_to)
        and (named.valid_to is null or denial.valid_from < named.valid_to)
    inner join {{ ref('dim_identity_clusters') }} as current_cluster
        on current_cluster.node_id = named.node_id
        and current_cluster.valid_to is null
    where denial.scope = {{ sql_text(consent_scope_of_model()) }}
{%- endmacro %}

{# Like `consented`, and more: it is valid today too, by all that is known today of the person. #}
{% macro consented_today(alias) -%}
    {{ consented(alias) }}
    and not exists (
        select 1 from {{ ref('int_consent_denied_today') }} as denial
        where denial.scope = {{ sql_text(consent_scope_of_model()) }}
            and denial.customer_id = {{ alias }}.customer_id
            and denial.valid_from < {{ alias }}.as_of_at
            and (denial.valid_to is null or {{ alias }}.as_of_at <= denial.valid_to)
    )
{%- endmacro %}
