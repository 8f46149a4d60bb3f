"""Keyed hashes of identifiers, in SQL: HMAC-SHA-256 with its pads as bound parameters, never in the SQL's text."""

from __future__ import annotations

import re


def hmac_sql(message_sql: str, key: str = "") -> str:
    """SQL for HMAC-SHA-256 of a text, 64 hex digits; NULL for NULL.

    Execute it with `Secret.parameters(key)`, which binds `$ipad` and `$opad`, each followed by the key's name: two keys can stand in one statement.
    """
    return f"sha256($opad{key} || unhex(sha256($ipad{key} || encode({message_sql}))))"


def identifier_message(kind: str, text: str) -> str:
    """What is hashed for an identifier: its type and its normalised value, so that equal values of two types stay apart."""
    return f"{kind}|{normalised(kind, text)}"


def normalised(kind: str, text: str) -> str:
    """The form of an identifier that is hashed; the same as `normalised_sql`, for one value."""
    if kind == "email":
        return text.strip(" ").lower()
    if kind == "phone":
        digits = re.sub(r"[^0-9+]", "", text.replace("(0)", ""))
        digits = "+" + digits[2:] if digits.startswith("00") else digits
        return digits[:1] + digits[1:].replace("+", "")
    return text.strip(" ")


def normalised_sql(kind: str, text_sql: str) -> str:
    """SQL: e-mail trimmed and lower case; phone as digits with a leading + (00 becomes +); other types trimmed. NULL where nothing is left."""
    if kind == "email":
        return f"nullif(lower(trim({text_sql})), '')"
    if kind == "phone":
        digits = f"regexp_replace(replace({text_sql}, '(0)', ''), '[^0-9+]', '', 'g')"
        international = f"regexp_replace({digits}, '^00', '+')"
        return f"nullif(nullif(left({international}, 1) || replace(substr({international}, 2), '+', ''), ''), '+')"
    return f"nullif(trim({text_sql}), '')"


def identifier_hash_sql(kind: str, text_sql: str) -> str:
    """SQL: the keyed hash of an identifier of this type; NULL where there is none."""
    return hmac_sql(f"'{kind}|' || {normalised_sql(kind, text_sql)}")


def protected_id_sql(text_sql: str) -> str:
    """SQL: an id as it is, or its keyed hash where it looks like an e-mail or a phone with its country code."""
    decoded = identifier_hash_sql("email", f"replace({text_sql}, '%40', '@')")
    return (
        f"case when contains({text_sql}, '@') and regexp_matches({text_sql}, '[^@\\s]@[^@\\s]+[.]') then {identifier_hash_sql('email', text_sql)}"
        f" when contains({text_sql}, '%40') and regexp_matches({text_sql}, '[^@\\s]%40[^@\\s]+[.]') then {decoded}"
        f" when starts_with({text_sql}, '+') and regexp_full_match({text_sql}, '[+][0-9][0-9 ().-]{{6,20}}') then {identifier_hash_sql('phone', text_sql)}"
        f" else {text_sql} end"
    )
