"""What reading a column tells: the classes that every column of every table has, named once, in the yml beside its model (`meta.classes`)."""

from __future__ import annotations

from typing import Literal, get_args

ColumnClass = Literal["public", "internal", "pseudonymous", "personal", "sensitive"]
CLASSES: tuple[ColumnClass, ...] = get_args(ColumnClass)
# From the class that tells least to the one that tells most.
MEANINGS: dict[ColumnClass, str] = {
    "public": "about the project as a whole: versions, points in time, settings",
    "internal": "about what happened: types, times, channels, counts, values; by itself it singles nobody out",
    "pseudonymous": "an id that Waymark made: it singles out a person, a visit or an event; a person's is keyed, and says nothing outside this home",
    "personal": "an id or a trace as the source has it, or its digest without a key: it may be known or guessed elsewhere, or describe somebody",
    "sensitive": "what may hold anything: free text, properties, whole URLs",
}
