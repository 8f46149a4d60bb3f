"""Which parts are compared, and how alike two values of one are: levels as SQL over the columns of two records.

A record has four columns a part: `<part>_exact`, `<part>_phonetic`, `<part>_prefix` (BIGINT) and `<part>_bigrams` (BIGINT[]), all NULL where it is not
known. In a level's condition they end in _l and _r, which is Splink's way to write them, so that Splink and our own SQL read the same conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

FORMS = ("exact", "phonetic", "prefix", "bigrams")
MOVABLE = ("name", "street")  # kinds whose parts get into each other's place
DICE = (0.8, 0.6, 0.4)  # least overlaps of two bigram sets, of the levels close, near and far
EXACT, MOVED, CLOSE, NEAR, SOUND, FAR, START, OTHER = range(8)
LEVELS = ("exact", "moved", "close", "near", "sound", "far", "start", "other")
NOT_KNOWN = -1


@dataclass(frozen=True, order=True)
class Part:
    """name: as the mapping has it; kind: of waymark.privacy.comparables.KINDS; is_shared: everybody in a household has it in common."""

    name: str
    kind: str
    is_shared: bool


@dataclass(frozen=True)
class Comparison:
    """A part's levels as conditions, most alike first; the last one holds for all others. not_known: when nothing can be said."""

    part: Part
    not_known: str
    conditions: tuple[str, ...]

    def level_sql(self, overlap: str | None = None) -> str:
        """SQL: the level of a pair, an index into LEVELS, or NOT_KNOWN. overlap: a column that holds `overlap_sql` already."""
        cases = " ".join(f"when {condition} then {level}" for level, condition in enumerate(self.conditions[:-1]))
        text = f"case when {self.not_known} then {NOT_KNOWN} {cases} else {OTHER} end"
        return text.replace(overlap_sql(self.part.name), overlap) if overlap else text


def overlap_sql(part: str, other: str | None = None) -> str:
    """SQL: Dice's coefficient of the two bigram sets (Dice 1945), 0 to 1; NULL where one is not known. other: the right record's part, if another."""
    left, right = f"{part}_bigrams_l", f"{other or part}_bigrams_r"
    return f"(2.0 * len(list_intersect({left}, {right})) / (len({left}) + len({right})))"


def comparisons_of(parts: Sequence[Part]) -> tuple[Comparison, ...]:
    """One comparison a part, in the order of their names."""
    return tuple(_comparison(part, parts) for part in sorted(parts))


def _comparison(part: Part, parts: Sequence[Part]) -> Comparison:
    name, overlap = part.name, overlap_sql(part.name)
    others = [other.name for other in sorted(parts) if other.kind == part.kind and other != part and part.kind in MOVABLE]
    moved = " or ".join(f"({crossed})" for other in others for crossed in (_crossed(name, other), _crossed(other, name)))
    not_known = f"({name}_exact_l is null or {name}_exact_r is null)"
    return Comparison(
        part,
        not_known,
        (
            f"{name}_exact_l = {name}_exact_r",
            moved or "false",
            *(f"{overlap} >= {least}" for least in DICE[:2]),
            f"{name}_phonetic_l = {name}_phonetic_r",
            f"{overlap} >= {DICE[2]}",
            f"{name}_prefix_l = {name}_prefix_r",
            "true",
        ),
    )


def _crossed(one: str, other: str) -> str:
    """Both parts stand in each other's place, one of them typed well. One alone would be counted twice: a family has a name in common, too."""
    return f"coalesce({one}_exact_l = {other}_exact_r, false) and coalesce({overlap_sql(other, one)} >= {DICE[1]}, false)"


def wide_sql(records: str, parts: Sequence[Part]) -> str:
    """SELECT of the records (columns node_id, valid_from, valid_to, comparables) with four columns a part in the place of `comparables`."""
    found = ", ".join(f"list_filter(comparables, lambda c: c.part = '{part.name}')[1] as {part.name}_told" for part in sorted(parts))
    columns = ", ".join(f"{part.name}_told.{form} as {part.name}_{form}" for part in sorted(parts) for form in FORMS)
    return f"select node_id, valid_from, valid_to, {columns} from (select node_id, valid_from, valid_to, {found} from {records})"


def keys_sql(wide: str, parts: Sequence[Part]) -> str:
    """SELECT of each record (node_id, valid_from, valid_to) and its keys (rule SMALLINT, key_1 BIGINT, key_2 BIGINT): two records that share one are compared.

    A key is one part's exact hash, or two parts' codes of their sound; two parts of one movable kind in either order. With n parts there are n (n + 1) / 2
    rules, so that a person is found by whatever two parts were typed well enough.
    """
    names = sorted(parts)
    rules = [f"{{'key_1': {part.name}_exact, 'key_2': 0::bigint}}" for part in names]
    for one, other in combinations(names, 2):
        codes = [f"coalesce({part.name}_phonetic, {part.name}_exact)" for part in (one, other)]
        if one.kind == other.kind and one.kind in MOVABLE:
            known = f"{codes[0]} is not null and {codes[1]} is not null"
            codes = [f"case when {known} then {pick}({codes[0]}, {codes[1]}) end" for pick in ("least", "greatest")]
        rules.append(f"{{'key_1': {codes[0]}, 'key_2': {codes[1]}}}")
    numbered = ", ".join(f"{{'rule': {number}::smallint, 'pair': {rule}}}" for number, rule in enumerate(rules))
    return f"""
        select node_id, valid_from, valid_to, told.rule as rule, told.pair.key_1 as key_1, told.pair.key_2 as key_2
        from (select node_id, valid_from, valid_to, unnest([{numbered}]) as told from {wide})
        where told.pair.key_1 is not null and told.pair.key_2 is not null
    """
