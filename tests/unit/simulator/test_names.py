"""Names and addresses in forms: where they stand, what is wrong with them and how often, read back from the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator.mechanisms import names
from ml.simulator.namebook import NICKNAMES, SHORT_STREETS
from tests.unit.simulator.conftest import FORM, NAMES, World, accepted, make_world
from tests.unit.simulator.people import Row, identifiers, instant, is_binomial, owners

RATE = 0.8
SPEC = WorldSpec(customers=3_840, days=182, mechanisms={"names": RATE, "households": 0.4, "double_reports": 0.2, "second_accounts": 0.3, "conflicts": 0.01})
FORM_EVENTS = {"signed_up": "sign_up", "checkout_started": "checkout", "order_placed": "checkout", "crm_call_logged": "call"}
ASKED = {
    "sign_up": {"given_name", "family_name", "postcode", "address_city", "birth_date"},
    "checkout": {"given_name", "family_name", "street", "house_number", "postcode", "address_city"},
    "call": {"given_name", "family_name", "address_city", "birth_date"},
}
Form = tuple[str, ...]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("named"), SPEC)


@pytest.fixture(scope="module")
def rows(named: World) -> list[Row]:
    return accepted(named)


@pytest.fixture(scope="module")
def truth(named: World) -> dict[Any, dict[str, Any]]:
    """event id -> its row of truth_forms."""
    return {row["event_id"]: row for row in named.truth("forms")}


@pytest.fixture(scope="module")
def clean(named: World) -> dict[Any, dict[str, Any]]:
    return {row["person_id"]: row for row in named.truth("names")}


def form_of(row: Row) -> Form:
    return tuple(row[name] for name in FORM)


def test_forms_are_filled_in_at_the_stated_rate_and_nothing_else_is(named: World, rows: list[Row], truth: dict[Any, dict[str, Any]]) -> None:
    asked = [row for row in rows if row["event_name"] in FORM_EVENTS]
    filled = [row for row in asked if any(form_of(row))]
    assert not [row for row in rows if row["event_name"] not in FORM_EVENTS and any(form_of(row))]
    assert {row["event_id"] for row in filled} == set(truth) and len(named.truth("forms")) == len(truth)
    independent = [row for row in asked if row["event_name"] != "order_placed"]  # orders repeat the checkout's form
    assert is_binomial(sum(any(form_of(row)) for row in independent), len(independent), RATE)
    for row in filled:
        form = FORM_EVENTS[row["event_name"]]
        assert truth[row["event_id"]]["form"] == form
        assert {name for name in FORM if row[name]} <= ASKED[form]


def test_a_form_is_about_the_person_whose_identifiers_stand_beside_it(named: World, rows: list[Row], truth: dict[Any, dict[str, Any]]) -> None:
    owner = owners(named)
    for second in named.truth("second_accounts"):
        owner |= dict.fromkeys((second["user_id"], second["email"], second["anonymous_id"]), second["person_id"])
    for row in rows:
        if row["event_id"] in truth:
            # the telephone and the mailbox of a household are nobody's own
            assert {owner[value] for value in identifiers(row) if value in owner} == {truth[row["event_id"]]["person_id"]}, row


def test_what_was_typed_differs_from_the_truth_as_stated_and_nowhere_else(
    named: World, rows: list[Row], truth: dict[Any, dict[str, Any]], clean: dict[Any, dict[str, Any]]
) -> None:
    addresses: dict[Any, list[dict[str, Any]]] = {}
    for address in named.truth("addresses"):
        addresses.setdefault(address["person_id"], []).append(address)
    seen = Counter[str]()
    stale = 0
    for row in rows:
        if (told := truth.get(row["event_id"])) is None:
            continue
        faults = dict(fault.split(":") for fault in told["faults"])
        seen.update(told["faults"])
        typed = dict(zip(FORM, form_of(row), strict=True))
        if "names" in faults:
            typed["given_name"], typed["family_name"] = typed["family_name"], typed["given_name"]
        homes = addresses[told["person_id"]]
        expected = clean[told["person_id"]] | _home(homes, instant(row["occurred_at"]), typed, is_stale="address" in faults)
        stale += "address" in faults
        for name in ASKED[told["form"]]:
            if name in faults:
                assert IS_FAULT[faults[name]](expected[name], typed[name]), (name, faults[name], expected[name], typed[name])
            else:
                assert typed[name] == expected[name], (name, row)
    stated = {f"{names.FORM_COLUMNS[part]}:{fault}" for part, rates in names.FAULTS.items() for fault in rates} | {"names:swapped", "address:stale"}
    assert set(seen) == stated
    assert stale > 10


def _home(homes: list[dict[str, Any]], at: datetime, typed: dict[str, str], *, is_stale: bool) -> dict[str, Any]:
    """The address that should have been typed. A visit that spans the move may have either."""
    if len(homes) == 1:
        return homes[0]
    before, after = homes
    assert before["valid_to"] == after["valid_from"]
    if is_stale or at < after["valid_from"]:
        return before
    if at < after["valid_from"] + timedelta(hours=2) and typed["house_number"] == before["house_number"]:
        return before
    return after


def _distance(one: str, other: str) -> int:
    """Levenshtein's."""
    line = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        line, above = [place], line
        for column, against in enumerate(other, 1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (letter != against)))
    return line[-1]


