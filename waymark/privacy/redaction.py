"""The pattern pass: e-mail- and phone-like strings in texts, URLs and JSON are replaced. In SQL, and in Python for messages."""

from __future__ import annotations

import re

from waymark.core.quoting import literal

EMAIL_MARK, PHONE_MARK = "[email]", "[phone]"

# '@' may stand as itself, percent-encoded (once or twice), or as a JSON escape.
AT = r"(?:@|%(?:25)?40|\\u0040)"
EMAIL = r"[^\s@\"'<>,;:?&=#/\\(){}\[\]|]+" + AT + r"[\p{L}\p{N}][\p{L}\p{N}.\-]*\.[\p{L}]{2,}"
# With a country code, or grouped 3-3-4. Bare digits are left alone here: order ids, click ids and times are digits too.
_BEFORE = r"(^|[^\w+\-.%])"
PHONE_ALONE = r"(?:(?:\+|%2[Bb])[1-9](?:(?:[ .\-()/]|%20){0,3}[0-9]){7,14}|\(?[0-9]{3}\)?[ .\-][0-9]{3}[.\-][0-9]{4}\b)"
PHONE = _BEFORE + PHONE_ALONE
# In free text a run of 10 to 15 digits, or a national number that starts with 0, is taken for a phone.
PHONE_IN_TEXT = _BEFORE + r"(?:[0-9]{10,15}\b|0[1-9](?:[ .\-()/]{0,2}[0-9]){7,12}\b)"


# Signs that each match of the patterns above holds. Looking for them is cheaper than replacing, and few texts have them: so each pass runs over these alone.
# A mark that an earlier pass left makes no new sign, so they are looked for in the text as it came.
_PHONE_SIGN = r"(?:\+|%2[Bb])[1-9]|[0-9]{3}[.\-][0-9]{4}"
_PHONE_IN_TEXT_SIGN = r"[0-9]{10}|0[1-9]"
_NAME_SIGN = r"[@%+\\]|[0-9]{3}[.\-][0-9]{4}"
_SHORTEST = 6  # bytes: a@b.cc


def redact_sql(column: str, *, free_text: bool = False) -> str:
    """SQL: the column with e-mail-like strings as [email], phone-like ones as [phone]. `column` is evaluated several times."""
    at_signs = " or ".join(f"contains({column}, '{sign}')" for sign in ("@", "%40", "%2540", "\\u0040"))
    redacted = f"case when {at_signs} then regexp_replace({column}, {literal(EMAIL)}, '{EMAIL_MARK}', 'g') else {column} end"
    passes = [(_PHONE_SIGN, PHONE)] + [(_PHONE_IN_TEXT_SIGN, PHONE_IN_TEXT)] * free_text
    for sign, pattern in passes:
        replaced = f"regexp_replace({redacted}, {literal(pattern)}, '\\1{PHONE_MARK}', 'g')"
        redacted = f"case when regexp_matches({column}, {literal(sign)}) then {replaced} else {redacted} end"
    return redacted


def redact_name_sql(column: str) -> str:
    """SQL: like `redact_sql` for short names (campaigns, cities, screens), cheaper: only what holds a telling sign is searched."""
    is_plain = f"strlen({column}) < {_SHORTEST} or not regexp_matches({column}, {literal(_NAME_SIGN)})"
    return f"case when {is_plain} then {column} else {redact_sql(column)} end"


def redact_text(text: str) -> str:
    """The same for one text, for messages and logs."""
    at_free = re.sub(EMAIL.replace(r"\p{L}\p{N}", r"\w").replace(r"[\p{L}]", r"[^\W\d_]"), EMAIL_MARK, text)
    return re.sub(PHONE, rf"\1{PHONE_MARK}", at_free)
