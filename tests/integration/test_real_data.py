"""Real shops' files, through `waymark init` and `waymark run`; every figure was counted from the files by other means."""

from __future__ import annotations

import csv
import re
from decimal import Decimal
from pathlib import Path

import pytest

from tests.integration.conftest import Ran

CRAWLER = re.compile("bot|crawl|spider", re.IGNORECASE)


def _shop_rows(data: Path) -> list[dict[str, str]]:
    found = []
    for path in sorted((data / "shop_events").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            found += list(csv.DictReader(handle))
    return found


@pytest.mark.prove
def test_shop_rows_are_all_accounted_for(shop: Ran, shared_data: Path) -> None:
    read, accepted, duplicate, quarantined = shop.rows(
        "select sum(rows_read), sum(rows_accepted), sum(rows_duplicate), sum(rows_quarantined) from raw.ingestion_log"
    )[0]
    assert read == 36_546 == len(_shop_rows(shared_data))
    assert read == accepted + duplicate + quarantined  # type: ignore[operator]
    assert shop.value("select count(*) from marts.fct_events") == accepted
    assert shop.value("select count(*) from raw.ingestion_log") == 10


@pytest.mark.prove
def test_shop_conversions_are_worth_what_the_files_say_to_the_cent(shop: Ran) -> None:
    count, value, distinct_orders = shop.rows("select count(*), sum(value), count(distinct order_id) from marts.fct_conversions")[0]
    assert (count, Decimal(str(value)), distinct_orders) == (213, Decimal("209178.40"), 210)


@pytest.mark.prove
def test_no_shop_customer_is_joined_by_an_order_id(shop: Ran) -> None:
    repeated = shop.rows("""
        select order_id, count(*), count(distinct customer_id) from marts.fct_conversions
        where order_id is not null group by order_id having count(*) > 1 order by order_id
    """)
    assert len(repeated) == 3
    assert all(conversions == customers for _, conversions, customers in repeated)


@pytest.mark.prove
def test_shop_crawlers_stay_events_and_get_no_session(shop: Ran, shared_data: Path) -> None:
    crawlers = sum(1 for row in _shop_rows(shared_data) if CRAWLER.search(row["user_agent"] or ""))
    assert crawlers == 4_414
    bots, in_session, with_customer = shop.rows("select count(*), count(session_id), count(customer_id) from marts.fct_events where is_bot")[0]
    assert bots >= crawlers  # type: ignore[operator]
    assert (in_session, with_customer) == (0, 0)
    assert bots - crawlers < 400  # type: ignore[operator]


@pytest.mark.prove
def test_shop_renamed_and_vanished_columns_are_shown_in_the_log(shop: Ran) -> None:
    query = "select parse_filename(file), columns_renamed, columns_missing, rows_accepted from raw.ingestion_log"
    log = {str(file): (str(renamed or ""), str(missing or ""), accepted) for file, renamed, missing, accepted in shop.rows(query)}
    assert "clientId" in log["events_20250227.csv"][0]
    assert "referrer" in log["events_20250304.csv"][1]
    assert log["events_20250223.csv"][1] == ""
    assert all(accepted > 3_000 for _, _, accepted in log.values())  # type: ignore[operator]
    assert shop.value("select count(*) from marts.fct_events where anonymous_id is not null and occurred_at >= '2025-02-27'") > 15_000  # type: ignore[operator]


@pytest.mark.prove
def test_shop_emails_link_cookies_and_are_nowhere_in_the_open(shop: Ran) -> None:
    assert shop.value("select count(*) from marts.fct_events where properties like '%user_email%'") == 0
    assert shop.value("select max(anonymous_id_count) from marts.dim_customers") >= 2  # type: ignore[operator]


@pytest.mark.prove
def test_rees46_rows_are_accounted_for_and_sessions_are_by_user(rees46: Ran, shared_data: Path) -> None:
    log = rees46.rows("select sum(rows_read), sum(rows_accepted), sum(rows_duplicate), sum(rows_quarantined) from raw.ingestion_log")
    assert log == [(17_435, 17_429, 5, 1)]  # the file ends in the middle of its last row
    with (shared_data / "rees46" / "2019-Oct.csv").open(newline="", encoding="utf-8") as handle:
        users = {row["user_id"] for row in csv.DictReader(handle) if row["user_session"] is not None}
    assert rees46.value("select count(*) from marts.dim_customers") == len(users)
    assert rees46.value("select count(distinct user_id) from marts.fct_sessions") == len(users)
    assert rees46.value("select count(*) from marts.fct_events where session_id is null") == 0
    assert rees46.value("select count(*) from marts.fct_events where value is not null and event_type <> 'order_completed'") == 0
