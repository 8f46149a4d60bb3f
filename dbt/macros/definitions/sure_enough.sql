{#
  Is an interval of identity.membership_history sure enough for a use: scoring, sending? Its weakest estimated link alone is asked, as one of less than the
  threshold of analysis joins nobody: how sure the other kinds are is a judgement that ranks them (waymark/identity/probabilities.py), and a long chain of them
  is no doubt.
#}
{% macro sure_enough(membership, use) -%}
    ({{ membership }}.weakest_estimated_link is null or {{ membership }}.weakest_estimated_link >= {{ var('identity_thresholds')[use] }})
{%- endmacro %}
