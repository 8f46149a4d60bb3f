"""Consent histories: the true intervals are what a plain replay of the rows gives, and histories have what makes consent hard."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from ml.simulator import WorldSpec
from ml.simulator.mechanisms import consents
from tests.unit.simulator.conftest import World, accepted, make_world
from tests.unit.simulator.people import Row, identifiers, instant, is_binomial, owners, shared_identifiers

RATE = 0.7
ALWAYS, STILL = datetime.min, datetime.max
ACTIONS = {"consent_granted": "grant", "consent_withdrawn": "withdraw", "consent_expired": "expire"}
SCOPES = ("analytics", "personalisation", "advertising", "email", "sms", "profiling")
# as the README says it
ABSENT = {"EU": set(), "US-CA": set(SCOPES) - {"sms"}, "other": set(SCOPES) - {"sms", "email"}}
LAPSES = {"EU": timedelta(days=60), "US-CA": timedelta(days=90), "other": timedelta(days=90)}
Key = tuple[Any, Any]
Intervals = list[tuple[datetime, datetime]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("consents"), WorldSpec(customers=2_000, mechanisms={"consents": RATE, "duplicates": 0.02}))


@pytest.fixture(scope="module")
def all_rows(asked: World) -> list[Row]:
    return accepted(asked)


@pytest.fixture(scope="module")
def acts(asked: World, all_rows: list[Row]) -> dict[Key, list[tuple[datetime, str, Row, dict[str, str]]]]:
    """(person, scope) -> what was done about it, in the order of time; the person is found by the identifiers in the rows."""
    owner = owners(asked)
    found = defaultdict[Key, list[tuple[datetime, str, Row, dict[str, str]]]](list)
    for row in all_rows:
        if row["event_name"] in ACTIONS:
            details = json.loads(row["properties"])
            (person,) = {owner[value] for value in identifiers(row)}
            found[person, details["scope"]].append((instant(row["occurred_at"]), ACTIONS[row["event_name"]], row, details))
    for history in found.values():
        history.sort(key=lambda act: act[0])
    return found


def replayed(history: list[tuple[datetime, str]], *, is_valid: bool) -> Intervals:
    """When the scope was valid, act after act."""
    intervals: Intervals = []
    since = ALWAYS
    for at, action in history:
        if action == "grant" and not is_valid:
            since, is_valid = at, True
        elif action != "grant" and is_valid:
            intervals.append((since, at))
            is_valid = False
    return [*intervals, (since, STILL)] if is_valid else intervals


def test_the_true_intervals_are_those_of_a_replay_of_the_files(asked: World, acts: dict[Key, list[Any]]) -> None:
    true = defaultdict[Key, Intervals](list)
    jurisdictions: dict[Any, set[Any]] = defaultdict(set)
    has_history: dict[Any, Any] = {}
    for row in asked.truth("consents"):
        true[row["person_id"], row["scope"]].append((row["valid_from"] or ALWAYS, row["valid_to"] or STILL))
        has_history[row["person_id"]] = row["has_history"]
    for (person, _), history in acts.items():
        jurisdictions[person] |= {details["jurisdiction"] for *_, details in history}
    assert all(len(found) == 1 for found in jurisdictions.values())
    for person in (row["person_id"] for row in asked.truth("persons")):
        if person not in jurisdictions:
            assert not has_history.get(person)
            continue
        (jurisdiction,) = jurisdictions[person]
        for scope in SCOPES:
            history = [(at, action) for at, action, *_ in acts.get((person, scope), [])]
            assert sorted(true[person, scope]) == replayed(history, is_valid=scope in ABSENT[jurisdiction]), (person, scope, history)
            assert has_history.get(person, True)


def test_where_nothing_is_told_absence_is_what_the_jurisdiction_makes_of_it(asked: World, acts: dict[Key, list[Any]]) -> None:
    told = {person for person, _ in acts}
    country = {person["person_id"]: person["country"] for person in asked.truth("persons")}
    valid = defaultdict[Any, set[Any]](set)
    places: dict[Any, Any] = {}
    for row in asked.truth("consents"):
        if row["person_id"] not in told:
            assert row["valid_from"] is row["valid_to"] is None and not row["has_history"]
            valid[row["person_id"]].add(row["scope"])
            places[row["person_id"]] = row["jurisdiction"]
    assert {places[person] for person in places} == {"US-CA", "other"}
    for person in set(country) - told:
        assert valid[person] == ABSENT[places.get(person, "EU")]
        assert (country[person] in {"DE", "FR"}) == (person not in places)
    californian = {person for person, place in places.items() if place == "US-CA"}
    assert {country[person] for person in californian} == {"US"}


def test_each_act_stands_in_the_files_as_in_the_truth(asked: World, acts: dict[Key, list[Any]]) -> None:
    found = {
        row["event_id"]: (person, scope, action, at, instant(row["received_at"]), details["consent_channel"], details["jurisdiction"],
                          details["policy_version"], details["source"])
        for (person, scope), history in acts.items() for at, action, row, details in history
    }  # fmt: skip
    true = {row.pop("event_id"): tuple(row.values()) for row in asked.truth("consent_events")}
    assert found == true


def test_histories_are_as_frequent_as_stated_and_begin_as_stated(asked: World, acts: dict[Key, list[Any]]) -> None:
    """In the EU whoever has a device is asked about analytics at once, and most answer."""
    with_device = {device["person_id"] for device in asked.truth("devices")}
    europeans = [p["person_id"] for p in asked.truth("persons") if p["country"] in {"DE", "FR"} and p["person_id"] in with_device]
    first = Counter(acts[person, "analytics"][0][1] if (person, "analytics") in acts else "none" for person in europeans)
    assert is_binomial(first["grant"], len(europeans), RATE * consents.AT_FIRST[consents.GRANT])
    assert is_binomial(first["withdraw"], len(europeans), RATE * consents.AT_FIRST[consents.WITHDRAW])
    assert first["expire"] == 0


def test_grants_lapse_where_absence_denies_and_nowhere_else(asked: World, acts: dict[Key, list[Any]]) -> None:
    end = datetime.combine(asked.spec.start, datetime.min.time()) + timedelta(days=asked.spec.days)
    lapsed = 0
    for (_, scope), history in acts.items():
        jurisdiction = history[0][3]["jurisdiction"]
        for (at, action, *_), following in zip(history, [*history[1:], None], strict=True):
            if action == "grant" and scope not in ABSENT[jurisdiction]:
                assert following is not None or at + LAPSES[jurisdiction] >= end, "a grant without an end"
                assert following is None or following[0] - at <= LAPSES[jurisdiction]
            if following is not None and following[1] == "expire":
                assert action == "grant" and scope not in ABSENT[jurisdiction] and following[0] - at == LAPSES[jurisdiction]
                lapsed += 1
    assert lapsed > 50


def test_people_change_their_minds_while_they_are_about_and_grant_again(asked: World, all_rows: list[Row], acts: dict[Key, list[Any]]) -> None:
    owner = owners(asked)
    moments = defaultdict[Any, list[datetime]](list)
    for row in all_rows:
        if row["event_name"] not in ACTIONS:
            for person in {owner[value] for value in identifiers(row)}:
                moments[person].append(instant(row["occurred_at"]))
    withdrawn, amid, again = 0, 0, 0
    for (person, _), history in acts.items():
        for (at, action, *_), before in zip(history[1:], history, strict=False):
            if action == "withdraw":
                withdrawn += 1
                amid += min(moments[person]) < at < max(moments[person])
            again += action == "grant" and before[1] != "grant"
    assert withdrawn > 200 and amid > 0.25 * withdrawn
    assert again > 100
    assert {act[3]["jurisdiction"] for history in acts.values() for act in history} == set(consents.JURISDICTIONS)
    versions = defaultdict[str, list[datetime]](list)
    for history in acts.values():
        for at, _, _, details in history:
            versions[details["policy_version"]].append(at)
    assert max(versions["v1"]) < min(versions["v2"]) and set(versions) == {"v1", "v2", "v3"}


def test_acts_arrive_late_at_the_stated_rate(asked: World, acts: dict[Key, list[Any]]) -> None:
    end = datetime.combine(asked.spec.start, datetime.min.time()) + timedelta(days=asked.spec.days)
    waits = [instant(row["received_at"]) - at for history in acts.values() for at, _, row, _ in history if at < end - timedelta(days=21)]
    assert is_binomial(sum(wait >= timedelta(days=1) for wait in waits), len(waits), consents.LATE_SHARE)
    assert all(wait < timedelta(minutes=1) or timedelta(days=1) <= wait <= timedelta(days=20) for wait in waits)


def test_consent_rows_link_nobody_anew(asked: World, all_rows: list[Row]) -> None:
    pairs: set[tuple[str, str]] = set()
    for row in all_rows:
        if row["event_name"] not in ACTIONS:
            pairs |= set(product(identifiers(row), repeat=2))
    for row in all_rows:
        if row["event_name"] in ACTIONS:
            held = identifiers(row)
            assert held and set(product(held, repeat=2)) <= pairs, row
    assert not shared_identifiers(asked, all_rows)
