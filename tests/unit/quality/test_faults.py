"""Planted faults: each is caught by the rule that is named for it, by no other blocking one that could not know, and stops what it should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from expectations import CheckResult, suites_of
from expectations.rules import STAGES, Stage
from expectations.runner import run_suites
from expectations.suites.raw_events import COLUMNS
from tests.unit.quality.warehouse import BOUNDS, FIELDS, clean_warehouse
from waymark.core.errors import AuditError
from waymark.core.warehouse import Connection
from waymark.ingestion.event import CANONICAL_COLUMNS
from waymark.pipeline.quality import stop_if_broken


@dataclass(frozen=True)
class Fault:
    """stage: whose checks must see it. plant: SQL. rule: what must fail. stops: whether the run must stop."""

    stage: Stage
    plant: str
    rule: str
    stops: bool = True


RAW, ONE = "update raw.shop_events set", "where event_id = md5('e7')"
ACT = (
    "{{'granted': ['{}'], 'withdrawn': [], 'expired': [], 'channel': 'banner', 'jurisdiction': null, 'policy_version': null, 'stated_by': null,"
    " 'expires_at': null, 'is_statement': false}}"
)
LATEST = "where as_of_at = timestamp '2026-03-16'"
SCORES, SCORE = "update marts.fct_propensity_scores set", "where customer_id = 'c_7'"
FAULTS = [
    Fault("raw", f"{RAW} event_id = 'short' {ONE}", "event_ids_are_digests"),
    Fault("raw", f"{RAW} event_id = null {ONE}", "event_ids_are_digests"),
    Fault("raw", f"insert into raw.shop_events from raw.shop_events {ONE}", "event_ids_are_unique"),
    Fault("raw", f"{RAW} source = 'till' {ONE}", "events_name_their_source"),
    Fault("raw", f"{RAW} occurred_at = timestamp '2027-01-01', event_date = date '2027-01-01' {ONE}", "events_are_not_in_the_future"),
    Fault("raw", f"{RAW} occurred_at = timestamp '1970-01-01', event_date = date '1970-01-01' {ONE}", "events_have_a_time_after_1990"),
    Fault("raw", f"{RAW} received_at = occurred_at - to_days(3) {ONE}", "events_are_received_after_they_happen", stops=False),
    Fault("raw", f"{RAW} event_type = 'Order Completed' {ONE}", "event_types_are_names"),
    Fault("raw", f"{RAW} value = 9000000, currency = 'USD' {ONE}", "values_are_plausible"),
    Fault("raw", f"{RAW} value = 5, currency = null {ONE}", "values_have_a_currency"),
    Fault("raw", f"{RAW} identifiers = [] {ONE}", "identifier_lists_are_not_empty"),
    Fault("raw", f"{RAW} identifiers = [{{'type': 'email', 'value': 'anna@example.org'}}] {ONE}", "personal_identifiers_are_hashed"),
    Fault("raw", f"{RAW} page_url = 'https://shop.example/?mail=anna@example.org' {ONE}", "texts_hold_no_address"),
    Fault("raw", f"{RAW} properties = '{{\"tel\":\"+41 79 123 45 67\"}}' {ONE}", "texts_hold_no_phone"),
    Fault("raw", f"{RAW} text = 'mine is 4111 1111 1111 1111, ok' {ONE}", "texts_hold_no_card_number"),
    Fault("raw", f"{RAW} page_url = 'https://shop.example/?iban=DE89370400440532013000' {ONE}", "texts_hold_no_iban"),
    Fault("raw", f"{RAW} consent_scopes = ['email', 'anna@example.org'] {ONE}", "texts_hold_no_address"),
    Fault("raw", f"{RAW} consent_act = {ACT.format('anna@example.org')} {ONE}", "texts_hold_no_address"),
    Fault("raw", f"{RAW} consent_act = {ACT.format('+41 79 123 45 67')} {ONE}", "texts_hold_no_phone"),
    Fault("raw", f"{RAW} event_date = date '2020-01-01' {ONE}", "days_fit_times"),
    Fault("raw", "delete from raw.shop_events where occurred_at >= timestamp '2026-03-09' and event_id not like '0%'", "weekly_volume_is_usual", stops=False),
    Fault("raw", "delete from raw.shop_events where occurred_at >= timestamp '2026-03-15' and event_id not like '0%'", "daily_volume_is_usual", stops=False),
    Fault("raw", "insert into raw.shop_events select e.* replace (md5(e.event_id || n) as event_id) from raw.shop_events e, range(3) r(n) where occurred_at >= timestamp '2026-03-15'",
          "daily_volume_is_usual", stops=False),
    Fault("raw", f"{RAW} event_type = 'page_seen' where event_type = 'order_completed' and occurred_at >= timestamp '2026-03-09'", "event_types_do_not_vanish", stops=False),
    Fault("raw", f"{RAW} event_type = 'gift_wrapped' where event_type = 'order_completed' and occurred_at >= timestamp '2026-03-09'", "event_types_are_known", stops=False),
    Fault("raw", "alter table raw.shop_events drop column click_id", "columns_are_the_canonical_ones"),
    Fault("raw", "alter table raw.shop_events add column extra integer", "columns_are_the_canonical_ones"),
    Fault("raw", "alter table raw.shop_events alter column value type double", "columns_are_the_canonical_ones"),
    Fault("journeys", "update marts.fct_sessions set event_count = 0 where session_id = 's_3'", "sessions_have_events"),
    Fault("journeys", "delete from marts.fct_events where session_id = 's_3'", "sessions_agree_with_their_events"),
    Fault("journeys", "update marts.fct_sessions set duration_seconds = -1 where session_id = 's_3'", "sessions_end_after_they_start"),
    Fault("journeys", "update marts.fct_sessions set page_view_count = 99 where session_id = 's_3'", "session_counts_fit"),
    Fault("journeys", "update marts.fct_journey_steps set started_at = started_at - to_days(1) where session_id = 's_3'", "steps_lie_inside_their_session"),
    Fault("journeys", "update marts.fct_journey_steps set ended_at = started_at - to_days(1) where session_id = 's_3'", "steps_end_after_they_start"),
    Fault("journeys", "update marts.fct_journey_steps set step_number = 2 where session_id = 's_3'", "steps_are_numbered_without_gaps"),
    Fault("journeys", "update marts.fct_journeys set event_count = 99 where conversion_id is null", "journeys_agree_with_their_steps"),
    Fault("journeys", "update marts.fct_journeys set conversion_id = null", "converted_journeys_have_a_conversion"),
    Fault("journeys", "update marts.fct_journeys set duration_days = -0.5 where conversion_id is null", "journey_durations_are_not_negative"),
    Fault("journeys", "update marts.fct_consent_intervals set scope = 'anna@example.org' where customer_id = 'c_3'", "texts_hold_no_address"),
    Fault("journeys", "update marts.fct_consent_intervals set channel = 'call +41 79 123 45 67' where customer_id = 'c_3'", "texts_hold_no_phone"),
    Fault("journeys", "update marts.fct_conversions set value_reporting = null", "conversions_have_a_reporting_value"),
    Fault("journeys", "update marts.fct_conversions set value = 9000000", "conversion_values_are_plausible"),
    Fault("features", f"update features.feat_customer_behavior set customer_id = null {LATEST}", "feature_keys_are_whole"),
    Fault("features", "insert into features.feat_customer_value from features.feat_customer_value where customer_point_id = 'c_7_0'", "feature_keys_are_unique"),
    Fault("features", "update features.feat_customer_value set as_of_at = as_of_at - to_hours(5) where customer_point_id = 'c_7_0'", "points_are_on_the_grid"),
    Fault("features", "update features.feat_customer_behavior set event_count_7d = -1 where customer_point_id = 'c_7_0'", "counts_are_not_negative"),
    Fault("features", "update features.feat_customer_behavior set hours_since_last_event = -3 where customer_point_id = 'c_7_0'", "hours_are_not_negative"),
    Fault("features", "update features.feat_customer_behavior set event_count_7d = 50 where customer_point_id = 'c_7_0'", "longer_windows_hold_shorter_ones"),
    Fault("features", "update features.feat_customer_channels set mobile_session_share_90d = 1.5 where customer_point_id = 'c_7_0'", "shares_are_shares"),
    Fault("features", f"update features.feat_customer_behavior set hours_since_last_session = null {LATEST}", "null_rates_are_steady"),
    Fault("features", f"update features.feat_customer_channels set last_channel = 'display' {LATEST}", "categories_are_steady"),
    Fault("features", "update features.label_conversion set as_of_at = timestamp '2026-03-12' where customer_point_id = 'c_7_1'", "labels_are_ripe"),
    Fault("features", "update features.label_conversion set first_converted_at = as_of_at + to_days(9) where is_converted", "labelled_conversions_lie_in_the_horizon"),
    Fault("features", "delete from intermediate.int_customer_activity where customer_id = 'c_7' and as_of_at = timestamp '2026-02-23'", "labels_have_features"),
    Fault("scores", f"{SCORES} score = 1.2, score_high = 1.3 {SCORE}", "scores_are_probabilities"),
    Fault("scores", f"{SCORES} score_low = 0.15 {SCORE}", "scores_lie_in_their_intervals"),
    Fault("scores", f"insert into marts.fct_propensity_scores from marts.fct_propensity_scores {SCORE}", "customers_are_scored_once"),
    Fault("scores", f"{SCORES} decile = 1", "deciles_follow_the_scores"),
    Fault("scores", f"{SCORES} score = 0.1 where decile = 2", "deciles_follow_the_scores"),
    Fault("scores", f"{SCORES} customer_id = 'c_nobody' {SCORE}", "scored_customers_exist"),
    Fault("scores", f"{SCORES} model_version = null {SCORE}", "scores_name_their_model"),
]  # fmt: skip


@pytest.fixture(scope="module")
def clean() -> Iterator[Connection]:
    with clean_warehouse() as connection:
        yield connection


def checked(connection: Connection, stage: Stage, *, rule: str = "") -> list[CheckResult]:
    """What the stage's suites find; with rule: what this one finds, wherever it stands."""
    suites = suites_of(stage, sources=["shop"], bounds=BOUNDS, fields=FIELDS, pending=False)
    if rule:
        suites = [replace(suite, rules=kept) for suite in suites if (kept := tuple(each for each in suite.rules if each.name == rule))]
    return run_suites(connection, suites, restated=False)


