-- A current id maps to itself, so that a join through the aliases loses nobody.
select customer_id from {{ ref('dim_customers') }}
where customer_id not in (select alias_customer_id from {{ ref('dim_customer_aliases') }} where alias_customer_id = customer_id)
