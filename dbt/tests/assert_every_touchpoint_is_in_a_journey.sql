-- Touchpoints of the facts and of the steps are the same.
select touchpoint_id from {{ ref('fct_touchpoints') }} where touchpoint_id not in (select touchpoint_id from {{ ref('fct_journey_steps') }})
union all
select touchpoint_id from {{ ref('fct_journey_steps') }} where touchpoint_id not in (select touchpoint_id from {{ ref('fct_touchpoints') }})
