"""A block of customers with everything that has been made of them so far: what mechanisms work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from ml.simulator.people import Bools, People
from ml.simulator.rows import Array, Rows, customers_of
from ml.simulator.spec import WorldSpec


@dataclass
class Batch:
    """Rows to be written under one kind.

    damage: what is broken in each (a code of rendering.DAMAGES), or None. given: texts that stand in a column instead of what the rows' codes say, one a
    row, by the column's name. persons: numbers of the customers whose rows these are; None: those of the rows' serials.
    """

    kind: str
    rows: Rows
    damage: Array | None = None
    given: Mapping[str, pa.Array] = field(default_factory=dict)
    persons: Array | None = None

    def in_order(self, places: Array) -> Batch:
        """A copy with the rows at these places, in this order."""
        return Batch(
            self.kind, self.rows.take(places), None if self.damage is None else self.damage[places],
            {column: texts.take(pa.array(places)) for column, texts in self.given.items()}, self.numbers[places],
        )  # fmt: skip

    @property
    def numbers(self) -> Array:
        """The persons' numbers in the world."""
        return customers_of(self.rows.serial) if self.persons is None else self.persons


@dataclass(frozen=True)
class Typed:
    """What was typed into forms. columns: rendering.FORM_COLUMNS of each row of a batch; truth: a row of `truth_forms` for each form among them."""

    columns: tuple[pa.Array, ...]
    truth: pa.Table


class FormFiller(Protocol):
    """Fills forms in; a row and its repeats are filled in alike."""

    def typed(self, batch: Batch) -> Typed: ...


@dataclass
class Block:
    """people and their own events; what mechanisms added.

    counted: the instant at which each event counts once conflicts are settled (epoch ms). is_late: where delivery was held up. truth: tables of
    mechanisms that have one. forms: who fills in the further columns of forms, where the world has them.
    """

    spec: WorldSpec
    people: People
    events: Rows
    counted: Array
    is_late: Bools
    batches: list[Batch] = field(default_factory=list)
    truth: dict[str, pa.Table] = field(default_factory=dict)
    forms: FormFiller | None = None

    @classmethod
    def of(cls, people: People, events: Rows, spec: WorldSpec) -> Block:
        return cls(spec, people, events, events.occurred.copy(), np.zeros(len(events), dtype=np.bool_))

    def copies(self, picked: Bools, copy: int) -> Rows:
        """Copies of the picked events, numbered `copy` (see Rows.copy)."""
        rows = self.events.take(picked)
        rows.copy += copy
        return rows
