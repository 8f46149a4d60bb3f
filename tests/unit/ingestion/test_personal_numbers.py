"""The door and the rules that guard it agree: whatever is written around a personal number, what the door lets in no rule stops for."""

from __future__ import annotations

import csv
import io
import json
import random
from urllib.parse import quote, quote_plus

from expectations.suites import personal
from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source

PIECES = (
    "anna@example.org", "jürg.müller@bücher.example", "x@-y.zz", "a@b.c",
    "+41 79 123 45 67", "+41791234567", "+1 (555) 123-4567", "0041791234567", "555-123-4567",
    "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "4111111111111112",
    "CH93 0076 2011 6238 5295 7", "DE89370400440532013000", "GB29NWBK60161331926819", "DE00370400440532013000",
    "1740268798123456", "0.4111111111111111", "72d76fde-8bb3-4e00-8c23-a032dfed738c", "GA1.2.1234567890.1740268798",
)  # fmt: skip
AROUND = (
    "", " ", ",", ":", "=", "&", "?", "(", ")", "[", "]", "<", ">", ";", "/", "-", "_", ".", "+", "%20", "%2B", "%22", "'", "a", "7", "x=", "#", "@", "%40",
    "\\u0040", "\t",
)  # fmt: skip
RULES = {"[email]": "texts_hold_no_address", "[phone]": "texts_hold_no_phone", "[card]": "texts_hold_no_card_number", "[iban]": "texts_hold_no_iban"}
COLUMNS = ("id", "at", "what", "visitor", "login", "url", "referrer", "order", "details", "note", "city", "agent")
MAPPING = CSV_MAPPING.replace("  text:", "  city: {column: city, optional: true}\n  user_agent: {column: agent, optional: true}\n  text:")


def broken(source: Source) -> list[tuple[str, object]]:
    """Rules about personal numbers that accepted events break, with the events' own ids."""
    found: list[tuple[str, object]] = []
    for rule in personal.rules("source_event_id", names=(*personal.NAMES, *personal.IDS), free=personal.FREE):
        sql = rule.failing.replace("{scope}", "true").replace("{batch}", "raw.shop_events").replace("{{", "{").replace("}}", "}")
        found += [(rule.name, event) for (event,) in source.rows(sql)]
    return found


def ingested(source: Source, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"id": f"e{number}", "at": "2026-03-01T10:00:00Z", "what": "page_viewed", **row} for number, row in enumerate(rows))
    source.put("a.csv", text.getvalue())
    source.ingest()
    assert source.value("select count(*) from raw.shop_events") == len(rows), "none is refused"


def test_what_the_door_lets_in_breaks_no_rule(make_source: MakeSource) -> None:
    chance = random.Random(11)

    def written() -> str:
        return "".join(chance.choice(AROUND) + chance.choice(AROUND) + chance.choice(PIECES) for _ in range(chance.randint(1, 3))) + chance.choice(AROUND)

    rows = [
        {
            "visitor": written() if chance.random() < 0.5 else "v", "login": written(), "order": written(),
            "url": f"https://shop.example/{chance.choice([quote, quote_plus, str])(written())}?q={chance.choice([quote, quote_plus, str])(written())}"
            f"&utm_term={quote_plus(written())}&utm_content={quote(quote(written()))}",
            "referrer": f"https://other.example/?q={quote(written())}", "details": json.dumps({"a": written(), "b": [written()], "c": chance.random()}),
            "note": written(), "city": written(), "agent": written(),
        }
        for _ in range(1_500)
    ]  # fmt: skip
    source = make_source(MAPPING)
    ingested(source, rows)
    assert broken(source) == []


def test_plain_ones_are_taken_out_and_the_rules_would_have_seen_them(make_source: MakeSource) -> None:
    """The same texts in the raw file and past the door: there each rule fails on each of its own, here none does."""
    shown = {
        "anna@example.org": "[email]", "+41 79 123 45 67": "[phone]", "4111 1111 1111 1111": "[card]", "5555555555554444": "[card]",
        "CH93 0076 2011 6238 5295 7": "[iban]", "DE89370400440532013000": "[iban]",
    }  # fmt: skip
    source = make_source(MAPPING)
    ingested(source, [{"visitor": "v", "details": json.dumps({"x": text}), "referrer": f"https://a.example/?x={text}"} for text in shown])
    found = source.events("source_event_id, json_extract_string(properties, '$.x'), referrer")
    assert found == [(f"e{number}", mark, f"https://a.example/?x={mark}") for number, mark in enumerate(shown.values())]
    assert broken(source) == []
    for number, text in enumerate(shown):
        source.connection.execute("create schema if not exists past; create or replace table past.shop_events as from raw.shop_events")
        source.connection.execute("update past.shop_events set text = ? where source_event_id = ?", [f"it is {text}, yes", f"e{number}"])
        failing = []
        for rule in personal.rules("source_event_id", names=(), free=personal.FREE):
            sql = rule.failing.replace("{scope}", "true").replace("{batch}", "past.shop_events").replace("{{", "{").replace("}}", "}")
            failing += [rule.name] if source.rows(sql) == [(f"e{number}",)] else []
        assert failing == [RULES[shown[text]]]
