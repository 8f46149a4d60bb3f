{#
  The channel of an event, after Google Analytics 4's default channel group definitions (support.google.com/analytics/answer/9756891):
  rules are tried in GA4's order and the first that matches wins; letters' case does not count. Added to GA4's rules:
  - the project's own `channels` come first, then the channel that the source itself declares (an e-mail tool's events are e-mail);
  - an ad's click id says what a missing utm_source or utm_medium would. `fbclid` alone does not mean paid: Facebook adds it to every link that leaves it,
    so it is paid only where the link carries campaign tags that do not say otherwise;
  - a referrer from the page's own site is no arrival: such an event without tags is `direct`.

  event: alias of a relation with the columns of channel_inputs(), and those that int_events derives from them (traffic_source, traffic_medium, traffic_campaign,
  source_category, declared_channel, click_says_paid).
#}
{% macro channel_group(event) -%}
    {%- set is_paid_medium = x_matches(event ~ ".traffic_medium", "'^(.*cp.*|ppc|retargeting|paid.*)$'") -%}
    {%- set is_shopping_campaign = x_matches(event ~ ".traffic_campaign", "'^(.*(([^a-df-z]|^)shop|shopping).*)$'") -%}
    {%- set is_paid = "(coalesce(" ~ is_paid_medium ~ ", false) or coalesce(" ~ event ~ ".click_says_paid, false))" -%}
    case
        {%- for rule in var('channels') %}
        when {{ x_matches("lower(" ~ event ~ "." ~ rule.field ~ ")", sql_text("(?i)" ~ rule.pattern)) }} then {{ sql_text(rule.channel) }}
        {%- endfor %}
        when {{ event }}.declared_channel is not null then {{ event }}.declared_channel
        when {{ event }}.traffic_source is null and {{ event }}.traffic_medium is null and {{ event }}.traffic_campaign is null and {{ event }}.click_id_type is null then 'direct'
        when {{ event }}.traffic_source = '(direct)' and coalesce({{ event }}.traffic_medium, '(none)') in ('(not set)', '(none)') then 'direct'
        when instr({{ event }}.traffic_campaign, 'cross-network') > 0 then 'cross_network'
        when {{ is_paid }} and ({{ event }}.source_category = 'shopping' or {{ is_shopping_campaign }}) then 'paid_shopping'
        when {{ is_paid }} and {{ event }}.source_category = 'search' then 'paid_search'
        when {{ is_paid }} and {{ event }}.source_category = 'social' then 'paid_social'
        when {{ is_paid }} and {{ event }}.source_category = 'video' then 'paid_video'
        when {{ event }}.traffic_medium in ('display', 'banner', 'expandable', 'interstitial', 'cpm') or {{ event }}.click_id_type = 'dclid' then 'display'
        when {{ is_paid }} then 'paid_other'
        when {{ event }}.click_id_type in ('irclickid', 'cjevent', 'awc', 'ranmid', 'ransiteid', 'clickref') then 'affiliates'
        when {{ event }}.source_category = 'shopping' or {{ is_shopping_campaign }} then 'organic_shopping'
        when {{ event }}.source_category = 'social' or {{ event }}.traffic_medium in ('social', 'social-network', 'social-media', 'sm', 'social network', 'social media') then 'organic_social'
        when {{ event }}.source_category = 'video' or {{ x_matches(event ~ ".traffic_medium", "'^(.*video.*)$'") }} then 'organic_video'
        when {{ event }}.source_category = 'search' or {{ event }}.traffic_medium = 'organic' then 'organic_search'
        when {{ event }}.traffic_medium in ('referral', 'app', 'link') then 'referral'
        when {{ event }}.traffic_source in ('email', 'e-mail', 'e_mail', 'e mail') or {{ event }}.traffic_medium in ('email', 'e-mail', 'e_mail', 'e mail') then 'email'
        when {{ event }}.traffic_medium in ('affiliate', 'affiliates') then 'affiliates'
        when {{ event }}.traffic_medium = 'audio' then 'audio'
        when {{ event }}.traffic_source = 'sms' or {{ event }}.traffic_medium = 'sms' then 'sms'
        when {{ x_matches(event ~ ".traffic_medium", "'(push$|mobile|notification)'") }} or {{ event }}.traffic_source = 'firebase' then 'mobile_push'
        else 'unassigned'
    end
{%- endmacro %}

