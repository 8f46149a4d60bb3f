{# The stages of a journey, in their order. A step to an earlier one is a jump back. #}
{% macro stage_names() -%} {{ return(['awareness', 'consideration', 'intent', 'purchase', 'post_sale']) }} {%- endmacro %}

{# The rules of a project that states none: common event names, and every goal is a purchase. The first rule that matches wins. #}
{% macro default_stage_rules() -%}
    {%- set goal_events = [] -%}
    {%- for goal in var('goals') -%} {%- do goal_events.extend(goal.event_types) -%} {%- endfor -%}
    {{ return([
        {'stage': 'purchase', 'event_types': goal_events + ['order_completed', 'checkout_completed', 'order_placed', 'purchase_completed', 'subscription_started', 'subscription_renewed', 'payment_completed']},
        {'stage': 'post_sale', 'event_types': ['order_refunded', 'order_cancelled', 'order_shipped', 'order_delivered', 'product_returned', 'return_requested', 'ticket_opened', 'ticket_closed',
            'support_ticket_opened', 'support_ticket_solved', 'review_posted', 'support_contacted', 'support_requested', 'review_submitted', 'product_reviewed', 'survey_submitted', 'product_rated', 'subscription_cancelled', 'referral_sent', 'order_tracked']},
        {'stage': 'intent', 'event_types': ['product_added_to_cart', 'product_added', 'cart_updated', 'product_removed_from_cart', 'product_removed', 'cart_viewed', 'checkout_started', 'checkout_step_viewed', 'checkout_step_completed',
            'payment_info_entered', 'shipping_info_entered', 'coupon_applied', 'coupon_entered', 'quote_requested', 'demo_requested', 'trial_started', 'call_booked', 'meeting_booked']},
        {'stage': 'consideration', 'event_types': ['product_viewed', 'product_clicked', 'product_list_viewed', 'category_viewed', 'products_searched', 'search_performed', 'product_searched', 'search_submitted', 'wishlist_added', 'product_added_to_wishlist',
            'product_compared', 'pricing_viewed', 'reviews_viewed', 'store_located', 'chat_started', 'chat_message_sent', 'form_started', 'form_submitted', 'lead_created', 'email_filled_on_popup', 'newsletter_subscribed',
            'signup_started', 'signup_completed', 'user_registered', 'account_created', 'video_watched', 'webinar_attended', 'content_downloaded', 'app_installed', 'email_clicked', 'sms_clicked', 'signed_up', 'logged_in', 'crm_call_logged', 'push_clicked', 'store_visited']},
        {'stage': 'awareness', 'event_types': ['page_viewed', 'screen_viewed', 'session_started', 'ad_viewed', 'ad_clicked', 'ad_impression_viewed', 'email_delivered', 'email_opened', 'email_sent', 'push_received', 'push_opened', 'social_post_clicked', 'sms_received', 'app_opened', 'video_started']},
    ]) }}
{%- endmacro %}

{# The stage that an event of this type puts a journey in; NULL where no rule names the type. #}
{% macro stage(event_type) -%}
    case
        {%- for rule in var('stages') or default_stage_rules() %}
        when {{ event_type }} in ({{ sql_text_list(rule.event_types) }}) then {{ sql_text(rule.stage) }}
        {%- endfor %}
    end
{%- endmacro %}

{# 1 for awareness to 5 for post_sale. #}
{% macro stage_rank(stage) -%}
    case {{ stage }} {%- for name in stage_names() %} when {{ sql_text(name) }} then cast({{ loop.index }} as tinyint) {%- endfor %} end
{%- endmacro %}

{# The stage of a rank. #}
{% macro stage_of_rank(rank) -%}
    case {{ rank }} {%- for name in stage_names() %} when {{ loop.index }} then {{ sql_text(name) }} {%- endfor %} end
{%- endmacro %}
