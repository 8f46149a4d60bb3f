"""A block of customers with everything that has been made of them so far: what mechanisms work on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ml.simulator.people import Bools, People
from ml.simulator.rows import Array, Rows


@dataclass
class Batch:
    """Rows to be written under one kind. damage: what is broken in each (a code of rendering.DAMAGES), or None."""

    kind: str
    rows: Rows
    damage: Array | None = None


@dataclass
class Block:
    """people and their own events; what mechanisms added.

    counted: the instant at which each event counts once conflicts are settled (epoch ms). is_late: where delivery was held up.
    """

    people: People
    events: Rows
    counted: Array
    is_late: Bools
    batches: list[Batch] = field(default_factory=list)

    @classmethod
    def of(cls, people: People, events: Rows) -> Block:
        return cls(people, events, events.occurred.copy(), np.zeros(len(events), dtype=np.bool_))

    def copies(self, picked: Bools, copy: int) -> Rows:
        """Copies of the picked events, numbered `copy` (see Rows.copy)."""
        rows = self.events.take(picked)
        rows.copy += copy
        return rows