{# The canonical columns that a channel depends on, and no other. #}
{% macro channel_inputs() -%}
    {{ return(['source', 'source_channel', 'utm_source', 'utm_medium', 'utm_campaign', 'click_id_type', 'referrer_host', 'page_host']) }}
{%- endmacro %}

{# Every name that channel_group() gives by itself. A project's own rules and sources may add more. #}
{% macro channel_names() -%}
    {{ return(['direct', 'cross_network', 'paid_shopping', 'paid_search', 'paid_social', 'paid_video', 'display', 'paid_other', 'affiliates', 'organic_shopping',
        'organic_social', 'organic_video', 'organic_search', 'referral', 'email', 'audio', 'sms', 'mobile_push', 'unassigned']) }}
{%- endmacro %}

{# The channel that a source declares for its events; NULL where it only says that they come from a site or an app. #}
{% macro declared_channel(source_channel) -%}
    case
        when {{ source_channel }} is null or lower({{ source_channel }}) in ('', 'web', 'website', 'site', 'app', 'mobile_app', 'mobile', 'server') then null
        when lower({{ source_channel }}) in ('e-mail', 'e_mail', 'mail', 'newsletter') then 'email'
        when lower({{ source_channel }}) in ('push', 'web_push', 'app_push') then 'mobile_push'
        when lower({{ source_channel }}) in ('text', 'text_message') then 'sms'
        when lower({{ source_channel }}) = 'social' then 'organic_social'
        when lower({{ source_channel }}) in ('ads', 'ad', 'paid') then 'paid_other'
        else lower({{ source_channel }})
    end
{%- endmacro %}

{# The part of a host that somebody registers: two labels, three under the common second-level names (example.co.uk). #}
{% macro registrable_domain(host) -%}
    regexp_extract(lower({{ host }}), '([^.]+[.]((co|com|net|org|gov|edu|ac|or|ne|go|gob|nom)[.][a-z][a-z]|[^.]+))$', 1)
{%- endmacro %}

{# Does the referrer belong to another site than the page? #}
{% macro is_external_referrer(referrer_host, page_host) -%}
    case
        when {{ referrer_host }} is null or {{ referrer_host }} = {{ page_host }} then false
        when {{ page_host }} is null then true
        else {{ registrable_domain(referrer_host) }} <> {{ registrable_domain(page_host) }}
    end
{%- endmacro %}

{# What a click id says of the traffic where nothing else does. #}
{% macro click_id_category(click_id_type) -%}
    case
        when {{ click_id_type }} is null then null
        when {{ click_id_type }} in ('gclid', 'gbraid', 'wbraid', 'msclkid', 'yclid') then 'search'
        when {{ click_id_type }} in ('fbclid', 'ttclid', 'twclid', 'li_fat_id', 'epik', 'rdt_cid', 'sccid', 'scclid', 'igshid') then 'social'
    end
{%- endmacro %}

{# Does the click id come from an advertisement? Only ad systems give these; for fbclid see channel_group(). #}
{% macro click_id_says_paid(click_id_type, utm_medium, utm_campaign) -%}
    (
        {{ click_id_type }} in ('gclid', 'gbraid', 'wbraid', 'msclkid', 'yclid', 'ttclid', 'twclid', 'li_fat_id', 'epik', 'rdt_cid', 'sccid', 'scclid')
        or ({{ click_id_type }} = 'fbclid' and ({{ utm_campaign }} is not null or {{ utm_medium }} is not null)
            and coalesce(lower({{ utm_medium }}), '') not in ('social', 'social-network', 'social-media', 'sm', 'social network', 'social media', 'organic', 'referral', 'email', 'sms'))
    )
{%- endmacro %}
