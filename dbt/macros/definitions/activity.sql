{#
  What is measured about activity, once for all features. A measure is a whole number, an amount or an instant that merges by sum, least or greatest, so
  that days merge to windows and identifiers to customers in any order, to the same last digit; ratios are formed at the very end.
#}

{# The channel groups that features tell apart, with their channels; every other channel is `other`. The position is a group's code. #}
{% macro channel_classes() -%}
    {{ return([
        ('direct', ['direct']),
        ('organic_search', ['organic_search', 'organic_shopping']),
        ('paid_search', ['paid_search', 'paid_shopping', 'cross_network']),
        ('organic_social', ['organic_social', 'organic_video']),
        ('paid_social', ['paid_social', 'paid_video']),
        ('email', ['email']),
        ('display', ['display', 'paid_other']),
        ('referral', ['referral', 'affiliates']),
        ('message', ['sms', 'mobile_push']),
        ('other', []),
    ]) }}
{%- endmacro %}

{# 1 for direct to 10 for other. #}
{% macro channel_code(channel) -%}
    case
        {%- for name, channels in channel_classes() if channels %}
        when {{ channel }} in ({{ sql_text_list(channels) }}) then {{ loop.index }}
        {%- endfor %}
        else {{ channel_classes() | length }}
    end
{%- endmacro %}

{# The group of a code. #}
{% macro channel_of_code(code) -%}
    case {{ code }} {%- for name, channels in channel_classes() %} when {{ loop.index }} then {{ sql_text(name) }} {%- endfor %} end
{%- endmacro %}

{# The device types that features tell apart; the position is the code, 0 is unknown. #}
{% macro device_classes() -%} {{ return(['desktop', 'mobile', 'tablet', 'other']) }} {%- endmacro %}

{% macro device_code(device_type) -%}
    case {{ device_type }} {%- for name in device_classes() %} when {{ sql_text(name) }} then {{ loop.index }} {%- endfor %} else 0 end
{%- endmacro %}

{% macro device_of_code(code) -%}
    case {{ code }} {%- for name in device_classes() %} when {{ loop.index }} then {{ sql_text(name) }} {%- endfor %} end
{%- endmacro %}

{# A session's first event, or an event without session: what brought somebody. #}
{% macro is_touch(event) -%} ({{ event }}.session_id is null or {{ event }}.event_number = 1) {%- endmacro %}

{#
  Measures that add up: (name, what an event adds, type). conversion: alias of the event's conversion of the first goal, NULL columns where it is none.
#}
{% macro added_measures(event='event', conversion='conversion') -%}
    {%- set touch = is_touch(event) -%}
    {%- set found = [
        ('event_count', '1', 'integer'),
        ('page_view_count', 'case when ' ~ is_page_view(event ~ '.event_type') ~ ' then 1 else 0 end', 'integer'),
        ('session_count', 'case when ' ~ event ~ '.event_number = 1 then 1 else 0 end', 'integer'),
        ('touch_count', 'case when ' ~ touch ~ ' then 1 else 0 end', 'integer'),
        ('micro_conversion_count', 'case when ' ~ event ~ '.micro_conversion is not null then 1 else 0 end', 'integer'),
        ('consideration_event_count', "case when " ~ event ~ ".stage = 'consideration' then 1 else 0 end", 'integer'),
        ('intent_event_count', "case when " ~ event ~ ".stage = 'intent' then 1 else 0 end", 'integer'),
        ('post_sale_event_count', "case when " ~ event ~ ".stage = 'post_sale' then 1 else 0 end", 'integer'),
        ('intent_session_count', 'case when ' ~ event ~ '.is_intent_start then 1 else 0 end', 'integer'),
        ('jump_back_count', 'case when ' ~ event ~ '.is_jump_back then 1 else 0 end', 'integer'),
        ('conversion_count', 'case when ' ~ conversion ~ '.event_id is not null then 1 else 0 end', 'integer'),
        ('revenue_amount', 'case when ' ~ conversion ~ '.event_id is not null then coalesce(' ~ event ~ '.value_reporting, 0) else 0 end', 'decimal(18, 4)'),
        ('refund_count', 'case when ' ~ event ~ '.value_reporting < 0 then 1 else 0 end', 'integer'),
        ('refund_amount', 'case when ' ~ event ~ '.value_reporting < 0 then -' ~ event ~ '.value_reporting else 0 end', 'decimal(18, 4)'),
    ] -%}
    {%- for name, channels in channel_classes() -%}
        {%- do found.append((name ~ '_touch_count', 'case when ' ~ touch ~ ' and ' ~ channel_code(event ~ '.channel') ~ ' = ' ~ loop.index ~ ' then 1 else 0 end', 'integer')) -%}
    {%- endfor -%}
    {%- for name in device_classes() if name != 'other' -%}
        {%- do found.append((name ~ '_session_count', 'case when ' ~ event ~ '.event_number = 1 and ' ~ event ~ '.device_type = ' ~ sql_text(name) ~ ' then 1 else 0 end', 'integer')) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{# What the measures read of an event, and what says which identifier it counts for. The table of events has many more columns. #}
{% macro activity_columns(event) -%}
    {%- set columns = ['event_id', 'event_type', 'occurred_at', 'node_ids', 'session_id', 'session_started_at', 'event_number', 'channel', 'stage', 'device_type',
        'micro_conversion', 'is_intent_start', 'is_jump_back', 'is_conversion_event', 'value_reporting'] -%}
    {%- for column in columns %}
        {{ event }}.{{ column }}{{ "," if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{#
  Measures of which the least (min) or greatest (max) counts: (name, what an event gives, how they merge). A key is an instant in microseconds times a
  power of two plus a code: the greatest is the code of the latest, and of two at one instant the greater code wins.
#}
{% macro extreme_measures(event='event', conversion='conversion') -%}
    {%- set us = x_epoch_us(event ~ '.occurred_at') -%}
    {%- set visit_us = x_epoch_us('coalesce(' ~ event ~ '.session_started_at, ' ~ event ~ '.occurred_at)') -%}
    {%- set touch, counts = is_touch(event), code_counts() -%}
    {{ return([
        ('first_event_us', us, 'min'),
        ('last_event_us', us, 'max'),
        ('first_session_us', 'case when ' ~ event ~ '.event_number = 1 then ' ~ us ~ ' end', 'min'),
        ('last_session_us', 'case when ' ~ event ~ '.event_number = 1 then ' ~ us ~ ' end', 'max'),
        ('last_intent_us', "case when " ~ event ~ ".stage = 'intent' then " ~ us ~ ' end', 'max'),
        ('last_conversion_us', 'case when ' ~ conversion ~ '.event_id is not null then ' ~ us ~ ' end', 'max'),
        ('first_touch_key', 'case when ' ~ touch ~ ' then ' ~ us ~ ' * ' ~ counts['first_touch_key'] ~ ' + ' ~ channel_code(event ~ '.channel') ~ ' end', 'min'),
        ('last_touch_key', 'case when ' ~ touch ~ ' then ' ~ us ~ ' * ' ~ counts['last_touch_key'] ~ ' + ' ~ channel_code(event ~ '.channel') ~ ' end', 'max'),
        ('last_device_key', 'case when ' ~ event ~ '.device_type is not null then ' ~ us ~ ' * ' ~ counts['last_device_key'] ~ ' + ' ~ device_code(event ~ '.device_type') ~ ' end', 'max'),
        ('last_visit_stage_key', 'case when ' ~ event ~ '.stage is not null then ' ~ visit_us ~ ' * ' ~ counts['last_visit_stage_key'] ~ ' + ' ~ stage_rank(event ~ '.stage') ~ ' end', 'max'),
        ('last_visit_event_key', visit_us ~ ' * ' ~ counts['last_visit_event_key'] ~ ' + least(coalesce(' ~ event ~ '.event_number, 1), 1023)', 'max'),
        ('last_visit_micro_key', visit_us ~ ' * ' ~ counts['last_visit_micro_key'] ~ ' + case when ' ~ event ~ '.micro_conversion is not null then 1 else 0 end', 'max'),
        ('max_stage_rank', 'cast(' ~ stage_rank(event ~ '.stage') ~ ' as bigint)', 'max'),
    ]) }}
{%- endmacro %}

{# By key of extreme_measures: what its instant is multiplied by to make room for a code, which is the key's remainder by it. #}
{% macro code_counts() -%}
    {{ return({'first_touch_key': 32, 'last_touch_key': 32, 'last_device_key': 8, 'last_visit_stage_key': 8, 'last_visit_event_key': 1024, 'last_visit_micro_key': 2}) }}
{%- endmacro %}

{# Windows in days by measure; what is not named is kept in total only, or not at all. #}
{% macro measure_windows() -%}
    {%- set found = {
        'event_count': [1, 7, 28, 90], 'page_view_count': [7, 28, 90], 'session_count': [1, 7, 28, 90], 'touch_count': [7, 28, 90],
        'micro_conversion_count': [1, 7, 28, 90], 'consideration_event_count': [7, 28, 90], 'intent_event_count': [1, 7, 28, 90],
        'post_sale_event_count': [28, 90], 'intent_session_count': [7, 28, 90], 'jump_back_count': [7, 28, 90], 'conversion_count': [7, 28, 90],
        'revenue_amount': [28, 90], 'refund_count': [90], 'refund_amount': [90],
    } -%}
    {%- for name, channels in channel_classes() -%} {%- do found.update({name ~ '_touch_count': [90]}) -%} {%- endfor -%}
    {%- for name in device_classes() if name != 'other' -%} {%- do found.update({name ~ '_session_count': [90]}) -%} {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{# Measures kept over the whole history too. #}
{% macro total_measures() -%}
    {{ return(['event_count', 'session_count', 'micro_conversion_count', 'intent_session_count', 'conversion_count', 'revenue_amount',
        'organic_social_touch_count', 'paid_social_touch_count', 'email_touch_count']) }}
{%- endmacro %}

{# The longest window of a feature, in days; a customer without a counted event in it has no features. #}
{% macro feature_days() -%} 90 {%- endmacro %}

{# A customer and a point as one text, for who wants to join on one column. It is stored nowhere: that took as much space as a sixth of all measures. #}
{% macro customer_point_id(customer_id, as_of_at) -%} {{ customer_id }} || '_' || cast({{ x_epoch_us(as_of_at) }} as varchar) {%- endmacro %}
