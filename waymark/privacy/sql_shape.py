"""What a query asks without what it asks about: SQL with its literals taken out, for the audit log.

Decision: a word is kept because it is known, not left out because it looks like somebody's. Context: the log is never altered, and an id that is typed without
quotes, or in those of a name, would stay in it for ever and let no erasure of that person end. Consequence: names that a query makes up are left out, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from waymark.core.warehouse import Connection, rows
from waymark.privacy.redaction import EMAIL_MARK, PHONE_MARK, redact_text

_LONGEST = 4_000
# In the order in which they are tried: comments, texts (escaped, dollar-quoted, plain), quoted names, numbers. What opens and never closes reaches to the end.
_TOKENS = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<text>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)|(?:\b[xXbB])?'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>[A-Za-z_]*)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<name>"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[^\W\d]\w*)
    | (?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_SHORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]?")  # t, e1: an alias, and nobody's id; of two signs of another script it could be a whole name
_NAMES = """
    select word from (
        select keyword_name as word from duckdb_keywords() union all select type_name from duckdb_types()
        union all select schema_name from duckdb_schemas() union all select table_name from duckdb_tables()
        union all select view_name from duckdb_views() union all select column_name from duckdb_columns()
    ) where list_contains(?::varchar[], lower(word))
"""
_FUNCTIONS = "select distinct function_name from duckdb_functions() where list_contains(?::varchar[], lower(function_name))"


def known_words(connection: Connection, query: str) -> frozenset[str]:
    """Of a query's words, in small letters, those that are nobody's: SQL's own, and names of what this connection sees (types, functions, schemas, tables,
    views, columns). Works on any text. Functions, of which there are thousands, are asked for only where the rest does not know all."""
    asked = {word for found in _TOKENS.finditer(query) if (word := _word(found))}
    known: set[str] = set()
    for sql in (_NAMES, _FUNCTIONS):
        if unknown := sorted(word for word in asked - known if not _SHORT.fullmatch(word)):
            known |= {str(word).lower() for (word,) in rows(connection, sql, [unknown])}
    return frozenset(known)


def without_literals(query: str, known: Collection[str]) -> str:
    """The query on one line: each text and number, and each word that is neither known nor short, as ?; comments left out. At most 4,000 characters.

    known: words in small letters (`known_words`). Works on any text, also on one that is no SQL: what is logged was only asked.
    """

    def replaced(found: re.Match[str]) -> str:
        if found["comment"] is not None:
            return " "
        word = _word(found)
        if word in known or _SHORT.fullmatch(word):
            return found[0]
        return '"?"' if found["name"] is not None else "?"

    shape = redact_text(" ".join(_TOKENS.sub(replaced, query).split()))  # known words can stand as in an address
    shape = _TOKENS.sub(replaced, shape.replace(EMAIL_MARK, "?").replace(PHONE_MARK, "?"))  # which ends inside of one, perhaps
    if len(shape) <= _LONGEST:
        return shape
    end = next((found.start() for found in _TOKENS.finditer(shape) if found.start() < _LONGEST < found.end()), _LONGEST)  # no half a word
    return shape[:end].rstrip() + " …"


def _word(found: re.Match[str]) -> str:
    """The word or quoted name in small letters; empty for any other token."""
    return (found["word"] or (found["name"] or "").strip('"')).lower()