def _differ(one: str, other: str) -> list[int]:
    return [place for place in range(len(one)) if one[place].lower() != other[place].lower()]


IS_FAULT: dict[str, Callable[[str, str], bool]] = {
    "insert": lambda clean, typed: len(typed) == len(clean) + 1 and _distance(clean, typed) == 1,
    "delete": lambda clean, typed: len(typed) == len(clean) - 1 and _distance(clean, typed) == 1,
    "substitute": lambda clean, typed: len(typed) == len(clean) and len(_differ(clean, typed)) == 1,
    "transpose": lambda clean, typed: len(_differ(clean, typed)) == 2 and sorted(clean.lower()) == sorted(typed.lower()) and _adjacent(_differ(clean, typed)),
    "phonetic": lambda clean, typed: typed != clean and _distance(clean, typed) <= 3,
    "nickname": lambda clean, typed: NICKNAMES[clean] == typed,
    "abbreviate": lambda clean, typed: SHORT_STREETS[clean] == typed,
    "digit": lambda clean, typed: len(places := _differ(clean, typed)) == 1 and typed[places[0]].isdecimal(),
    "day_for_month": lambda clean, typed: typed.split("-") == [clean[:4], clean[8:], clean[5:7]],
    "default": lambda clean, typed: typed == "1900-01-01",
    "missing": lambda clean, typed: not typed,
}


def _adjacent(places: list[int]) -> bool:
    return places[1] - places[0] == 1


@pytest.mark.parametrize("part", names.FAULTS)
def test_faults_are_binomial_at_the_stated_rates(part: int, rows: list[Row], truth: dict[Any, dict[str, Any]], clean: dict[Any, dict[str, Any]]) -> None:
    """Of independent forms: an order's is the checkout's. Second accounts, whose names are always misspelt, stand apart."""
    name = names.FORM_COLUMNS[part]
    independent = {row["event_id"] for row in rows if row["event_name"] != "order_placed" and not row["user_id"].startswith("u1000")}
    forms = [form for event_id, form in truth.items() if event_id in independent and name in ASKED[form["form"]]]
    for fault, rate in names.FAULTS[part].items():
        for is_call in (False, True) if fault == "phonetic" else (None,):
            able = [form for form in forms if _can(fault, clean[form["person_id"]].get(name, "")) and is_call in (None, form["form"] == "call")]
            found = sum(f"{name}:{fault}" in form["faults"] for form in able)
            assert is_binomial(found, len(able), rate * (names.HEARD if is_call else 1)), (name, fault, found, len(able))
    if name == "given_name":
        swapped = sum("names:swapped" in form["faults"] for form in forms)
        assert is_binomial(swapped, len([form for form in forms if "given_name:missing" not in form["faults"]]), names.SWAPPED)


def _can(fault: str, clean: str) -> bool:
    """Whether the text can have the fault at all."""
    if fault == "nickname":
        return clean in NICKNAMES
    return fault != "day_for_month" or (int(clean[8:]) <= 12 and clean[8:] != clean[5:7])


