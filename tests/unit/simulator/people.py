"""What tests of mechanisms about people read from files and truth: whose a row is by its identifiers, and who lives near whom, by plain loops."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from typing import Any

from scipy import stats

from ml.simulator import WorldSpec
from ml.simulator.people import draw_people
from ml.simulator.streams import Stream
from tests.unit.simulator.conftest import World

Row = dict[str, str]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def normal_phone(text: str) -> str:
    return re.sub(r"[^0-9+]", "", text)


def identifiers(row: Row) -> list[str]:
    """All that names somebody or a device in a row."""
    return [value for value in (row["anonymous_id"], row["user_id"], row["email"].lower(), normal_phone(row["phone"])) if value]


def owners(world: World) -> dict[str, Any]:
    """identifier -> person, of the persons' own ones."""
    owner: dict[str, Any] = {str(device["anonymous_id"]): device["person_id"] for device in world.truth("devices")}
    for person in world.truth("persons"):
        owner |= {str(person[name]): person["person_id"] for name in ("user_id", "email", "phone") if person[name]}
    return owner


def shared_identifiers(world: World, rows: list[Row]) -> dict[str, set[Any]]:
    """identifier -> the persons whose own identifiers stand beside it in rows, where they are several."""
    owner, beside = owners(world), defaultdict[str, set[Any]](set)
    for row in rows:
        held = identifiers(row)
        persons = {owner[value] for value in held if value in owner}
        for value in held:
            beside[value] |= persons
    return {value: persons for value, persons in beside.items() if len(persons) > 1}


def groups(spec: WorldSpec) -> list[list[str]]:
    """Persons of one place among sixty-four numbers in a row, four by four. The world must have a multiple of 64."""
    assert spec.customers % 64 == 0
    place = draw_people(spec, 0, spec.customers, Stream(spec.seed, "people")).place.tolist()
    quarters = defaultdict[tuple[int, int], list[str]](list)
    for number, code in enumerate(place):
        quarters[number // 64, code].append(f"p{number:07d}")
    return [persons[first : first + 4] for persons in quarters.values() for first in range(0, len(persons), 4)]


def is_binomial(found: int, of: int, rate: float) -> bool:
    return bool(stats.binomtest(found, of, rate).pvalue > 1e-4)

