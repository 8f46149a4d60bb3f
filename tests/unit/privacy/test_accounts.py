"""Numbers of cards and accounts go; order ids, times, floats, UUIDs and click ids stay."""

from __future__ import annotations

import random

import pytest

from waymark.core.warehouse import connect, rows
from waymark.privacy import redact_accounts_sql
from waymark.privacy.accounts import IBAN_LENGTHS, is_card_sql, is_iban_sql

CONNECTION = connect()
# The numbers that card companies and ISO 13616 give as examples.
CARDS = (
    "4111111111111111", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117", "3530111333300000", "30569309025904", "6200000000000005",
)  # fmt: skip
IBANS = (
    "CH9300762011623852957", "DE89370400440532013000", "FR1420041010050500013M02606", "GB29NWBK60161331926819", "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
)  # fmt: skip


def told(expression: str, texts: list[str]) -> list[object]:
    query = f"select {expression} from (select unnest($texts) as text, generate_subscripts($texts, 1) as n) order by n"
    return [found for (found,) in rows(CONNECTION, query, {"texts": texts})]


def redacted(text: str) -> str:
    return str(told(redact_accounts_sql(["text"]) + "[1]", [text])[0])


def luhn(digits: str) -> bool:
    """Written anew, from the right, by hand."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def remainder(iban: str) -> int:
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97


def test_examples_are_found_whatever_their_grouping() -> None:
    for card in CARDS:
        grouped = " ".join(card[start : start + 4] for start in range(0, len(card), 4))
        assert redacted(f"my card is {card}, thanks") == "my card is [card], thanks"
        if len(card) == 16:
            assert redacted(f'{{"card":"{grouped}"}}') == '{"card":"[card]"}' and redacted(grouped.replace(" ", "-")) == "[card]"
        assert redacted(f"https://shop.example/pay?no={card}&x=1#{card}") == "https://shop.example/pay?no=[card]&x=1#[card]"
        assert redacted(f"[{card},{card}]") == "[[card],[card]]" and redacted(f"q%3D{card}") == "q%3D[card]"
    assert redacted("amex 3782 822463 10005") == "amex [card]"
    for iban in IBANS:
        grouped = " ".join(iban[start : start + 4] for start in range(0, len(iban), 4))
        assert redacted(f'{{"iban":"{iban}","n":1}}') == '{"iban":"[iban]","n":1}'
        assert redacted(f"to {grouped}, please").startswith("to [iban]")


def test_checksums_agree_with_arithmetic() -> None:
    chance = random.Random(3)
    cards = [chance.choice("45") + chance.choice("12345") + "".join(chance.choices("0123456789", k=14)) for _ in range(3_000)]
    assert told(is_card_sql("text"), cards) == [luhn(card) for card in cards]
    assert 200 < sum(map(luhn, cards)) < 400
    ibans = []
    for country, length in IBAN_LENGTHS.items():
        for _ in range(40):
            body = "".join(chance.choices("0123456789ABCXYZ", k=length - 4))
            check = 98 - remainder(f"{country}00{body}")
            ibans += [f"{country}{check:02d}{body}", f"{country}{(check + 1) % 97:02d}{body}"]
    assert told(is_iban_sql("text"), ibans) == [remainder(iban) == 1 for iban in ibans]
    assert sum(map(bool, told(is_iban_sql("text"), ibans))) >= 40 * len(IBAN_LENGTHS)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        '{"at":1740268798123,"at_us":1740268798123456,"score":0.4111111111111111,"lat":46.5555555555554444,"n":-4111111111111111}',
        "https://shop.example/?gclid=EAIaIQobChMI4111111111111111&order=1000001234567890&_ga=GA1.2.1234567890.1740268798",
        '{"uuid":"72d76fde-8bb3-4e00-8c23-411111111111","trace":"a4111111111111111","sku":"4111-1111-11"}',
        "2026-03-01 10:00:00 2026-03-02 11:00:00", "20260301100000 20260302110000", "CH93 is a code, DE89 too", "DE00370400440532013000",
        "XX9300762011623852957", "ORDER CH930076201162385295X", "",
    ],
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    assert redacted(text) == text


def test_nothing_stays_nothing() -> None:
    assert rows(CONNECTION, f"select {redact_accounts_sql(['text', 'other'])} from (select null::varchar as text, 'a' as other)") == [([None, "a"],)]
