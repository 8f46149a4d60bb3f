"""What may be compared: normal forms, sounds and bigrams against an independent reading of their descriptions, and nothing but keyed hashes of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import pytest

from waymark.core.warehouse import Connection, connect, rows
from waymark.privacy import Secret
from waymark.privacy.comparables import KINDS, compared_sql, grams_sql, normal_sql, sound_sql, start_sql

SECRET = Secret(b"a secret for tests, long enough")


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with connect() as opened:
        yield opened


def normal(connection: Connection, kind: str, text: str) -> str | None:
    return rows(connection, f"select {normal_sql(kind, 'x')} from (select $1 as x)", [text])[0][0]  # type: ignore[return-value]


def soundex(name: str) -> str:
    """Knuth's four steps, letter by letter."""
    code = {letter: digit for digit, letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), 1) for letter in letters}
    kept = [name[0]]
    last = code.get(name[0])
    for letter in name[1:]:
        digit = code.get(letter)
        if digit is not None and digit != last:
            kept.append(str(digit))
        if letter not in "hw":
            last = digit
    return ("".join(kept) + "000")[:4]


NAMES = (
    "Robert", "Rupert", "Ashcraft", "Ashcroft", "Tymczak", "Pfister", "Honeyman", "Jackson", "Gauss", "Ghosh", "Hilbert", "Heilbronn", "Knuth", "Kant", "Lloyd",
    "Ladd", "Lukasiewicz", "Lissajous", "Wu", "Whwh", "Aa", "Schwhartz",
)  # fmt: skip


def test_sounds_are_american_soundex(connection: Connection) -> None:
    found = {name: rows(connection, f"select {sound_sql('name', 'x')} from (select $1 as x)", [name.lower()])[0][0] for name in NAMES}
    assert found == {name: soundex(name.lower()) for name in NAMES}
    published = {"Robert": "r163", "Rupert": "r163", "Ashcraft": "a261", "Tymczak": "t522", "Pfister": "p236", "Gauss": "g200", "Lloyd": "l300"}
    assert {name: found[name] for name in published} == published


@pytest.mark.parametrize(
    ("kind", "text", "form"),
    [
        ("name", " O'Keeffe-Weiß ", "okeeffeweiss"), ("name", "ÉLODIE", "elodie"), ("name", "E\u0301lodie", "elodie"),
        ("name", "Łukasz Ørsted", "lukaszorsted"),
        ("name", "李 明", "李明"), ("name", " -- ", None), ("street", "Church Street", "churchst"), ("street", "Church St.", "churchst"),
        ("street", "Bahnhofstraße 3", "bahnhofstr3"), ("street", "Bahnhofstr. 3", "bahnhofstr3"), ("street", "Streetly Lane", "streetlyln"),
        ("place", "Saint-Étienne", "saintetienne"), ("number", "12 A", "12a"), ("date", "1956-04-09", "19560409"), ("date", "19560409", "19560409"),
        ("date", "1956-04-09T11:00:00Z", "19560409"), ("date", "9.4.1956", "09041956"), ("date", "1956", None), ("date", "unknown", None),
        ("date", "1990-1-11", "19900111"), ("date", "1990-11-1", "19901101"), ("date", "1990-1-5 10:30", "19900105"), ("date", " 1990 / 1 / 5", "19900105"),
        ("date", "90.1.5", "900105"), ("date", "1990-01-111", None), ("date", "1990-01", "199001"), ("date", "19900111T10:30", "19900111"),
        ("date", "190011", "190011"),
    ],
)  # fmt: skip
def test_a_part_has_one_form_however_it_is_typed(connection: Connection, kind: str, text: str, form: str | None) -> None:
    assert normal(connection, kind, text) == form


def test_exchanged_digits_and_day_for_month_have_one_sound(connection: Connection) -> None:
    for kind, one, other, third in (("number", "4223", "4232", "4224"), ("date", "19560409", "19560904", "19560410")):
        sounds = [rows(connection, f"select {sound_sql(kind, 'x')} from (select $1 as x)", [text])[0][0] for text in (one, other, third)]
        assert sounds[0] == sounds[1] != sounds[2]


def test_what_leaves_the_door_is_keyed_hashes_of_the_forms(connection: Connection) -> None:
    for kind in KINDS:
        text = "1956-04-09" if kind == "date" else "Anna Müller 12"
        plain = re.sub("[^0-9]", "", text) if kind == "date" else re.sub("[^a-z0-9]", "", unicodedata.normalize("NFD", text.lower()))
        forms = f"select {sound_sql(kind, 'x')}, {start_sql(kind, 'x')}, {grams_sql(kind, 'x')} from (select $1 as x)"
        sound, start, grams = rows(connection, forms, [plain])[0]
        marked = f"^{plain}$"
        bigrams = {f"{place}:{digit}" for place, digit in enumerate(plain, 1)} if kind == "date" else {a + b for a, b in pairwise(marked)}
        assert set(grams) == bigrams  # type: ignore[call-overload]
        found = connection.execute(compared_sql("(select $text as x)", "x", "part", kind), {**SECRET.parameters(), "text": text}).fetchall()[0][1]

        def number(form: str, of: object, kind: str = kind) -> int:
            return int(SECRET.hmac(f"compare|{kind}|{form}|{of}")[:15], 16)

        assert found == {
            "part": "part", "exact": number("exact", plain), "phonetic": number("phonetic", sound), "prefix": number("prefix", start),
            "bigrams": sorted(number("bigram", gram) for gram in bigrams),
        }  # fmt: skip


def test_another_secret_shares_no_number(connection: Connection) -> None:
    one, other = (
        connection.execute(compared_sql("(select 'Emma' as x)", "x", "p", "name"), Secret(key * 32).parameters()).fetchall()[0][1] for key in (b"a", b"b")
    )  # fmt: skip
    assert not {one["exact"], one["phonetic"], one["prefix"], *one["bigrams"]} & {other["exact"], other["phonetic"], other["prefix"], *other["bigrams"]}


def test_what_holds_nothing_to_compare_gives_null(connection: Connection) -> None:
    assert connection.execute(compared_sql("(select '?!' as x)", "x", "p", "name"), SECRET.parameters()).fetchall() == [("?!", None)]
