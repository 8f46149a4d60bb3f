"""The rules that an incremental build is tempted to bend, each on a few events that come in two batches; expected values are written by hand.

All logs share one project of two runs; each test reads its own visitors. These are the tests that the mutations of tests/proof must be caught by.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.equality_logs import DAY, GAP, MINUTE, TIMEOUT, Delivery, give, moment, run_at_once, shop
from tests.integration.stepwise import Stepwise, assert_equal
from waymark.core.digest import file_digest
from waymark.core.errors import AuditError, SecretError
from waymark.pipeline import steps
from waymark.pipeline.publish import publish

START = 40 * DAY
LAST = 80 * DAY


def web(batch: int, name: str, at: int, **record: object) -> Delivery:
    """An event of the web source; its id, and its visitor where none is named, come from `name` (log.number)."""
    found: dict[str, object] = {"id": name, "type": "page_viewed", "at": moment(START + at), "visitor": name.split(".", maxsplit=1)[0] + ".v"}
    return Delivery(batch, "web", found | record)


def order(batch: int, name: str, at: int, **record: object) -> Delivery:
    return web(batch, name, at, **({"type": "order_completed", "value": 10, "currency": "USD"} | record))


GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1)"
LOGS = [
    # The clock stands still at LAST from the first batch on.
    web(0, "clock.0", LAST - START),
    # Thirty pairs of events of one instant; the lesser event id comes later. Event ids are digests, so the test reads which is the lesser.
    *[web(number % 2, f"tie{pair}.{number}", 0, url=f"https://shop.example/{number}") for pair in range(30) for number in range(2)],
    web(0, "gap.0", 0), web(0, "gap.1", GAP), web(0, "gap.2", 2 * GAP + 1),
    # A late event joins two sessions; another comes five weeks late, before all that was known.
    web(0, "late.0", 0), web(0, "late.1", 2 * GAP), web(1, "late.2", GAP), web(1, "late.3", -35 * DAY),
    # One id, two contents: the earlier one comes second and survives; its page is another.
    web(0, "flip.0", 10 * MINUTE, url="https://shop.example/second"), web(1, "flip.0", 0, url="https://shop.example/first"),
    # One id, two contents: the login that the first content showed is withdrawn by the second.
    web(0, "undo.0", 0, visitor="undo.a", user="undo.u"), web(0, "undo.1", DAY, visitor="undo.b", user="undo.u"),
    web(1, "undo.1", DAY - 1, visitor="undo.b"),
    # One order id, two strangers.
    order(0, "stranger.0", 0, visitor="stranger.a", order="stranger.o"), order(1, "stranger.1", MINUTE, visitor="stranger.b", order="stranger.o", value=99),
    # One order reported twice, within the day; another value, another currency and another day are other conversions.
    order(0, "twice.0", 0, order="twice.o"), order(1, "twice.1", MINUTE, order="twice.o"), order(1, "twice.2", 2 * MINUTE, order="twice.o", value=11),
    order(0, "twice.3", 3 * MINUTE, order="twice.o", currency="EUR"), order(1, "twice.4", MINUTE + DAY + 1, order="twice.o"),
    order(0, "day.0", 0, order="day.o"), order(1, "day.1", DAY, order="day.o"),
    # Three cookies with one login are one person; a fourth makes the login over-shared, and it merges nobody.
    *[web(0, f"kiosk.{number}", number * DAY, visitor=f"kiosk.v{number}", user="kiosk.u") for number in range(3)],
    web(1, "kiosk.3", 3 * DAY, visitor="kiosk.v3", user="kiosk.u"),
    # The first login after two purchases on two cookies: the younger cookie's customer is gone.
    order(0, "merge.0", 0, visitor="merge.a"), order(0, "merge.1", DAY, visitor="merge.b"),
    web(1, "merge.2", DAY + MINUTE, visitor="merge.a", user="merge.u"), web(1, "merge.3", DAY + MINUTE, visitor="merge.b", user="merge.u"),
    # A purchase of nobody but a login, which becomes over-shared.
    order(0, "nobody.0", 0, visitor=None, user="nobody.u"), *[web(1, f"nobody.{n}", n * DAY, visitor=f"nobody.v{n}", user="nobody.u") for n in range(1, 5)],
    # Two reports of one order by two people, of whom the later one's customer changes; and the same where no session holds the later report.
    order(0, "report.0", 0, visitor="report.a", order="report.o"), order(0, "report.1", MINUTE, visitor="report.b", order="report.o"),
    web(1, "report.2", DAY, visitor="report.b", user="report.u"), web(1, "report.3", -DAY, visitor="report.c", user="report.u"),
    order(0, "silent.0", 0, visitor="silent.a", order="silent.o"), order(0, "silent.1", MINUTE, visitor=None, user="silent.u", order="silent.o"),
    web(1, "silent.2", -DAY, visitor="silent.b", user="silent.u"),
    # A purchase in a session, whose cookie becomes over-shared.
    order(0, "shared.0", 0), *[web(1, f"shared.{n}", n * DAY, user=f"shared.u{n}") for n in range(1, 5)],
    # What follows the purchase in its session is not a new journey; a visit a day later is.
    web(0, "thanks.0", 0), order(0, "thanks.1", MINUTE), web(1, "thanks.2", 2 * MINUTE), web(1, "thanks.3", DAY),
    # A pause of exactly the timeout does not end a journey; a longer one does.
    web(0, "pause.0", 0), web(0, "pause.1", TIMEOUT), web(0, "pause.2", 2 * TIMEOUT + 1),
    web(0, "crawl.0", 0, agent=GOOGLEBOT), web(1, "crawl.1", MINUTE, agent=GOOGLEBOT), web(1, "crawl.2", 2 * MINUTE),
    web(0, "staff.0", 0, staff=True), web(1, "staff.1", MINUTE),
    # Points of features are Mondays' midnights; START + 5 days is one. An event at a point is after it; a login links from its own instant on.
    web(0, "point.0", 5 * DAY), order(1, "point.1", 19 * DAY),
    web(0, "then.0", 0, visitor="then.a"), web(0, "then.1", DAY, visitor="then.b"),
    web(1, "then.2", 10 * DAY, visitor="then.a", user="then.u"), web(1, "then.3", 10 * DAY, visitor="then.b", user="then.u"),
]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepwise]:
    project = shop(tmp_path_factory.mktemp("rules") / "batches")
    os.environ.pop("WAYMARK_HOME", None)
    for batch in (0, 1):
        give(project, [delivery for delivery in LOGS if delivery.batch == batch], f"b{batch}")
        project.run(checks=False)
    yield project


def test_two_batches_give_what_one_rebuild_gives(built: Stepwise, tmp_path: Path) -> None:
    once = shop(tmp_path / "once")
    run_at_once(once, LOGS)
    assert_equal(built, once)


def test_events_of_one_instant_stand_in_order_of_their_ids(built: Stepwise) -> None:
    found = built.rows("""
        with ids as (
            select anonymous_id, min(event_id) as least_id, max(event_id) as greatest_id, arg_min(page_path, event_id) as path
            from marts.fct_events group by anonymous_id
        )
        select s.first_event_id = ids.least_id, s.last_event_id = ids.greatest_id, s.landing_page_path = ids.path, s.event_count
        from marts.fct_sessions s join ids using (anonymous_id) where s.anonymous_id like 'tie%'
    """)
    assert found == [(True, True, True, 2)] * 30


def test_a_gap_of_exactly_thirty_minutes_does_not_end_a_session(built: Stepwise) -> None:
    assert built.rows("select event_count from marts.fct_sessions where anonymous_id = 'gap.v' order by started_at") == [(2,), (1,)]


def test_a_late_event_joins_the_sessions_around_it_however_late(built: Stepwise) -> None:
    found = built.rows("select event_count, duration_seconds from marts.fct_sessions where anonymous_id = 'late.v' order by started_at")
    assert found == [(1, 0), (3, 3600)]


def test_of_two_contents_the_earlier_survives_not_the_first_to_arrive(built: Stepwise) -> None:
    assert built.rows("select page_path, occurred_at::varchar from marts.fct_events where anonymous_id = 'flip.v'") == [("/first", "2024-04-10 00:00:00")]
    assert built.rows("select landing_page_path, event_count from marts.fct_sessions where anonymous_id = 'flip.v'") == [("/first", 1)]


def test_a_login_that_a_conflict_withdraws_links_nobody(built: Stepwise) -> None:
    assert built.rows("select count(distinct customer_id), count(*) from marts.fct_events where anonymous_id like 'undo.%'") == [(2, 2)]


def test_an_order_id_links_nobody(built: Stepwise) -> None:
    assert built.rows("select count(distinct customer_id), count(*) from marts.fct_conversions where goal = 'purchase' and order_id = 'stranger.o'") == [(2, 2)]


def test_one_order_is_one_conversion_only_with_equal_value_and_currency_within_a_day(built: Stepwise) -> None:
    found = built.rows("""
        select value::varchar, currency, report_count from marts.fct_conversions where goal = 'purchase' and order_id = 'twice.o' order by occurred_at
    """)
    assert found == [("10.0000", "USD", 2), ("11.0000", "USD", 1), ("10.0000", "EUR", 1), ("10.0000", "USD", 1)]


def test_reports_of_an_order_exactly_a_day_apart_are_one_conversion(built: Stepwise) -> None:
    assert built.rows("select report_count from marts.fct_conversions where goal = 'purchase' and order_id = 'day.o'") == [(2,)]


def test_a_login_shared_by_too_many_merges_nobody(built: Stepwise) -> None:
    assert built.rows("select count(distinct customer_id), count(customer_id) from marts.fct_events where anonymous_id like 'kiosk.%'") == [(4, 4)]


def test_a_merged_customer_leaves_no_row_behind(built: Stepwise) -> None:
    customers = "select distinct customer_id from marts.fct_events where anonymous_id like 'merge.%'"
    # Each purchase reaches both goals.
    assert built.rows(f"select conversion_count, anonymous_id_count from marts.dim_customers where customer_id in ({customers})") == [(4, 2)]
    assert built.rows("select count(*) from marts.dim_customers anti join marts.fct_events using (customer_id)") == [(0,)]
    assert built.rows(f"select count(distinct alias_customer_id) from marts.dim_customer_aliases where customer_id in ({customers})") == [(3,)]


def test_a_purchase_whose_login_became_over_shared_stays_a_conversion_of_nobody(built: Stepwise) -> None:
    found = built.rows("select c.goal, c.customer_id from marts.fct_conversions c join marts.fct_events e using (event_id) where e.user_id = 'nobody.u'")
    assert sorted(found) == [("lead", None), ("purchase", None)]


def test_a_purchase_whose_visitor_became_over_shared_stays_a_conversion_of_nobody(built: Stepwise) -> None:
    found = built.rows("""
        select c.goal, c.customer_id, c.journey_id, c.session_id = e.session_id from marts.fct_conversions c join marts.fct_events e using (event_id)
        where e.anonymous_id = 'shared.v'
    """)
    assert sorted(found) == [("lead", None, None, True), ("purchase", None, None, True)]


def test_an_order_stays_one_conversion_when_the_customer_of_a_report_changes(built: Stepwise) -> None:
    found = built.rows("select order_id, report_count from marts.fct_conversions where goal = 'purchase' and order_id in ('report.o', 'silent.o') order by 1")
    assert found == [("report.o", 2), ("silent.o", 2)]


def test_the_thank_you_page_opens_no_journey(built: Stepwise) -> None:
    found = built.rows("""
        select j.status, j.event_count from marts.fct_journeys j join marts.fct_events e on e.event_id = j.first_event_id
        where e.anonymous_id = 'thanks.v' and j.goal = 'purchase' order by j.started_at
    """)
    assert found == [("converted", 3), ("lapsed", 1)]


def test_a_pause_of_exactly_the_timeout_does_not_end_a_journey(built: Stepwise) -> None:
    found = built.rows("""
        select j.event_count from marts.fct_journeys j join marts.fct_events e on e.event_id = j.first_event_id
        where e.anonymous_id = 'pause.v' and j.goal = 'purchase' order by j.started_at
    """)
    assert found == [(2,), (1,)]


def test_crawlers_and_staff_are_in_no_session(built: Stepwise) -> None:
    found = built.rows("select anonymous_id, event_count from marts.fct_sessions where anonymous_id in ('crawl.v', 'staff.v') order by 1")
    assert found == [("crawl.v", 1), ("staff.v", 1)]
    assert built.rows("select count(*), count(session_id) from marts.fct_events where anonymous_id in ('crawl.v', 'staff.v')") == [(5, 2)]


def test_money_is_converted_at_the_rate_of_its_day(built: Stepwise) -> None:
    found = built.rows("select value_reporting::varchar from marts.fct_conversions where currency = 'EUR' and goal = 'purchase' and order_id = 'twice.o'")
    assert found == [("12.0000",)]


def points_of(project: Stepwise, names: str, columns: str, table: str) -> list[tuple[object, ...]]:
    """Columns of the rows of visitors, by point (days since START) and customer."""
    return project.rows(f"""
        select date_diff('day', timestamp '{moment(START)}', as_of_at) as day, {columns}
        from features.{table}
        where customer_id in (select node_customer_id from identity.nodes where identifier_value like '%{names}%') order by all
    """)


def test_an_event_at_a_point_does_not_count_for_it(built: Stepwise) -> None:
    found = points_of(built, "point.v", "event_count_7d, event_count_90d", "feat_customer_behavior")
    assert found == [(12, 1, 1), (19, 0, 1), (26, 1, 2), (33, 0, 2), (40, 0, 2)]


def test_a_conversion_at_the_end_of_the_horizon_is_not_in_it(built: Stepwise) -> None:
    assert points_of(built, "point.v", "is_converted", "label_conversion") == [(12, False), (19, True), (26, False), (33, False)]


def test_a_login_links_nobody_at_points_before_it(built: Stepwise) -> None:
    found = points_of(built, "then.", "identifier_count, event_count_total", "feat_customer_behavior")
    assert found == [(5, 1, 1), (5, 1, 1), *[(day, 3, 4) for day in (12, 19, 26, 33, 40)]]


def test_a_failed_audit_leaves_the_last_snapshot_published(built: Stepwise) -> None:
    before = file_digest(built.home.published)
    run = built.started()
    try:
        with run.open_warehouse() as connection:
            connection.execute("create table marts.kept as from intermediate.int_events_sessionized")
            connection.execute("delete from intermediate.int_events_sessionized where anonymous_id = 'gap.v'")
        with pytest.raises(AuditError):
            publish(run)
    finally:
        with run.open_warehouse() as connection:
            missing = "select kept.* from marts.kept anti join intermediate.int_events_sessionized using (event_id)"
            connection.execute(f"insert into intermediate.int_events_sessionized {missing}")
            connection.execute("drop table marts.kept")
    assert file_digest(built.home.published) == before
    assert [path.name for path in built.home.published_dir.glob(".building*")] == []


def test_another_secret_is_refused_before_anything_is_written(built: Stepwise) -> None:
    secret = built.home.secret_file
    own = secret.read_text()
    try:
        secret.write_text("another secret, which is long enough\n")
        with pytest.raises(SecretError):
            steps.preflight(built.project)
    finally:
        secret.write_text(own)
