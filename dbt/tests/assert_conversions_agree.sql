-- Conversions with a customer, converted journeys, conversion steps and the customers' own counts are the same conversions.
with counts as (
    select
        (select count(*) from {{ ref('fct_conversions') }}) as conversions,
        (select count(*) from {{ ref('int_conversions_deduplicated') }}) as surviving,
        (select count(*) from {{ ref('fct_conversions') }} where customer_id is not null) as with_customer,
        (select count(*) from {{ ref('fct_conversions') }} where journey_id is not null) as with_journey,
        (select count(*) from {{ ref('fct_journeys') }} where status = 'converted') as converted_journeys,
        (select count(*) from {{ ref('fct_journey_steps') }} where is_conversion) as conversion_steps,
        (select coalesce(sum(conversion_count), 0) from {{ ref('dim_customers') }}) as of_customers
)

select * from counts
where conversions <> surviving
    or with_customer <> with_journey or with_customer <> converted_journeys or with_customer <> conversion_steps or with_customer <> of_customers
