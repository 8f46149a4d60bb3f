"""What is looked for of erased persons, and when a text holds it: one rule for bytes of files, columns of tables and rows of logs.

Ids and hashes that Waymark made are so long that nothing else looks like them: they count wherever they stand, inside a longer key as well. What a source
gave stands where no byte of an identifier joins it: `ann@example.org` in `<ann@example.org>.`, and not in `joann@example.org` or `ann@example.org.uk`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# What a source gave and is shorter, or a number, stands anywhere by accident: it is looked for with its namespace only.
LEAST_CHARACTERS = 8
_LEAST_RUN = 12
# A text's words and runs, for Python and for DuckDB: by them a text is found to be worth a look. A needle's own key is one of its words or runs, and is one
# of the text's, too, where the needle stands in it.
WORD = r"[0-9A-Za-z@%+_]+(?:[.\-]{1,3}[0-9A-Za-z@%+_]+)*"
RUN = rf"[0-9A-Za-z]{{{_LEAST_RUN},}}"
_WORDS, _RUNS, _HASH = re.compile(WORD), re.compile(RUN), re.compile(r"[0-9a-f]{64}")
_GOES_ON = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz@%+_")
_INSIDE = _GOES_ON | frozenset(b".-")
# How many signs at most stand between two parts of one identifier, and how many bytes after a needle tell whether it ends there.
_SIGNS = 3
AFTER = _SIGNS + 1


@dataclass(frozen=True)
class Needle:
    """key: by which a text is found to be worth a look, "" where there is none; bounded: it counts only where nothing joins it."""

    text: str
    key: str
    bounded: bool

    @cached_property
    def encoded(self) -> bytes:
        return self.text.encode()

    def ends_fit(self, data: bytes, at: int) -> bool:
        """Whether the needle, whose bytes stand at this offset, counts there."""
        if not self.bounded:
            return True
        before, after = data[at - 1 : at] if at else b"", data[at + len(self.encoded) : at + len(self.encoded) + AFTER]
        # A type or a namespace stands in front of an id that has its own; a colon is no part of an address.
        colon = "" if "@" in self.text else ":"
        if before and (before[0] in _INSIDE or (before == b":" and ":" not in self.text and colon)):
            return False
        parted = after.lstrip(f".-{colon}".encode())
        return not (parted and parted[0] in _GOES_ON)

    def stands_in(self, data: bytes) -> bool:
        at = data.find(self.encoded)
        while at >= 0:
            if self.ends_fit(data, at):
                return True
            at = data.find(self.encoded, at + 1)
        return False


@dataclass(frozen=True)
class Needles:
    """made: customer ids, event ids, hashes, and what else Waymark made; given: identifiers as sources gave them, with their namespace or without;
    numbers: keys of 64 bits and more, which stand in columns of numbers as well."""

    made: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    numbers: frozenset[int] = frozenset()

    @property
    def with_namespace(self) -> Needles:
        """The same without ids of a source that stand without their namespace."""
        return Needles(self.made, frozenset(text for text in self.given if ":" in text or "@" in text), self.numbers)

    @cached_property
    def all(self) -> tuple[Needle, ...]:
        """Those that are looked for in texts."""
        made = {text: max(_RUNS.findall(text), key=len, default="") for text in self.made | {str(abs(number)) for number in self.numbers}}
        found = [Needle(text, key, bounded=False) for text, key in made.items() if key]
        given = self.given | {text for text in self.made if not made[text]}
        return tuple(sorted([*found, *(Needle(text, _key(text), bounded=True) for text in given if is_telling(text))], key=lambda needle: needle.text))

    @cached_property
    def by_key(self) -> Mapping[str, list[Needle]]:
        found: dict[str, list[Needle]] = {}
        for needle in self.all:
            if needle.key:
                found.setdefault(needle.key, []).append(needle)
        return found

    def found_in(self, text: str) -> int:
        """How many of them a text holds."""
        return sum(1 for _ in self._standing(text))

    def are_in(self, text: str) -> bool:
        """Whether a text holds one."""
        return next(self._standing(text), None) is not None

    def _standing(self, text: str) -> Iterator[Needle]:
        keys = self.by_key.keys() & {*_WORDS.findall(text), *_RUNS.findall(text)}
        data = text.encode("utf-8", "replace") if keys else b""
        return (needle for key in sorted(keys) for needle in self.by_key[key] if needle.stands_in(data))


def words_sql(text: str) -> str:
    """SQL: a text's words and runs, a row each: among them is the key of every needle that stands in it."""
    return f"unnest(list_concat(regexp_extract_all({text}, '{WORD}'), regexp_extract_all({text}, '{RUN}')))"


def words_of(text: str) -> list[str]:
    """The words of a text, addresses whole."""
    return _WORDS.findall(text)


def is_hash(text: str) -> bool:
    """Whether a text is a digest in hex digits, as Waymark keeps them."""
    return bool(_HASH.fullmatch(text))


def is_telling(text: str) -> bool:
    """Whether a text is looked for where it stands alone: what is shorter, or a number, stands anywhere by accident."""
    return ":" in text.strip(":") or (len(text) >= LEAST_CHARACTERS and not text.isdecimal())


def _key(text: str) -> str:
    """The longest word, of what follows the namespace if there is any."""
    return max(_WORDS.findall(text.partition(":")[2]) or _WORDS.findall(text), key=len, default="")
