"""Keyed hashes: SQL gives what Python's hmac gives, and the key stands in no SQL."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waymark.core.warehouse import connect
from waymark.privacy import Secret, hmac_sql, identifier_hash_sql, identifier_message, normalised, normalised_sql, protected_id_sql

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=200)
CONNECTION = connect()


@given(key=st.binary(min_size=1, max_size=100), message=TEXTS)
def test_sql_gives_the_hmac_that_python_gives(key: bytes, message: str) -> None:
    secret = Secret(key)
    found = CONNECTION.execute(f"select {hmac_sql('$message')}", {**secret.parameters(), "message": message}).fetchall()[0][0]
    assert found == hmac.new(key, message.encode(), hashlib.sha256).hexdigest() == secret.hmac(message)


@pytest.mark.parametrize("kind", ["email", "phone", "loyalty_card"])
@given(text=st.one_of(TEXTS, st.from_regex(r"\A(00|\+)?[0-9 ()+./-]{1,25}\Z"), st.emails()))
def test_identifiers_are_normalised_alike_in_sql_and_python(kind: str, text: str) -> None:
    expected = normalised(kind, text)
    found = CONNECTION.execute(f"select {normalised_sql(kind, '$text')}", {"text": text}).fetchall()[0][0]
    if text.isascii():  # lower() of other letters may differ between the two by Unicode version
        assert (found or "") == ("" if kind == "phone" and expected == "+" else expected)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("email", " Jane.Doe@Example.COM", "jane.doe@example.com "),
        ("phone", "0041 79 123 45 67", "+41791234567"),
        ("phone", "+41 (0)79 123-45-67", "+41 79 123 45 67"),
    ],
)
def test_the_same_person_gives_the_same_hash(kind: str, one: str, other: str) -> None:
    secret = Secret(b"0123456789abcdef")
    sql = f"select {identifier_hash_sql(kind, 'x')} from (values ($one), ($other)) t(x)"
    found = CONNECTION.execute(sql, {**secret.parameters(), "one": one, "other": other}).fetchall()
    assert found[0] == found[1] == (secret.hmac(identifier_message(kind, one)),)


def test_equal_values_of_two_types_do_not_meet() -> None:
    secret = Secret(b"0123456789abcdef")
    sql = f"select {identifier_hash_sql('email', 'x')}, {identifier_hash_sql('loyalty_card', 'x')} from (values ('a')) t(x)"
    email, card = CONNECTION.execute(sql, secret.parameters()).fetchall()[0]
    assert email != card


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [("cookie-1", True), ("1740268798-lvfV1k5nHCN8", True), ("@handle", True), ("a@b", True), ("79123456789", True),
     ("jane@example.com", False), ("jane%40example.com", False),
     ("+41 79 123 45 67", False)],
)  # fmt: skip
def test_an_id_that_is_an_email_or_a_phone_becomes_a_keyed_hash(given_id: str, kept: bool) -> None:
    secret = Secret(b"0123456789abcdef")
    found = CONNECTION.execute(f"select {protected_id_sql('x')} from (values ($given)) t(x)", {**secret.parameters(), "given": given_id}).fetchall()[0][0]
    assert (found == given_id) is kept
    assert kept or len(found) == 64


def test_no_text_shows_the_secret() -> None:
    secret = Secret(b"very secret indeed")
    assert "very" not in repr(secret) and "very" not in str(secret) and "very" not in hmac_sql("x")
    assert secret.fingerprint in repr(secret)