@pytest.mark.parametrize("stage", STAGES)
def test_a_clean_warehouse_passes_every_rule(clean: Connection, stage: Stage) -> None:
    results = checked(clean, stage)
    assert [(result.rule, result.failing) for result in results if result.status == "failed"] == []
    assert all(result.status == "passed" for result in results), [result.rule for result in results if result.status != "passed"]
    stop_if_broken(results)


@pytest.mark.parametrize("stage", STAGES)
def test_each_planted_fault_is_caught_by_its_rule_and_stops_what_it_should(stage: Stage) -> None:
    """One fault after another in fresh tables, so that a rule that fails fails because of the last one planted."""
    for fault in (fault for fault in FAULTS if fault.stage == stage):
        with clean_warehouse() as connection:
            connection.execute(fault.plant)
            # Where columns are gone, the rules that ask for them must still say something.
            results = checked(connection, stage, rule="" if fault.plant.startswith("alter table") else fault.rule)
        failed = {result.rule: result for result in results if result.status == "failed"}
        assert fault.rule in failed, f"{fault.plant}: {sorted(failed)}"
        assert failed[fault.rule].failing > 0
        if fault.stops:
            with pytest.raises(AuditError, match=fault.rule):
                stop_if_broken(results)
        else:
            stop_if_broken(results)


