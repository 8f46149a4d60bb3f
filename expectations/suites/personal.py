"""What must stand in no table: e-mail addresses, phone numbers, card numbers, account numbers. The door takes them out; these rules guard it.

The forms are written out here, not read from the door, and each is narrower than the door's, so that a rule fails only where the door did. What is asked of every
row is whether a text has a rare sign; the whole form is tried where it has one. Card and account numbers are told from other numbers by their checksums.
"""

from __future__ import annotations

from collections.abc import Sequence

from expectations.rules import Rule
from waymark.privacy.accounts import is_card_sql, is_iban_sql

# What people write or pages say, and short names; ids are a source's own, and of them only an e-mail address is told for certain.
FREE = ("page_url", "referrer", "properties", "text")
NAMES = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "screen", "user_agent", "country", "region", "city", "language")
# What was consented to, under whatever names a source has for it; SQL over a row t of raw events.
CONSENTS = ("array_to_string(t.consent_scopes, chr(10))", "cast(t.consent_act as varchar)")
IDS = ("source_event_id", "session_key", "anonymous_id", "user_id", "order_id")
_REMEDY = "The door must take it out: report this; `waymark sql` shows the event, and its mapping says where the field comes from."
_EMAIL = "[A-Za-z0-9._+-]+@[A-Za-z0-9][A-Za-z0-9-]*[.][A-Za-z]{2,}"
_PHONE = "(?:^|[\\s\"'':=,;(<>\\[])[+][1-9][0-9](?:[ .()/-]?[0-9]){6,12}(?:[^0-9]|$)"
_CARD = "(?:^|[\\s\"'':=,;(<>\\[&])((?:[0-9]{14,19}|[0-9]{4}(?:[ -][0-9]{4}){3})\\b)"
_IBAN = "\\b([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\\b"


def rules(key: str, *, names: Sequence[str], free: Sequence[str], said: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules over a table's texts. key: the column whose value names a failing row. names: columns of short texts and ids; free: of free ones; said: SQL of
    further short texts, over a row t."""
    every = _joined([*free, *names], said)
    named = _joined([*free, *(column for column in names if column not in IDS)], said)
    found = [
        _rule(key, "texts_hold_no_address", f"No e-mail address stands in a text or an id. {_REMEDY}", f"contains({every}, '@') and regexp_matches({every}, '{_EMAIL}')"),
        _rule(key, "texts_hold_no_phone", f"No phone number with its country code stands in a text. {_REMEDY}",
              f"contains({named}, '+') and regexp_matches({named}, '{_PHONE}')"),
    ]  # fmt: skip
    if free:
        text = _joined(free)
        found += [
            _rule(key, "texts_hold_no_card_number", f"No payment card's number, by its form and its last digit, stands in a text. {_REMEDY}",
                  f"regexp_matches({text}, '[0-9]{{14}}|[0-9]{{4}}[ -][0-9]{{4}}[ -]')"
                  f" and len(list_filter(regexp_extract_all({text}, '{_CARD}', 1), lambda found: {is_card_sql('found')})) > 0"),
            _rule(key, "texts_hold_no_iban", f"No bank account's number, by its form and its remainder, stands in a text. {_REMEDY}",
                  f"regexp_matches({text}, '[A-Z]{{2}}[0-9]{{2}} ?[A-Z0-9]{{4}} ?[A-Z0-9]{{4}}')"
                  f" and len(list_filter(regexp_extract_all({text}, '{_IBAN}', 1), lambda found: {is_iban_sql('found')})) > 0"),
        ]  # fmt: skip
    return tuple(found)


def _joined(columns: Sequence[str], said: Sequence[str] = ()) -> str:
    return f"concat_ws(chr(10), {', '.join([*(f't.{column}' for column in columns), *said])})"


def _rule(key: str, name: str, meaning: str, condition: str) -> Rule:
    braced = condition.replace("{", "{{").replace("}", "}}")
    return Rule(name, meaning, f"select t.{key} from {{batch}} t where {{scope}} and {braced}")
