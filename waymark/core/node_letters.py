"""How an operator's word names an identifier: by its node id as sixteen letters from a to p.

In letters neither a reader nor the pattern pass at the door can take it for a number, and the identifier itself stands nowhere.
"""

from __future__ import annotations

_DIGITS, _LETTERS = "0123456789abcdef", "abcdefghijklmnop"


def node_letters(node_id: int) -> str:
    """A node id as sixteen letters from a to p."""
    return f"{node_id:016x}".translate(str.maketrans(_DIGITS, _LETTERS))


def node_of_letters(letters: str) -> int:
    """The node id of sixteen letters."""
    return int(letters.translate(str.maketrans(_LETTERS, _DIGITS)), 16)


def named_node_sql(key: str) -> str:
    """SQL: the node id that stands in letters under this key of a word's `properties`."""
    return f"cast('0x' || translate(json_extract_string(properties, '$.{key}'), '{_LETTERS}', '{_DIGITS}') as bigint)"
