"""What a query asks without what it asks about: SQL with its literals taken out, for the audit log."""

from __future__ import annotations

import re

from waymark.privacy.redaction import redact_text

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
_PLAIN_NAME = re.compile(r'"[A-Za-z_][A-Za-z0-9_]{0,62}"')
_TELLING_WORD = re.compile(r"\d{5}")  # a word that holds a long number may be somebody's


def without_literals(query: str) -> str:
    """The query on one line, each text and number as ?, comments left out, quoted names that are no plain ones as "?". At most 4,000 characters.

    Works on any text, also on one that is no SQL: what is logged was only asked.
    """
    shape = " ".join(_TOKENS.sub(_replaced, query).split())
    shape = redact_text(shape)
    return shape if len(shape) <= _LONGEST else shape[:_LONGEST] + " …"


def _replaced(found: re.Match[str]) -> str:
    if found["comment"] is not None:
        return " "
    if found["text"] is not None or found["number"] is not None:
        return "?"
    if found["name"] is not None:
        return found[0] if _PLAIN_NAME.fullmatch(found[0]) and not _TELLING_WORD.search(found[0]) else '"?"'
    return "?" if _TELLING_WORD.search(found[0]) else found[0]
