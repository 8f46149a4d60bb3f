"""A world whose consent histories are known, taken in as the shipped mapping takes it: the mart is the truth, and features are of those who consent."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from ml.simulator import WorldSpec
from ml.simulator.mechanisms.consents import JURISDICTIONS, SCOPES, VALID_WHEN_ABSENT
from ml.simulator.spec import DEFAULT_MECHANISMS
from tests.proof.world_project import SOURCE, world_project
from tests.unit.simulator.conftest import World, make_world

pytestmark = pytest.mark.prove

Span = tuple[datetime | None, datetime | None]
ABSENT = {
    (place, scope): bool(VALID_WHEN_ABSENT[row, column]) for row, place in enumerate(JURISDICTIONS) for column, scope in enumerate(SCOPES)
}  # fmt: skip
# As a shop would write it: what the law of a place asks, and the strictest for who is of no known place.
RULES = {
    scope: {**{place: "granted" if ABSENT[place, scope] else "denied" for place in JURISDICTIONS}, "default": "granted" if ABSENT["other", scope] else "denied"}
    for scope in SCOPES
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    spec = WorldSpec(customers=600, seed=5, is_identified=True, mechanisms={**DEFAULT_MECHANISMS, "consents": 0.8})
    return make_world(tmp_path_factory.mktemp("world"), spec)


def test_the_mart_is_the_truth_and_features_are_of_those_who_consent(world: World, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    declared: dict[str, list[str]] = {**{place: [] for place in JURISDICTIONS}, "EU": ["DE", "FR"]}
    project = world_project(tmp_path / "project", min_positives=50, consent={"when_absent": RULES, "jurisdictions": declared})
    paths = world.report.paths
    for part in (paths[: len(paths) // 2], paths[len(paths) // 2 :]):  # rows of the first half arrive in the second
        for path in part:
            shutil.copy(path, project.directory / "in" / SOURCE)
        project.run(stop_before="publish", checks=False)
    person_of_event = {str(row["event_id"]): str(row["person_id"]) for row in world.truth("consent_events")}
    persons: dict[str, str] = {}
    told: dict[tuple[str, str], list[tuple[str, datetime]]] = defaultdict(list)
    for customer, scope, state, since, event in project.rows("""
        select i.customer_id, scope, state, valid_from, source_event_id from marts.fct_consent_intervals i join staging.stg_events using (event_id)
        order by i.customer_id, scope, valid_from
    """):  # fmt: skip
        assert persons.setdefault(str(customer), person_of_event[str(event)]) == person_of_event[str(event)]
        assert isinstance(since, datetime)
        told[persons[str(customer)], str(scope)].append((str(state), since))
    true: dict[tuple[str, str], list[Span]] = defaultdict(list)
    places: dict[str, str] = {}
    for row in world.truth("consents"):
        if row["has_history"]:
            places[str(row["person_id"])] = str(row["jurisdiction"])
            true[str(row["person_id"]), str(row["scope"])].append((row["valid_from"], row["valid_to"]))  # type: ignore[arg-type]
    assert set(persons.values()) >= set(places) and len(persons) == len(set(persons.values()))
    for person, place in places.items():
        for scope in SCOPES:
            assert spans(told[person, scope], ABSENT[place, scope]) == true[person, scope], (person, scope)
    customers = {person: customer for customer, person in persons.items()}
    active: dict[str, list[datetime]] = defaultdict(list)  # Mondays that end a week with an event
    for customer, at in project.rows("""
        select distinct customer_id, date_trunc('week', occurred_at) + interval 7 days as monday from intermediate.int_events_sessionized
        where is_counted and customer_id is not null and monday <= (select data_now from raw.run_clock)
    """):
        assert isinstance(at, datetime)
        active[str(customer)].append(at)
    found = set(project.rows("select customer_id, as_of_at from features.feat_customer_behavior"))
    seen, allowed = 0, 0
    for person in places:
        for at in active[customers[person]]:
            valid = any((since is None or since < at) and (until is None or at <= until) for since, until in true[person, "profiling"])
            assert ((customers[person], at) in found) == valid, (person, at)
            seen, allowed = seen + 1, allowed + valid
    assert 0.2 * seen < allowed < 0.9 * seen and seen > 1_000
    record_property("claim", "The mart's intervals are the world's true ones; features of exactly those who consent")
    record_property("n", f"{len(places)} persons with a history, {sum(map(len, told.values()))} acts, {seen} points, {allowed} of them allowed")
    record_property("interval", "exact")


def spans(states: list[tuple[str, datetime]], is_valid: bool) -> list[Span]:
    """When the scope was valid: from the grant on (None: since ever), until before the withdrawal or lapse (None: still)."""
    found: list[Span] = []
    since: datetime | None = None
    for state, at in states:
        if state == "granted" and not is_valid:
            since, is_valid = at, True
        elif state != "granted" and is_valid:
            found.append((since, at))
            is_valid = False
    return [*found, (since, None)] if is_valid else found
