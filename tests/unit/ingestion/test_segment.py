"""Segment's four calls, as its public HTTP format gives them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tests.conftest import REPOSITORY
from tests.unit.ingestion.conftest import SECRET, MakeSource

MAPPING = (REPOSITORY / "examples" / "sources" / "segment.yml").read_text().replace("source: segment", "source: shop")
CONTEXT: dict[str, Any] = {
    "campaign": {"name": "spring", "source": "newsletter", "medium": "email"}, "locale": "de-CH", "ip": "8.8.8.8",
    "page": {"url": "https://shop.example/p/1?utm_source=ignored", "referrer": "https://www.google.com/"},
    "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/133.0.0.0 Safari/537.36",
}  # fmt: skip
TIMES = {
    "sentAt": "2026-03-01T10:00:02.000Z",
    "receivedAt": "2026-03-01T10:00:03.000Z",
    "originalTimestamp": "2026-03-01T10:00:00.500Z",
    "timestamp": "2026-03-01T10:00:01.500Z",
}


def call(kind: str, number: int, **fields: Any) -> str:
    return json.dumps({"type": kind, "messageId": f"m{number}", "anonymousId": "a1", **TIMES, "context": CONTEXT, **fields}) + "\n"


def test_the_four_calls_become_events(make_source: MakeSource) -> None:
    source = make_source(MAPPING)
    order = {"order_id": "o1", "revenue": 25.5, "total": 30, "currency": "eur", "email": "Jane@Mail.example"}
    source.put("a.ndjson", "".join([
        call("page", 1, name="Home", properties={"title": "Home", "url": "https://shop.example/"}),
        call("identify", 2, userId="u1", traits={"email": "jane@mail.example", "phone": "+41 79 123 45 67", "plan": "pro"}),
        call("track", 3, event="Order Completed", userId="u1", properties=order),
        call("screen", 4, name="Cart", properties={}, context={"device": {"type": "ios"}, "os": {"name": "iOS"}}),
        call("track", 5, event="Order Refunded", userId="u1", anonymousId=None, properties={"order_id": "o1", "total": 30, "currency": "EUR"}),
        call("track", 6, event="Article Read", timestamp=None, receivedAt=None),
        call("track", 7, event=None),
    ]))  # fmt: skip
    assert source.ingest().rows_accepted == 6
    assert source.rows("select rule from raw.quarantine") == [("missing_event_type",)]
    assert [row[0] for row in source.events("event_type")] == [
        "page_viewed",
        "identified",
        "order_completed",
        "screen_viewed",
        "order_refunded",
        "article_read",
    ]
    assert source.events("cast(occurred_at as varchar), cast(received_at as varchar)")[0] == ("2026-03-01 10:00:01.5", "2026-03-01 10:00:03")
    assert source.events("cast(occurred_at as varchar), cast(received_at as varchar)")[5] == ("2026-03-01 10:00:00.5", "2026-03-01 10:00:00.5")
    assert source.events("order_id, value, currency")[2] == ("o1", Decimal("25.5"), "EUR")
    assert source.events("value, session_key, user_id")[4] == (Decimal(-30), None, "u1")
    assert source.events("utm_source, utm_medium, utm_campaign, page_host, referrer_host, device_type, os, language")[0] == (
        "newsletter", "email", "spring", "shop.example", "www.google.com", "desktop", "macos", "de-CH",
    )  # fmt: skip
    assert source.events("screen, device_type, os")[3] == ("Cart", "mobile", "ios")
    email = {"type": "email", "value": SECRET.hmac("email|jane@mail.example")}
    assert source.events("identifiers")[1][0][-2:] == [email, {"type": "phone", "value": SECRET.hmac("phone|+41791234567")}]  # type: ignore[index]
    assert email in source.events("identifiers")[2][0]  # type: ignore[operator]
    assert json.loads(str(source.events("properties")[1][0])) == {"plan": "pro"}
    assert "email" not in str(source.events("properties")[2][0])
    assert source.value("select count(*) from raw.shop_events where content_digest is null or event_date <> date '2026-03-01'") == 0


def test_a_line_that_is_no_json_costs_itself_alone(make_source: MakeSource) -> None:
    source = make_source(MAPPING)
    source.put("a.ndjson", call("track", 1, event="Article Read") + '{"type": "track", "messageId": \n' + call("page", 2, name="Home"))
    report = source.ingest()
    assert (report.rows_accepted, report.rows_quarantined, report.refused) == (2, 1, [])
    assert source.rows("select rule, row_number from raw.quarantine") == [("malformed_row", 2)]
    assert source.events("event_type") == [("article_read",), ("page_viewed",)]
