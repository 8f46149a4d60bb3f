"""Numbers of payment cards and bank accounts in texts: found by their form, told from other numbers by their checksum, in SQL.

A card's number has a known beginning, a known length and a last digit by Luhn's formula (ISO/IEC 7812); an IBAN its country's length and the remainder 1 by 97
(ISO 13616). Of numbers that only look so, one in ten passes the former and one in 97 the latter.
"""

from __future__ import annotations

from collections.abc import Sequence

from waymark.core.quoting import literal

CARD_MARK, IBAN_MARK = "[card]", "[iban]"
# Digits at a stretch, or in the groups that are printed on a card; never the fraction of a number, a part of a word, of a UUID or of another number.
_CARD = r"(?:^|%[0-9A-Fa-f]{2}|[^0-9A-Za-z_.+\-%])((?:[0-9]{14,19}|[0-9]{4}(?:[ \-][0-9]{4}){2}[ \-][0-9]{1,7}|3[0-9]{3}[ \-][0-9]{6}[ \-][0-9]{4,5})\b)"
_IBAN = r"\b([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b"
# Beginnings and lengths by brand: Visa, Mastercard (two ranges), American Express, Discover, JCB, Diners, UnionPay.
# Groups are plain ones: SQLAlchemy, through which rules run, would take `?:22` for a parameter.
_BRANDS = (
    "4[0-9]{15}|5[1-5][0-9]{14}|2(22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|3[47][0-9]{13}|6(011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}"
    "|35(2[89]|[3-8][0-9])[0-9]{12}|3(0[0-5]|[68][0-9])[0-9]{11}|62[0-9]{14,17}"
)
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22,
    "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15,
    "PL": 28, "PT": 25, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29,
}  # fmt: skip
# A sign that each match has, cheap to look for, and rare.
_SIGN = r"[0-9]{14}|[0-9]{4}[ \-][0-9]{4}[ \-][0-9]|3[0-9]{3}[ \-][0-9]{6}|[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}"


def is_card_sql(text: str) -> str:
    """SQL: whether a text is a card's number, with or without blanks and hyphens."""
    doubled = _once("cast(digits[length(digits) - i] as integer) * (1 + i % 2)", "part", "part // 10 + part % 10")
    total = f"list_sum(list_transform(range(length(digits)), lambda i: {doubled}))"
    return _once(f"regexp_replace({text}, '[ -]', '', 'g')", "digits", f"case when regexp_full_match(digits, '{_BRANDS}') then {total} % 10 = 0 else false end")


def is_iban_sql(text: str) -> str:
    """SQL: whether a text begins with an IBAN, with or without blanks. `text` is evaluated twice."""
    # A country's length stands two signs after its name; where two signs are no country's, a name is there, or nothing. (A map of them takes 3 ms to prepare.)
    lengths = literal("".join(f"{country}{length}" for country, length in IBAN_LENGTHS.items()))
    size = f"try_cast(substr({lengths}, nullif(instr({lengths}, left({text}, 2)), 0) + 2, 2) as integer)"
    turned = "substr(whole, 5) || left(whole, 4)"
    values = f"list_transform(string_split({turned}, ''), lambda sign: case when sign between '0' and '9' then cast(sign as integer) else ascii(sign) - 55 end)"
    rest = f"list_reduce(list_prepend(0, {values}), lambda rest, value: (rest * case when value > 9 then 100 else 10 end + value) % 97)"
    is_one = _once(f"left(replace({text}, ' ', ''), size)", "whole", f"coalesce(length(whole) = size and {rest} = 1, false)")
    return _once(size, "size", is_one)


def redact_accounts_sql(columns: Sequence[str]) -> str:
    """SQL: a list of the columns' values, with numbers of cards as [card], of accounts as [iban]. What lacks the sign of either is not looked at further."""

    def marked(text: str, pattern: str, is_one: str, mark: str) -> str:
        found = f"list_filter(regexp_extract_all(whole, {literal(pattern)}, 1), lambda found: {is_one})"
        return _once(text, "whole", f"list_reduce(list_prepend(whole, {found}), lambda text, found: replace(text, found, {literal(mark)}))")

    redacted = marked(marked("shown", _CARD, is_card_sql("found"), CARD_MARK), _IBAN, is_iban_sql("found"), IBAN_MARK)
    return f"list_transform([{', '.join(columns)}], lambda shown: case when regexp_matches(shown, {literal(_SIGN)}) then {redacted} else shown end)"


def _once(expression: str, given: str, body: str) -> str:
    """SQL of `body`, in which the name `given` stands for an expression: it is prepared and evaluated once, however often it stands there.

    What stands in a statement costs time to prepare, however few its rows are: written out wherever they are asked, these checks took 15 ms a column.
    """
    return f"list_transform([{expression}], lambda {given}: {body})[1]"