def test_every_rule_has_a_planted_fault() -> None:
    rules = {rule.name for stage in STAGES for suite in suites_of(stage, sources=["shop"], bounds=BOUNDS, fields=FIELDS, pending=False) for rule in suite.rules}
    assert rules == {fault.rule for fault in FAULTS}
    assert len(FAULTS) >= 25


def test_each_form_of_a_personal_number_is_caught_by_name_in_what_is_published() -> None:
    """Each in a row of its own; the keys name the rows, and nothing of them."""
    planted = {
        "texts_hold_no_address": ("user_id = 'anna@example.org'", "consent_scopes = ['anna@example.org']", "text = 'write to anna@example.org'", "referrer = 'https://a.example/?m=anna@example.org'"),
        "texts_hold_no_phone": ("city = '+41791234567'", "properties = '{\"tel\":\"+41 79 123 45 67\"}'"),
        "texts_hold_no_card_number": ("properties = '{\"card\":5555555555554444}'", "text = '3782 8224 6310 0005 or 4111-1111-1111-1111'"),
        "texts_hold_no_iban": ("text = 'to CH93 0076 2011 6238 5295 7'", "properties = '{\"iban\":\"GB29NWBK60161331926819\"}'"),
    }
    with clean_warehouse() as connection:
        number, keys = 0, {rule: set[str]() for rule in planted}
        for rule, plants in planted.items():
            for plant in plants:
                number += 7
                connection.execute(f"update marts.fct_events set {plant} where event_id = md5('e{number}')")
                keys[rule].add(str(connection.execute(f"select md5('e{number}')").fetchall()[0][0]))
        connection.execute("update marts.fct_sessions set landing_page_path = '/u/anna@example.org', landing_screen = 'call +41791234567' where session_id = 's_3'")
        failed = {(result.table, result.rule): set(result.keys) for result in checked(connection, "journeys") if result.status == "failed"}
    assert failed == {("marts.fct_events", rule): ids for rule, ids in keys.items()} | {
        ("marts.fct_sessions", rule): {"s_3"} for rule in ("texts_hold_no_address", "texts_hold_no_phone")
    }


