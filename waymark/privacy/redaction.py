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
_AT_SIGNS = ("@", "%40", "%2540", "\\u0040")
_PHONE_SIGN = r"(?:\+|%2[Bb])[1-9]|[0-9]{3}[.\-][0-9]{4}"
_PHONE_IN_TEXT_SIGN = r"[0-9]{10}|0[1-9]"
_NAME_SIGN = r"[@%+\\]|[0-9]{3}[.\-][0-9]{4}"
_SHORTEST = 6  # bytes: a@b.cc


def may_hold_email_sql(column: str) -> str:
    """SQL: whether a text may hold an e-mail address, or does once it is decoded or written anew as JSON; never NULL."""
    return f"coalesce(contains({column}, '@') or contains({column}, '%') or contains({column}, '\\'), false)"


def may_be_personal_sql(column: str) -> str:
    """SQL: whether `redact_name_sql` looks at a name; never NULL. Of all others it changes none."""
    return f"coalesce(strlen({column}) >= {_SHORTEST} and regexp_matches({column}, {literal(_NAME_SIGN)}), false)"


def redact_emails_sql(column: str) -> str:
    """SQL: the column with e-mail-like strings as [email]. `column` is evaluated several times."""
    at_signs = " or ".join(f"contains({column}, '{sign}')" for sign in _AT_SIGNS)
    return f"case when {at_signs} then regexp_replace({column}, {literal(EMAIL)}, '{EMAIL_MARK}', 'g') else {column} end"


def redact_phones_sql(column: str, *, free_text: bool = False) -> str:
    """SQL: the column with phone-like strings as [phone]. `column`, a name, is evaluated several times."""
    redacted = column
    for sign, pattern in [(_PHONE_SIGN, PHONE)] + [(_PHONE_IN_TEXT_SIGN, PHONE_IN_TEXT)] * free_text:
        # A mark that an earlier pass left makes no new sign, so they are looked for in the text as it came.
        replaced = f"regexp_replace({redacted}, {literal(pattern)}, '\\1{PHONE_MARK}', 'g')"
        redacted = f"case when regexp_matches({column}, {literal(sign)}) then {replaced} else {redacted} end"
    return redacted


def redact_name_sql(column: str) -> str:
    """SQL: both passes for short names (campaigns, cities, screens): only what holds a telling sign is searched.

    The pattern of addresses stands in it once: RE2 takes eight milliseconds to make a program of it, each time that it stands in a statement.
    """
    replaced = f"regexp_replace({redact_emails_sql(column)}, {literal(PHONE)}, '\\1{PHONE_MARK}', 'g')"
    return f"case when {may_be_personal_sql(column)} then {replaced} else {column} end"


def redact_text(text: str) -> str:
    """The same for one text, for messages and logs."""
    at_free = re.sub(EMAIL.replace(r"\p{L}\p{N}", r"\w").replace(r"[\p{L}]", r"[^\W\d_]"), EMAIL_MARK, text)
    return re.sub(PHONE, rf"\1{PHONE_MARK}", at_free)
