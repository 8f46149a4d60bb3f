"""Sessions, steps, journeys, conversions: that tables which say the same thing say the same."""

from __future__ import annotations

from expectations.rules import Bounds, Rule, Suite
from expectations.suites import personal

_KEYS = "t.session_key_id in (select session_key_id from identity.restated_session_keys)"
_CUSTOMERS = "t.customer_id in (select customer_id from identity.restated_customers)"
_KNOWN_AS = "t.customer_id in (select customer_id from identity.restated_feature_customers)"
_EVENTS = "t.event_id in (select event_id from identity.restated_placements)"
_SESSION_TEXTS = ("anonymous_id", "user_id", "utm_source", "utm_medium", "utm_campaign", "referrer_host", "landing_page_path", "landing_screen", "country")
_CONSENT_TEXTS = ("scope", "channel", "jurisdiction", "policy_version", "source")
# Scopes name columns that the tables compared with have too, so a sub-select under the same alias is bounded by them as well.


def _where(key: str, name: str, meaning: str, condition: str) -> Rule:
    return Rule(name, meaning, f"select t.{key} from {{batch}} t where {{scope}} and ({condition})")


def suites(bounds: Bounds) -> list[Suite]:
    """One suite a mart."""
    sessions = (
        _where("session_id", "sessions_have_events", "A session has at least one event.", "t.event_count is null or t.event_count < 1"),
        _where("session_id", "sessions_end_after_they_start", "A session ends at or after its start.", "t.ended_at < t.started_at or t.duration_seconds < 0"),
        _where("session_id", "session_counts_fit", "No part of a session counts more than its events.",
               "t.page_view_count > t.event_count or t.micro_conversion_count > t.event_count or least(t.page_view_count, t.conversion_count) < 0"),
        Rule("sessions_agree_with_their_events", "A session's count, start and end are those of its events in fct_events.",
             "select t.session_id from {batch} t left join (select t.session_id, count(*) as n, min(t.occurred_at) as first_at,"
             " max(t.occurred_at) as last_at from marts.fct_events t where {scope} and t.session_id is not null group by t.session_id) e on e.session_id = t.session_id"
             " where {scope} and (e.n is distinct from t.event_count or e.first_at is distinct from t.started_at or e.last_at is distinct from t.ended_at)"),
    )  # fmt: skip
    steps = (
        _where("journey_step_id", "steps_end_after_they_start", "A step ends at or after its start.", "t.ended_at < t.started_at or t.event_count < 1"),
        Rule("steps_lie_inside_their_session", "A step with a session begins and ends inside it.",
             "select t.journey_step_id from {batch} t left join marts.fct_sessions s on s.session_id = t.session_id"
             " where {scope} and t.session_id is not null and (s.session_id is null or t.started_at < s.started_at or t.ended_at > s.ended_at)"),
        Rule("steps_are_numbered_without_gaps", "The steps of a journey are numbered from 1 without a gap.",
             "select t.journey_id from {batch} t where {scope} group by t.journey_id having max(t.step_number) <> count(*) or min(t.step_number) <> 1"),
    )  # fmt: skip
    journeys = (
        Rule("journeys_agree_with_their_steps", "A journey's counts, start and end are those of its steps.",
             "select t.journey_id from {batch} t left join (select t.journey_id, count(*) as n, sum(t.event_count) as events, min(t.started_at) as first_at,"
             " max(t.ended_at) as last_at from marts.fct_journey_steps t where {scope} group by t.journey_id) s on s.journey_id = t.journey_id"
             " where {scope} and (s.n is distinct from t.step_count or s.events is distinct from t.event_count or s.first_at is distinct from t.started_at"
             " or s.last_at is distinct from t.ended_at)"),
        _where("journey_id", "converted_journeys_have_a_conversion", "A journey is converted if and only if it has a conversion.",
               "(t.status = 'converted') <> (t.conversion_id is not null)"),
        _where("journey_id", "journey_durations_are_not_negative", "A journey lasts no less than nothing.", "t.duration_days < 0"),
    )  # fmt: skip
    conversions = (
        _where("conversion_id", "conversion_values_are_plausible", "A conversion's value is under quality.max_value.", f"abs(t.value) > {bounds.max_value}"),
        _where("conversion_id", "conversions_have_a_reporting_value", "A value has a rate to the reporting currency.",
               "t.value is not null and t.value_reporting is null"),
    )  # fmt: skip
    # What is published of texts; the other marts take theirs from these two.
    of_events = personal.rules("event_id", names=(*personal.NAMES, *personal.IDS), free=personal.FREE, said=personal.CONSENTS[:1])
    of_sessions = personal.rules("session_id", names=_SESSION_TEXTS, free=())
    of_consents = personal.rules("consent_interval_id", names=_CONSENT_TEXTS, free=())
    return [
        Suite("marts_fct_events", "journeys", "marts.fct_events", of_events, _EVENTS),
        Suite("marts_fct_sessions", "journeys", "marts.fct_sessions", (*sessions, *of_sessions), _KEYS),
        Suite("marts_fct_journey_steps", "journeys", "marts.fct_journey_steps", steps, _CUSTOMERS),
        Suite("marts_fct_journeys", "journeys", "marts.fct_journeys", journeys, _CUSTOMERS),
        Suite("marts_fct_conversions", "journeys", "marts.fct_conversions", conversions, f"({_CUSTOMERS} or t.customer_id is null)"),
        Suite("marts_fct_consent_intervals", "journeys", "marts.fct_consent_intervals", of_consents, _KNOWN_AS),
    ]
