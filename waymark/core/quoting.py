"""Names and texts, quoted for SQL."""

from __future__ import annotations


def name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
