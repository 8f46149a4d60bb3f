"""The pattern pass: e-mail- and phone-like strings in texts, URLs and JSON are replaced. In SQL, and in Python for messages."""

from __future__ import annotations

import re

from waymark.core.quoting import literal

EMAIL_MARK, PHONE_MARK = "[email]", "[phone]"

# '@' may stand as itself, percent-encoded (once or twice), or as a JSON escape.
_AT = r"(?:@|%(?:25)?40|\\u0040)"
EMAIL = r"[^\s@\"'<>,;:?&=#/\\(){}\[\]|]+" + _AT + r"[\p{L}\p{N}][\p{L}\p{N}.\-]*\.[\p{L}]{2,}"
# With a country code, or grouped 3-3-4. Bare digits are left alone here: order ids, click ids and times are digits too.
_BEFORE = r"(^|[^\w+\-.%])"
PHONE = _BEFORE + r"(?:(?:\+|%2[Bb])[1-9](?:(?:[ .\-()/]|%20){0,3}[0-9]){7,14}|\(?[0-9]{3}\)?[ .\-][0-9]{3}[.\-][0-9]{4}\b)"
# In free text a run of 10 to 15 digits, or a national number that starts with 0, is taken for a phone.
PHONE_IN_TEXT = _BEFORE + r"(?:[0-9]{10,15}\b|0[1-9](?:[ .\-()/]{0,2}[0-9]){7,12}\b)"


def redact_sql(column: str, *, free_text: bool = False) -> str:
    """SQL: the column with e-mail-like strings as [email], phone-like ones as [phone]. `column` is evaluated several times."""
    email = literal(EMAIL)
    no_email = (
        f"case when contains({column}, '@') or contains({column}, '%40') or contains({column}, '%2540') or contains({column}, '\\u0040')"
        f" then regexp_replace({column}, {email}, '{EMAIL_MARK}', 'g') else {column} end"
    )
    redacted = f"regexp_replace({no_email}, {literal(PHONE)}, '\\1{PHONE_MARK}', 'g')"
    return f"regexp_replace({redacted}, {literal(PHONE_IN_TEXT)}, '\\1{PHONE_MARK}', 'g')" if free_text else redacted


def redact_name_sql(column: str) -> str:
    """SQL: like `redact_sql` for short names (campaigns, cities, screens), cheaper: only what holds a telling sign is searched."""
    signs = " or ".join(f"contains({column}, '{sign}')" for sign in ("@", "%40", "+", "%2", "\\u0040"))
    return f"case when {signs} or regexp_matches({column}, '[0-9]{{3}}[.-][0-9]{{4}}') then {redact_sql(column)} else {column} end"


def redact_text(text: str) -> str:
    """The same for one text, for messages and logs."""
    at_free = re.sub(EMAIL.replace(r"\p{L}\p{N}", r"\w").replace(r"[\p{L}]", r"[^\W\d_]"), EMAIL_MARK, text)
    return re.sub(PHONE, rf"\1{PHONE_MARK}", at_free)