def test_little_history_is_an_answer() -> None:
    with clean_warehouse() as connection:
        connection.execute("delete from raw.shop_events where occurred_at < timestamp '2026-03-10'")
        results = {result.rule: result.status for result in checked(connection, "raw")}
    assert results["weekly_volume_is_usual"] == results["daily_volume_is_usual"] == results["event_types_do_not_vanish"] == "not_applicable"


def test_a_day_is_compared_where_four_weeks_lie_before_it_and_not_before() -> None:
    """Whole days of history before the last one, and what the rule then says of a silent day. Four earlier weekdays need 29 whole days."""
    for days, expected in ((28, "not_applicable"), (29, "failed"), (60, "failed")):
        with clean_warehouse() as connection:
            connection.execute(f"delete from raw.shop_events where occurred_at < timestamp '2026-03-15' - to_days({days})")
            connection.execute("delete from raw.shop_events where occurred_at >= timestamp '2026-03-15'")
            results = {result.rule: result for result in checked(connection, "raw")}
        assert results["daily_volume_is_usual"].status == expected, days
        assert results["daily_volume_is_usual"].keys == (("2026-03-15: 0 events",) if expected == "failed" else ()), days
        assert results["weekly_volume_is_usual"].status != "failed", days  # the week does not show it yet


def test_a_weekday_without_events_is_usual_where_it_has_none() -> None:
    with clean_warehouse() as connection:
        connection.execute("delete from raw.shop_events where dayofweek(occurred_at) = 0")
        results = {result.rule: result.status for result in checked(connection, "raw")}
    assert results["daily_volume_is_usual"] == "not_applicable"


def test_a_day_is_held_against_the_median_of_eight_weekdays_and_of_no_fewer() -> None:
    """72 events on four of the weekdays and none on the four after them: the median of eight is 36; of any seven it would be 0 or 72."""
    nearer = " or ".join(f"cast(occurred_at as date) = date '2026-03-15' - {7 * week}" for week in (1, 2, 3, 4))
    for kept, expected in ((100, "passed"), (11, "failed")):
        with clean_warehouse() as connection:
            connection.execute(f"delete from raw.shop_events where {nearer}")
            connection.execute(f"delete from raw.shop_events where event_id not in (select event_id from raw.shop_events order by occurred_at desc limit {kept})"
                               " and occurred_at >= timestamp '2026-03-15'")
            results = {result.rule: result for result in checked(connection, "raw")}
        assert results["daily_volume_is_usual"].status == expected, results["daily_volume_is_usual"]


def test_the_columns_that_the_rule_knows_are_those_of_ingestion() -> None:
    assert COLUMNS == CANONICAL_COLUMNS


def test_each_rule_is_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine

    sent: list[str] = []
    execute = SqlAlchemyExecutionEngine.execute_query
    monkeypatch.setattr(SqlAlchemyExecutionEngine, "execute_query", lambda engine, query: (sent.append(str(query)), execute(engine, query))[1])
    with clean_warehouse() as connection:
        results = checked(connection, "raw")
    assert len(sent) == len(results) > 10 and all(query.startswith("SELECT COUNT(*)") for query in sent)


