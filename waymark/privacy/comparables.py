"""What may be compared and never read: keyed hashes of a name's or an address's forms, in SQL.

A part of a name, an address or a date of birth leaves nothing behind but numbers of 60 bits, each the head of an HMAC-SHA-256 (`hashing.hmac_sql`): of its
normal form, of a code of its sound, of its beginning, and of each of its bigrams. Two parts of one kind can be compared: equal forms give equal numbers, and
two misspellings share most of their bigrams. The sets leak how often a bigram occurs, so they are for schema `identity` alone (waymark/identity/linkage).
"""

from __future__ import annotations

from waymark.core.quoting import literal
from waymark.privacy.hashing import hmac_sql

KINDS = ("name", "street", "place", "date", "number")
COMPARABLE = 'STRUCT("part" VARCHAR, "exact" BIGINT, "phonetic" BIGINT, "prefix" BIGINT, "bigrams" BIGINT[])'
COMPARABLES = f"{COMPARABLE}[]"

_HEX_DIGITS = 15  # 60 bits: among ten million values, two share a number with a probability of 4e-5
# Letters that keep their place in the alphabet when accents are folded.
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
# A kind of street, as an envelope has it: a whole word, or after *, what a word ends in.
_STREETS = {
    "street": "st", "road": "rd", "avenue": "av", "ave": "av", "lane": "ln", "drive": "dr", "court": "ct", "place": "pl", "square": "sq", "boulevard": "bd",
    "blvd": "bd", "crescent": "cr", "terrace": "tce", "rue": "r", "chemin": "ch", "*strasse": "str", "*platz": "pl", "*gasse": "g",
}  # fmt: skip
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_SOUNDS = "01230129022455012623019202"  # American Soundex: 0 (a vowel) parts two equal sounds, 9 (h, w) does not


def subject_sql(identifiers: str, nodes: str) -> str:
    """SQL: whom an event's parts are about, one of `nodes`, which are those of `identifiers` in their order; a form is about one person.

    It is the account, else the first other identifier by type, else the device.
    """
    order = "case i.type when 'user_id' then 0 when 'anonymous_id' then 2 else 1 end"
    ranked = f"list_transform({identifiers}, lambda i, n: {{'rank': {order}, 'type': i.type, 'value': i.value, 'place': n}})"
    return f"{nodes}[list_sort({ranked})[1].place]"


def compared_sql(values: str, column: str, part: str, kind: str) -> str:
    """SELECT of each row of `values` (a relation of distinct texts): its column, and `told`, a COMPARABLE, NULL where it holds nothing to compare.

    bigrams are distinct and sorted. Parts of one kind share their numbers, so that a family name in the given name's place is found. Execute it with
    `Secret.parameters()`.
    """
    forms = f"select {column}, {normal_sql(kind, column)} as n from {values}"
    sound, start = _number(kind, "phonetic", sound_sql(kind, "n")), _number(kind, "prefix", start_sql(kind, "n"))
    grams = f"list_sort(list_transform({grams_sql(kind, 'n')}, lambda g: {_number(kind, 'bigram', 'g')}))"
    told = f"{{'part': {literal(part)}, 'exact': {_number(kind, 'exact', 'n')}, 'phonetic': {sound}, 'prefix': {start}, 'bigrams': {grams}}}"
    return f"select {column}, case when n is not null then {told} end as told from ({forms})"


def _number(kind: str, form: str, text_sql: str) -> str:
    message = f"'compare|{kind}|{form}|' || {text_sql}"
    return f"cast('0x' || left({hmac_sql(message)}, {_HEX_DIGITS}) as bigint)"


