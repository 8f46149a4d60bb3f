{#
  Is an interval of identity.membership_history sure enough for a use: scoring, sending? Only what needs an estimated link is asked: how sure the other kinds are
  is a judgement that ranks them (waymark/identity/probabilities.py).
#}
{% macro sure_enough(membership, use) -%}
    ({{ membership }}.method is distinct from 'probabilistic' or {{ membership }}.confidence >= {{ var('identity_thresholds')[use] }})
{%- endmacro %}
