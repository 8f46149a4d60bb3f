"""The pattern pass: what goes, and what must stay."""

from __future__ import annotations

import pytest

from waymark.core.warehouse import connect
from waymark.privacy import may_be_personal_sql, may_hold_email_sql, redact_emails_sql, redact_name_sql, redact_phones_sql, redact_text

CONNECTION = connect()


def redacted(text: str, *, free_text: bool = False) -> str:
    without_addresses = f"select {redact_emails_sql('x')} as x from (values ($text)) t(x)"
    found = CONNECTION.execute(f"select {redact_phones_sql('x', free_text=free_text)} from ({without_addresses})", {"text": text}).fetchall()
    return str(found[0][0])


REDACTED = [
    ("https://shop.example/?email=jane.doe%40mail.example&x=1", "https://shop.example/?email=[email]&x=1"),
    ("https://shop.example/?email=jane.doe@mail.example#top", "https://shop.example/?email=[email]#top"),
    ("https://shop.example/?u=jane%2540mail.example", "https://shop.example/?u=[email]"),
    ('{"contact":"Jane+tag@mail.example","n":1}', '{"contact":"[email]","n":1}'),
    ('{"contact":"jane\\u0040mail.example"}', '{"contact":"[email]"}'),
    ("schreib mir: jürg.müller@bücher.example!", "schreib mir: [email]!"),
    ("https://shop.example/?tel=%2B41791234567", "https://shop.example/?tel=[phone]"),
    ('{"tel":"+41 79 123 45 67"}', '{"tel":"[phone]"}'),
    ("call 555-123-4567 now", "call [phone] now"),
    ("call (555) 123-4567", "call [phone]"),
]
INNOCENT = [
    "https://shop.example/?gclid=EAIaIQobChMI1234567890123456&fbclid=IwAR0123456789_x-y&order=100000123456",
    "https://shop.example/?_ga=GA1.2.1234567890.1740268798&t=1740268798123",
    '{"order_id":"2025-00012345","at":"2025-02-23T00:00:01+00:00","ts":1740268798123,"sku":"123-4567"}',
    '{"at":"2025-02-23 10:11:12 +0200","ip":"192.168.100.200","uuid":"72d76fde-8bb3-4e00-8c23-a032dfed738c"}',
    "https://maps.example/@46.94809,7.44744,15z",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "foam+mattress+20252026",
]


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_emails_and_phones_are_replaced(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize("text", INNOCENT)
def test_ids_times_and_click_ids_stay(text: str) -> None:
    assert redacted(text) == text


def test_bare_digits_go_from_free_text_alone() -> None:
    assert redacted("my number is 0791234567, call 079 123 45 67", free_text=True) == "my number is [phone], call [phone]"
    assert redacted("my number is 0791234567") == "my number is 0791234567"
    assert redacted("order 4711 of 2025-02-23, room 12", free_text=True) == "order 4711 of 2025-02-23, room 12"


@pytest.mark.parametrize("text", ["spring_sale", "jane@mail.example", "jane%40mail.example", "+41791234567", "555-123-4567", "x\\u0040y.example"])
def test_the_cheap_pass_over_names_finds_what_the_full_one_finds(text: str) -> None:
    found = CONNECTION.execute(f"select {redact_name_sql('x')} from (values ($text)) t(x)", {"text": text}).fetchall()[0]
    assert found[0] == redacted(text)


@pytest.mark.parametrize("text", [*(text for text, _ in REDACTED), *INNOCENT, "", "a@b.cc", "%", "\\", None])
def test_only_what_may_hold_something_is_changed(text: str | None) -> None:
    asked = ", ".join(sql("x") for sql in (may_be_personal_sql, redact_name_sql, may_hold_email_sql, redact_emails_sql))
    may_be_personal, named, may_hold_email, without_addresses = CONNECTION.execute(
        f"select {asked} from (values ($text::varchar)) t(x)", {"text": text}
    ).fetchall()[0]
    assert may_be_personal or named == text
    assert may_hold_email or without_addresses == text


def test_messages_are_redacted_in_python_too() -> None:
    assert redact_text("could not convert 'jane@mail.example' or +41 79 123 45 67") == "could not convert '[email]' or [phone]"