def normal_sql(kind: str, text_sql: str) -> str:
    """SQL: the normal form; NULL where nothing is left.

    name, place, number: lower case, accents folded, letters and digits alone. street: the same, after words such as `street` were shortened. date: the
    digits of YYYY-MM-DD at its beginning; where space, point, slash or hyphen parts three numbers, these, each of two digits at least; NULL for fewer than
    six digits, or more than eight.
    """
    if kind == "date":
        # Three numbers are parted before they are read: without a place for each, 1990-1-11 and 1990-11-1 would be one date.
        parted = f"regexp_extract({text_sql}, '^\\s*[0-9]+[ ./-]+[0-9]+[ ./-]+[0-9]+')"
        padded = f"regexp_replace({parted}, '\\b([0-9])\\b', '0\\1', 'g')"
        other = f"regexp_extract({text_sql}, '^\\s*[0-9][0-9 ./-]{{4,9}}')"
        digits = f"regexp_replace(case when {parted} <> '' then {padded} else {other} end, '[^0-9]', '', 'g')"
        return f"case when length({digits}) between 6 and 8 then {digits} end"
    folded = f"lower({text_sql})"
    for letter, plain in _LETTERS.items():
        folded = f"replace({folded}, '{letter}', '{plain}')"
    folded = f"strip_accents({folded})"
    if kind == "street":
        for word, short in _STREETS.items():
            pattern = f"{word[1:]}\\b" if word.startswith("*") else f"\\b{word}\\b"
            folded = f"regexp_replace({folded}, '{pattern}', '{short}', 'g')"
    return f"nullif(regexp_replace({folded}, '[^\\p{{L}}\\p{{N}}]', '', 'g'), '')"


def sound_sql(kind: str, normal: str) -> str:
    """SQL: what two values that sound alike share; NULL where there is none.

    name, street, place: American Soundex (Russell 1918; Knuth, The Art of Computer Programming 3, 6). number: its signs in order, so that two exchanged
    digits are none. date: the year, then the other pairs of digits in order, so that day and month exchanged are none.
    """
    if kind == "number":
        return f"array_to_string(list_sort(string_split({normal}, '')), '')"
    if kind == "date":
        return f"left({normal}, 4) || least(substr({normal}, 5, 2), substr({normal}, 7)) || greatest(substr({normal}, 5, 2), substr({normal}, 7))"
    letters = f"regexp_replace({normal}, '[^a-z]', '', 'g')"
    codes = f"replace(translate({letters}, '{_ALPHABET}', '{_SOUNDS}'), '9', '')"
    for digit in "123456":
        codes = f"regexp_replace({codes}, '{digit}+', '{digit}', 'g')"
    # The first letter stands for its own sound, which h and w do not have.
    following = f"replace(case when {letters} similar to '[hw].*' then {codes} else substr({codes}, 2) end, '0', '')"
    return f"nullif(left({letters}, 1), '') || rpad(left({following}, 3), 3, '0')"


def start_sql(kind: str, normal: str) -> str:
    """SQL: the first three signs; of a date the year."""
    return f"left({normal}, {4 if kind == 'date' else 3})"


def grams_sql(kind: str, normal: str) -> str:
    """SQL: the distinct bigrams of the form with a mark at either end (^emma$: ^e, em, mm, ma, a$); of a date its digits with their places.

    A date's places make the overlap of two sets count the digits that agree, where bigrams would find 19 in every one.
    """
    if kind == "date":
        return f"list_transform(range(1, length({normal}) + 1), lambda i: cast(i as varchar) || ':' || substr({normal}, i, 1))"
    marked = f"('^' || {normal} || '$')"
    return f"list_distinct(list_transform(range(1, length({normal}) + 2), lambda i: substr({marked}, i, 2)))"


def shows_in_text(kind: str) -> bool:
    """Whether a value of this kind says who somebody is wherever it stands, so that it is looked for in properties, URLs and texts. A town does not."""
    return kind != "place"


__all__ = ["COMPARABLE", "COMPARABLES", "KINDS", "compared_sql", "grams_sql", "normal_sql", "shows_in_text", "sound_sql", "start_sql"]