def test_data_docs_hold_keys_and_no_row(tmp_path: Path) -> None:
    with clean_warehouse() as connection:
        connection.execute(f"{RAW} page_url = 'https://shop.example/?mail=anna@example.org' {ONE}")
        suites = suites_of("raw", sources=["shop"], bounds=BOUNDS, fields=FIELDS, pending=False)
        results = run_suites(connection, suites, restated=False, docs=tmp_path)
    written = "".join(path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".html", ".json"))
    pages = [path.read_text() for path in tmp_path.rglob("*.html")]
    assert len(pages) >= 3 and any("raw.shop_events" in page and "1 row breaks it" in page for page in pages)
    assert "texts_hold_no_address" in written and "anna@example" not in written and "shop:7" not in written
    assert next(result for result in results if result.rule == "texts_hold_no_address").keys == ("492585e49f078b06b0cd507d42ae9da0",)


def test_data_docs_tell_of_the_last_run_alone(tmp_path: Path) -> None:
    """A source that is gone leaves nothing; a suite whose table was another one last time is run on today's."""
    with clean_warehouse() as connection:
        connection.execute("create table raw.till_events as from raw.shop_events; update raw.till_events set source = 'till', event_id = md5(event_id)")
        connection.execute("create view raw.shop_pending as from raw.shop_events limit 10")
        for sources, pending in ((["shop", "till"], False), (["shop"], True)):
            suites = suites_of("raw", sources=sources, bounds=BOUNDS, fields=FIELDS, pending=pending)
            assert [result.rule for result in run_suites(connection, suites, restated=True, docs=tmp_path) if result.status == "failed"] == []
    index = next(tmp_path.rglob("index.html")).read_text()
    assert "raw.shop_pending" in index and "till" not in index
    assert len([page for page in tmp_path.rglob("*.html") if page.name != "index.html"]) == 2


class Links(HTMLParser):
    """What a page loads or points at: (tag, address)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in ("href", "src", "srcset", "data", "action") and value]


def test_a_configuration_that_a_kill_left_half_written_is_made_anew(tmp_path: Path) -> None:
    with clean_warehouse() as connection:
        suites = suites_of("scores", sources=["shop"], bounds=BOUNDS, fields=FIELDS, pending=False)
        first = run_suites(connection, suites, restated=False, docs=tmp_path)
        configuration = tmp_path / "gx" / "great_expectations.yml"
        whole = configuration.read_text()
        for length in (0, len(whole) // 3, len(whole) - len(whole) // 5):
            configuration.write_text(whole[:length])
            again = run_suites(connection, suites, restated=False, docs=tmp_path)
            assert [(one.rule, one.status) for one in again] == [(one.rule, one.status) for one in first] != []


def test_data_docs_load_nothing_and_every_link_leads_to_a_page(tmp_path: Path) -> None:
    with clean_warehouse() as connection:
        connection.execute(f"{RAW} source = 'till' {ONE}")
        for stage in STAGES:
            suites = suites_of(stage, sources=["shop"], bounds=BOUNDS, fields=FIELDS, pending=False)
            run_suites(connection, suites, restated=False, docs=tmp_path, is_first=stage == STAGES[0], is_last=stage == STAGES[-1])
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) == 2 * 12 + 1  # twelve suites, what was found of each, and the index
    for page in pages:
        text = page.read_text()
        links = Links()
        links.feed(text)
        assert "<script" not in text and "url(" not in text and "@import" not in text, page
        assert not re.search(r"""(href|src)\s*=\s*["']?(https?:)?//""", text), page
        assert {tag for tag, _ in links.found} <= {"a", "link"} and {address for tag, address in links.found if tag == "link"} == {"data:,"}, page
        for _, address in links.found:
            assert address == "data:," or (page.parent / unquote(address)).is_file(), (page, address)
        assert "<style>" in text and "border-collapse" in text, page
    index = next(page for page in pages if page.name == "index.html").read_text()
    assert index.count(" Failed</td>") == 1 and index.count(" Success</td>") == 11 and "features.feat_customer_value" in index
