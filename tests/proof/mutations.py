"""Rules broken on purpose: what is changed where, and the quick test that must notice. A change that no longer applies is an error, not a pass."""

from __future__ import annotations

from dataclasses import dataclass

RULES = "tests/integration/test_equality_rules.py::"


@dataclass(frozen=True)
class Mutation:
    """changes: (text that stands exactly once in the file, what replaces it)."""

    name: str
    file: str
    changes: tuple[tuple[str, str], ...]
    test: str


SESSIONS = "dbt/models/intermediate/sessions/int_events_sessionized.sql"
ORDERS = "dbt/models/intermediate/journeys/int_conversions_deduplicated.sql"
STEPS = "dbt/models/intermediate/journeys/int_journey_steps.sql"
RESTATED = "waymark/identity/restatement.py"

MUTATIONS = [
    Mutation(
        "tie-break dropped", SESSIONS,
        (
            (") over (\n            partition by session_key_id order by occurred_at asc nulls first, event_id asc nulls first\n        )",
             ") over (\n            partition by session_key_id order by occurred_at asc nulls first\n        )"),
            ("window key_order as (partition by session_key_id order by occurred_at asc nulls first, event_id asc nulls first",
             "window key_order as (partition by session_key_id order by occurred_at asc nulls first"),
        ),
        "test_events_of_one_instant_stand_in_order_of_their_ids",
    ),
    Mutation(
        "a gap of exactly the setting ends a session", SESSIONS,
        (("coalesce(gap_us > {{", "coalesce(gap_us >= {{"), ("case when gap_us > {{", "case when gap_us >= {{")),
        "test_a_gap_of_exactly_thirty_minutes_does_not_end_a_session",
    ),
    Mutation(
        "lateness bounded by time in the session scope", "dbt/macros/restated.sql",
        (("restated.restate_from <= {{ alias }}.{{ at }})", "greatest(restated.restate_from, timestamp '2024-04-01') <= {{ alias }}.{{ at }})"),),
        "test_a_late_event_joins_the_sessions_around_it_however_late",
    ),
    Mutation(
        "of two contents the first to arrive survives", "waymark/ingestion/batch.py",
        (("row_number() over (partition by event_id order by occurred_at nulls last",
          "row_number() over (partition by event_id order by content_digest in (select e.content_digest from {EVENTS} e), occurred_at nulls last"),),
        "test_of_two_contents_the_earlier_survives_not_the_first_to_arrive",
    ),
    Mutation(
        "what a conflict withdraws is not taken back", "waymark/identity/evidence.py",
        (("where before.is_counted and len(before.node_ids) > 0", "where false and before.is_counted and len(before.node_ids) > 0"),),
        "test_a_login_that_a_conflict_withdraws_links_nobody",
    ),
    Mutation(
        "order ids link people", "waymark/ingestion/canonical.py",
        (('own = f"[{both}]', """own = f"list_concat(case when order_id is not null then [{{'type': 'order_id', 'value': order_id}}] end, [{both}]"""),
         ('then 1 else 2 end]"', 'then 1 else 2 end])"')),
        "test_an_order_id_links_nobody",
    ),
    Mutation(
        "identifiers shared by too many link all the same", "waymark/identity/evidence.py",
        (("where neighbour_count > $limit)", "where neighbour_count > $limit + 1000)"),),
        "test_a_login_shared_by_too_many_merges_nobody",
    ),
    Mutation(
        "an order is de-duplicated without regard to its value", ORDERS,
        (
            ("partition by goal, coalesce(order_id, 'event|' || event_id), order_id is null, value, currency\n",
             "partition by goal, coalesce(order_id, 'event|' || event_id), order_id is null, currency\n"),
            ("over (\n            partition by goal, order_key, order_id is null, value, currency\n            order by",
             "over (\n            partition by goal, order_key, order_id is null, currency\n            order by"),
            ("row_number() over (\n            partition by goal, order_key, order_id is null, value, currency, chain_number",
             "row_number() over (\n            partition by goal, order_key, order_id is null, currency, chain_number"),
            ("count(*) over (partition by goal, order_key, order_id is null, value, currency, chain_number)",
             "count(*) over (partition by goal, order_key, order_id is null, currency, chain_number)"),
        ),
        "test_one_order_is_one_conversion_only_with_equal_value_and_currency_within_a_day",
    ),
    Mutation(
        "reports exactly a day apart are two conversions", ORDERS,
        (("gap_us > 86400000000", "gap_us >= 86400000000"),),
        "test_reports_of_an_order_exactly_a_day_apart_are_one_conversion",
    ),
    Mutation(
        "the customer that a merge swallows is not re-stated", RESTATED,
        (
            # The old customer is named in five ways, each enough by itself: it must be missing from all.
            ("select customer_before as customer_id from temp.changed_memberships", "select null::varchar as customer_id"),
            ("select node_customer_id from identity.nodes where node_id in (select node_id from temp.changed_memberships)", "select null"),
            ("select customer_id from temp.changed_history", "select null"),
            ("select customer_id from intermediate.int_events_sessionized", "select null from intermediate.int_events_sessionized"),
            ("select sessionized.customer_id", "select null"),
        ),
        "test_a_merged_customer_leaves_no_row_behind",
    ),
    Mutation(
        "a conversion is judged again without the other reports of its order", RESTATED,
        ((" union select order_id from temp.moved_conversions where order_id is not null", ""),),
        "test_an_order_stays_one_conversion_when_the_customer_of_a_report_changes",
    ),
    Mutation(
        "a conversion that becomes nobody's is not named", RESTATED,
        (("        select event_id, occurred_at from temp.moved_conversions\n        union\n", ""),),
        "test_a_purchase_whose_visitor_became_over_shared_stays_a_conversion_of_nobody",
    ),
    Mutation(
        "what follows a purchase opens a journey", STEPS,
        (("coalesce(followers.journey_count, counted.earlier_conversion_count)", "counted.earlier_conversion_count"),),
        "test_the_thank_you_page_opens_no_journey",
    ),
    Mutation(
        "a pause of exactly the timeout ends a journey", STEPS,
        (("case when pause_us > {{", "case when pause_us >= {{"),),
        "test_a_pause_of_exactly_the_timeout_does_not_end_a_journey",
    ),
    Mutation(
        "crawlers get sessions", "dbt/macros/definitions/counts_toward_journeys.sql",
        (("not {{ is_bot }}", "true"),),
        "test_crawlers_and_staff_are_in_no_session",
    ),
    Mutation(
        "staff get sessions", "dbt/macros/definitions/counts_toward_journeys.sql",
        (("and not {{ is_internal }}", ""),),
        "test_crawlers_and_staff_are_in_no_session",
    ),
    Mutation(
        "a rate holds after its last day", "dbt/models/intermediate/events/int_events.sql",
        (("(rates.valid_to is null or", "(rates.valid_to is not null or"),),
        "test_money_is_converted_at_the_rate_of_its_day",
    ),
    Mutation(
        "features know who somebody turned out to be", "dbt/models/intermediate/activity/int_customer_activity.sql",
        (
            ("        and history.valid_from < pieces.as_of_at\n        and (history.valid_to is null or pieces.as_of_at <= history.valid_to)\n",
             "        and history.valid_to is null\n"),
            # The customer's identifiers are read in a step of their own.
            ("        and history.valid_from < recent.as_of_at\n        and (history.valid_to is null or recent.as_of_at <= history.valid_to)\n",
             "        and history.valid_to is null\n"),
        ),
        "test_a_login_links_nobody_at_points_before_it",
    ),
    Mutation(
        "an event at a point counts for it", "dbt/models/intermediate/activity/int_customer_activity.sql",
        (("((%s - 1 - %s) /", "((%s - %s) /"),),
        "test_an_event_at_a_point_does_not_count_for_it",
    ),
    Mutation(
        "a horizon holds its last instant", "dbt/models/intermediate/activity/int_customer_labels.sql",
        (("where conversions.occurred_at < {{", "where conversions.occurred_at <= {{"),),
        "test_a_conversion_at_the_end_of_the_horizon_is_not_in_it",
    ),
    Mutation(
        "published before it is audited", "waymark/pipeline/publish.py",
        (
            ("audit(connection, run.mappings)", "pass"),
            ("rename_durably(building, home.published)", "rename_durably(building, home.published)\n    audit(connection, run.mappings)"),
        ),
        "test_a_failed_audit_leaves_the_last_snapshot_published",
    ),
    Mutation(
        "another secret goes unnoticed", "waymark/privacy/secret.py",
        (("if known != secret.fingerprint:", "if False:"),),
        "test_another_secret_is_refused_before_anything_is_written",
    ),
]  # fmt: skip
