"""What in a text could be somebody's address, number or id, in every form in which the door masks one.

A text is read as it stands, and, where it has their signs, with JSON's escapes and with percent codes taken out. Of what looks like an address, what may
belong to the text around it is cut off in several ways. So too many candidates are found, and never too few: each is then asked for by its keyed hash.
"""

from __future__ import annotations

from collections.abc import Collection

from waymark.core.quoting import literal
from waymark.privacy import normalised_sql
from waymark.privacy.redaction import AT, EMAIL, PHONE_ALONE

_APART = r"\s\"'<>(),;=&?/\\|\[\]{}"
_ADDRESS = rf"[^{_APART}:]+@[^{_APART}:]+"
_PLAIN_ADDRESS = r"[\p{L}\p{N}._+'\-]+@[\p{L}\p{N}.\-]*[\p{L}\p{N}]"  # no other sign of a sentence or of markup is part of it
_BEFORE_ADDRESS = "._+-'"
_NUMBER = r"[+]?[0-9(][0-9 ().\-/]{4,22}[0-9]"
_IS_NUMBER = r"[+]?[0-9 ().\-/]+"
_LEAST_DIGITS, _MOST_DIGITS = 7, 15
_ID = rf"[^{_APART}]+"
_WORD = r"[0-9A-Za-z_\-]+"


def tokens_sql(texts: str, kinds: Collection[str]) -> str:
    """SELECT of `_wm_file`, `_wm_row` and `token`, each once, of texts (SELECT of both and of `text`). kinds: of email, phone, id."""
    found = ["[]::varchar[]"]
    if "email" in kinds:
        both = f"list_concat({_all(_ADDRESS)}, {_all(_PLAIN_ADDRESS)})"
        found.append(f"case when contains(reading, '@') then {both} else [] end")
    if "phone" in kinds:
        found += [_all(_NUMBER), _all(PHONE_ALONE)]
    if "id" in kinds:
        found += [_all(_ID), _all(_WORD)]
    return f"""
        with texts as materialized ({texts}), readings as (
            select _wm_file, _wm_row, text as reading from texts
            union all select _wm_file, _wm_row, {_unescaped("text")} from texts where contains(text, '\\')
            union all select _wm_file, _wm_row, {_decoded("text")} from texts where contains(text, '%')
        ), plain as (select _wm_file, _wm_row, regexp_replace(reading, {literal(AT)}, '@', 'g') as reading from readings)
        select distinct _wm_file, _wm_row, unnest(list_distinct(list_concat({", ".join(found)}))) as token from plain"""


def candidates_sql(tokens: str, kinds: Collection[str]) -> str:
    """SELECT of `token`, `kind` and `candidate`: which addresses, numbers and ids these tokens (a relation) may stand for."""
    number = normalised_sql("phone", "token")
    longest = f"least({_MOST_DIGITS + 1}, length({number}))"
    addresses = f"list_concat(regexp_extract_all(token, {literal(EMAIL)}), regexp_extract_all(token, {literal(_PLAIN_ADDRESS)}))"
    forms = {
        "email": (
            f"""list_concat([token, rtrim(token, '.'), regexp_replace(token, '^[^\\p{{L}}\\p{{N}}]+|[^\\p{{L}}\\p{{N}}]+$', '', 'g')], {addresses},
                list_transform({addresses}, lambda a: ltrim(a, {literal(_BEFORE_ADDRESS)})),
                list_transform({addresses}, lambda a: regexp_replace(a, '\\.[^.@]*$', '')))""",  # the next sentence, without a blank before it
            "contains(token, '@')",
        ),
        # An international number may be followed by other digits.
        "phone": (
            f"""case when starts_with({number}, '+') then list_append(
                list_transform(range({_LEAST_DIGITS + 1}, {longest} + 1), lambda n: left({number}, n::integer)), token) else [token] end""",
            f"regexp_full_match(token, {literal(_IS_NUMBER)})",
        ),
        "id": ("[token, regexp_replace(token, '^[^0-9A-Za-z]+|[^0-9A-Za-z]+$', '', 'g')]", "true"),
    }  # fmt: skip
    return " union all ".join(
        f"select distinct token, '{kind}' as kind, unnest({forms[kind][0]}) as candidate from (select distinct token from {tokens}) where {forms[kind][1]}"
        for kind in sorted(kinds)
    )


def _all(pattern: str) -> str:
    return f"regexp_extract_all(reading, {literal(pattern)})"


def _unescaped(text: str) -> str:
    """The text without JSON's escapes; its own quotes and line ends are blanks."""
    quoted = f"""'"' || regexp_replace({text}, '\\\\\\\\|\\\\"|"|[\\x00-\\x1f]', ' ', 'g') || '"'"""
    return f"coalesce(try(json_extract_string({quoted}, '$')), regexp_replace({text}, '\\\\u[0-9A-Fa-f]{{4}}|\\\\.', ' ', 'g'))"


def _decoded(text: str) -> str:
    """The text without percent codes, once and twice applied; + is a blank, as in a query."""
    once = _decoded_once(f"replace({text}, '+', ' ')")
    return _decoded_once(once)


def _decoded_once(text: str) -> str:
    return f"coalesce(try(url_decode({text})), regexp_replace({text}, '%[0-9A-Fa-f]{{2}}', ' ', 'g'))"