def test_forms_after_a_move_give_the_old_address_at_the_stated_rate(named: World, rows: list[Row], truth: dict[Any, dict[str, Any]]) -> None:
    moved = {address["person_id"]: address["valid_from"] for address in named.truth("addresses") if address["valid_from"]}
    counted = [
        truth[row["event_id"]] for row in rows if row["event_id"] in truth and row["event_name"] in ("signed_up", "checkout_started")
        and instant(row["occurred_at"]) > moved.get(truth[row["event_id"]]["person_id"], datetime(2100, 1, 1)) + timedelta(hours=2)
    ]  # fmt: skip
    assert len(counted) > 50
    assert is_binomial(sum("address:stale" in form["faults"] for form in counted), len(counted), names.STALE)


def test_an_order_repeats_the_form_of_its_checkout_and_so_does_the_servers_report(rows: list[Row]) -> None:
    reports: dict[str, set[Form]] = {}
    checkouts: dict[str, list[Row]] = {}
    for row in rows:
        if row["event_name"] == "order_placed":
            reports.setdefault(row["order_id"], set()).add(form_of(row))
        elif row["event_name"] == "checkout_started":
            checkouts.setdefault(row["anonymous_id"], []).append(row)
    assert all(len(forms) == 1 for forms in reports.values())
    assert len(reports) > 500
    for row in rows:
        if row["event_name"] == "order_placed" and row["anonymous_id"]:
            last = max((other for other in checkouts[row["anonymous_id"]] if other["occurred_at"] < row["occurred_at"]), key=lambda other: other["occurred_at"])
            assert form_of(last) == form_of(row)


def test_names_are_skewed_with_a_long_tail_and_homes_are_where_people_live(named: World, clean: dict[Any, dict[str, Any]]) -> None:
    country = {person["person_id"]: person["country"] for person in named.truth("persons")}
    american = Counter(row["family_name"] for person, row in clean.items() if country[person] == "US")
    most, total = american.most_common(1)[0][1], american.total()
    assert 0.03 < most / total < 0.2
    assert sum(count for count in american.values() if count <= 2) > 0.03 * total
    assert len({(row["given_name"], row["family_name"]) for row in clean.values()}) < len(clean), "some strangers have the same name"
    towns = {(country[row["person_id"]], row["address_city"]) for row in named.truth("addresses")}
    assert ("DE", "Leipzig") in towns and ("US", "Oakland") in towns and ("FR", "Boston") not in towns
    streets: dict[tuple[Any, Any], set[Any]] = {}
    for row in named.truth("addresses"):
        streets.setdefault((row["address_city"], row["street"]), set()).add(row["postcode"])
    assert all(len(codes) == 1 for codes in streets.values())


def test_names_change_no_other_byte(tmp_path: Path) -> None:
    rates = {**DEFAULT_MECHANISMS, "broken": 0, "households": 0.7, "reused_order_ids": 0.5, "second_accounts": 0.5, "consents": 0.5}
    with_names, without = (
        make_world(tmp_path / str(rate), WorldSpec(customers=300, days=56, mechanisms={**rates, "names": rate})) for rate in (RATE, 0.0)
    )  # fmt: skip
    fields = len(FORM) + 1
    for file, lines in without.lines().items():
        stripped = [line.rsplit(b",", fields) for line in with_names.lines()[file]]
        assert [b",".join((before, last)) for before, *_, last in stripped] == lines
    assert with_names.names != without.names == NAMES
    for table in ("persons", "devices", "sessions", "orders", "dirt", "households", "reused_orders", "second_accounts", "consents"):
        assert with_names.truth(table) == without.truth(table)


def test_a_lowered_rate_keeps_a_part_of_the_same_forms(tmp_path: Path) -> None:
    fewer, more = (make_world(tmp_path / str(rate), WorldSpec(customers=192, days=56, mechanisms={"names": rate})) for rate in (0.3, 0.9))
    few, many = ({row["event_id"]: (row["person_id"], tuple(row["faults"])) for row in world.truth("forms")} for world in (fewer, more))
    assert 0 < len(few) < len(many) and few.items() <= many.items()
