"""Households, shared devices, placeholder addresses, reused order ids and second accounts: what the files say against what the truth says."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator.mechanisms import MECHANISMS, households, placeholder_emails, shared_devices
from tests.unit.simulator.conftest import World, accepted, make_world
from tests.unit.simulator.people import Row, groups, identifiers, instant, is_binomial, normal_phone, owners, shared_identifiers

CUSTOMERS = 1_280  # a multiple of sixty-four, so that no group is cut by the world's end


def of(tmp: pytest.TempPathFactory, **rates: float) -> tuple[World, list[Row]]:
    made = make_world(tmp.mktemp("strangers"), WorldSpec(customers=CUSTOMERS, days=112, mechanisms=rates))
    return made, accepted(made)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Row]]:
    return of(tmp_path_factory, names=1.0, households=0.6)


@pytest.fixture(scope="module")
def tablets(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Row]]:
    return of(tmp_path_factory, shared_devices=0.5)


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Many people in a short time: for rates of groups."""
    rates = {"households": 0.6, "shared_devices": 0.5}
    return make_world(tmp_path_factory.mktemp("brief"), WorldSpec(customers=6_400, days=14, mechanisms=rates))


@pytest.fixture(scope="module")
def placeholders(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Row]]:
    return of(tmp_path_factory, placeholder_emails=0.3)


@pytest.fixture(scope="module")
def tills(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Row]]:
    return of(tmp_path_factory, reused_order_ids=0.4, double_reports=0.2)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Row]]:
    return of(tmp_path_factory, names=1.0, second_accounts=0.5)


def by_household(world: World) -> dict[Any, list[dict[str, Any]]]:
    found = defaultdict[Any, list[dict[str, Any]]](list)
    for member in world.truth("households"):
        found[member["household_id"]].append(member)
    return found


def test_households_are_formed_of_neighbours_at_the_stated_rate(brief: World) -> None:
    found = by_household(brief)
    neighbours = [group for group in groups(brief.spec) if len(group) > 1]
    place = {person: group for group in neighbours for person in group}
    assert is_binomial(len(found), len(neighbours), brief.spec.rate("households"))
    for members in found.values():
        persons = [member["person_id"] for member in members]
        assert persons == place[persons[0]][: len(persons)] and 2 <= len(persons) <= 4
        assert [member["member_number"] for member in members] == list(range(len(persons)))


def test_members_share_an_address_and_mostly_a_name_and_are_different_people(homes: tuple[World, list[Row]]) -> None:
    world, _ = homes
    names = {row["person_id"]: row for row in world.truth("names")}
    addresses = defaultdict[Any, list[tuple[Any, ...]]](list)
    for row in world.truth("addresses"):
        addresses[row.pop("person_id")].append(tuple(row.values()))
    keeps = total = juniors = seconds = 0
    for first, *others in by_household(world).values():
        for member in others:
            same = names[member["person_id"]]["family_name"] == names[first["person_id"]]["family_name"]
            assert addresses[member["person_id"]] == addresses[first["person_id"]]
            assert same or not member["has_family_name"]
            keeps, total = keeps + bool(member["has_family_name"]), total + 1
            if member["member_number"] == 1:
                juniors += names[member["person_id"]]["given_name"] == names[first["person_id"]]["given_name"]
                seconds += 1
    assert is_binomial(keeps, total, 1 - households.OWN_FAMILY_NAME)
    assert juniors > 0.02 * seconds, "some have the given name of somebody who lives with them"
    homes_of = Counter(tuple(addresses[person]) for person in names)
    members = {member["person_id"] for member in world.truth("households")}
    assert sum(homes_of[tuple(addresses[person])] == 1 for person in names if person not in members) > 0.9 * (len(names) - len(members))
    persons = {row["person_id"]: row for row in world.truth("persons")}
    assert len({persons[person]["email"] for person in members}) == len(members)


def test_what_links_different_people_in_the_files_is_their_households_and_nothing_else(homes: tuple[World, list[Row]]) -> None:
    world, rows = homes
    true = {member[name]: {other["person_id"] for other in members} for members in by_household(world).values() for member in members
            for name in ("phone", "email", "anonymous_id") if member[name]}  # fmt: skip
    found = shared_identifiers(world, rows)
    assert found.keys() <= true.keys()
    assert all(persons <= true[value] for value, persons in found.items())
    kinds = Counter("email" if "@" in value else "phone" if value.startswith("+") else "device" for value in found)
    assert min(kinds["email"], kinds["phone"], kinds["device"]) > 2
    shares = Counter(name for members in by_household(world).values() for name in ("phone", "email", "anonymous_id") if members[0][name])
    for name, share in (("phone", households.HAS_TELEPHONE), ("email", households.HAS_MAILBOX), ("anonymous_id", households.HAS_TABLET)):
        assert is_binomial(shares[name], len(by_household(world)), share)


def test_log_ins_at_shared_devices_are_those_of_the_truth(tablets: tuple[World, list[Row]]) -> None:
    world, rows = tablets
    own = {device["anonymous_id"] for device in world.truth("devices")}
    there = [row for row in rows if row["anonymous_id"] and row["anonymous_id"] not in own]
    found = {(row["anonymous_id"], row["user_id"], instant(row["occurred_at"])) for row in there if row["event_name"] == "logged_in"}
    true = world.truth("shared_devices")
    assert found == {(login["anonymous_id"], login["user_id"], login["logged_in_at"]) for login in true} and len(found) == len(true)
    account = {person["user_id"]: person for person in world.truth("persons") if person["user_id"]}
    for login in true:
        person = account[login["user_id"]]
        assert person["person_id"] == login["person_id"]
        assert person["is_existing"] or person["signed_up_at"] < login["logged_in_at"]
    assert found and shared_identifiers(world, rows).keys() == {device for device, users in _by_device(true).items() if len(users) > 1}
    assert max(len(users) for users in _by_device(true).values()) <= 12


def _by_device(logins: list[dict[str, Any]]) -> dict[Any, set[Any]]:
    users = defaultdict[Any, set[Any]](set)
    for login in logins:
        users[login["anonymous_id"]].add(login["user_id"])
    return users


def test_sometimes_two_accounts_log_in_within_one_session_of_a_device(tablets: tuple[World, list[Row]]) -> None:
    world, rows = tablets
    devices = _by_device(world.truth("shared_devices"))
    moments = defaultdict[str, list[Row]](list)
    for row in rows:
        if row["anonymous_id"] in devices:
            moments[row["anonymous_id"]].append(row)
    found = set()
    for device, visits in moments.items():
        visits.sort(key=lambda row: row["occurred_at"])
        session: list[Row] = []
        for row in [*visits, None]:
            if session and (row is None or instant(row["occurred_at"]) - instant(session[-1]["occurred_at"]) > timedelta(minutes=30)):
                if len(users := {other["user_id"] for other in session if other["user_id"]}) > 1:
                    found.add((device, frozenset(users)))
                session = []
            if row is not None:
                session.append(row)
    true = defaultdict[tuple[Any, Any], set[Any]](set)
    for login in world.truth("shared_devices"):
        true[login["anonymous_id"], login["session_number"]].add(login["user_id"])
    assert found == {(device, frozenset(users)) for (device, _), users in true.items() if len(users) > 1}
    assert 0.02 * len(true) < len(found) < shared_devices.SECOND_SHARE * len(true)


def test_tablets_and_library_computers_stand_at_the_stated_rate(brief: World) -> None:
    true = brief.truth("shared_devices")
    neighbours = [group for group in groups(brief.spec) if len(group) > 1]
    place = {person: number for number, group in enumerate(neighbours) for person in group}
    used = {place[login["person_id"]] for login in true if login["kind"] == "tablet"}
    # whoever has an account from before the window and gets a turn in ten logs in, so nearly every tablet with two of them is used
    old = {person["person_id"] for person in brief.truth("persons") if person["is_existing"] and person["event_count"]}
    often = [number for number, group in enumerate(neighbours) if len(old & set(group)) >= 2]
    assert len(often) > 100 and is_binomial(len(used & set(often)), len(often), brief.spec.rate("shared_devices"))
    assert {login["kind"] for login in true} == set(shared_devices.KINDS)


def test_placeholders_are_typed_at_the_stated_rate_and_link_strangers(placeholders: tuple[World, list[Row]]) -> None:
    world, rows = placeholders
    typed = [row for row in rows if row["email"] in placeholder_emails.ADDRESSES]
    checkouts = [row for row in rows if row["event_name"] == "checkout_started" and row["email"] not in placeholder_emails.ADDRESSES]
    assert is_binomial(len(typed), len(checkouts), world.spec.rate("placeholder_emails"))
    true = {row["event_id"]: row for row in world.truth("placeholder_emails")}
    found = {row["event_id"]: (row["email"], row["user_id"] or None, row["anonymous_id"], instant(row["occurred_at"])) for row in typed}
    assert found == {event: (row["email"], row["user_id"], row["anonymous_id"], row["occurred_at"]) for event, row in true.items()}
    owner = owners(world)
    assert all(row["user_id"] is None or owner[row["user_id"]] == row["person_id"] for row in true.values())
    linked = shared_identifiers(world, rows)
    assert linked.keys() <= set(placeholder_emails.ADDRESSES)
    sizes = [len(persons) for persons in linked.values()]
    assert max(sizes) > 20 > min(sizes) > 1, "one over any limit on neighbours, one under it"


def test_reused_order_ids_are_of_strangers_with_other_values(tills: tuple[World, list[Row]]) -> None:
    world, rows = tills
    owner = owners(world)
    reports = defaultdict[str, dict[Any, set[tuple[Decimal, str]]]](lambda: defaultdict(set))
    for row in rows:
        if row["event_name"] == "order_placed":
            (person,) = {owner[value] for value in identifiers(row)}
            reports[row["order_id"]][person].add((Decimal(row["value"]), row["currency"]))
    twice = {order: persons for order, persons in reports.items() if len(persons) > 1}
    true = world.truth("reused_orders")
    assert {order: set(persons) for order, persons in twice.items()} == {row["order_id"]: {row["person_id"], row["other_person_id"]} for row in true}
    countries = {person["person_id"]: person["country"] for person in world.truth("persons")}
    for row in true:
        ((value, currency),) = twice[str(row["order_id"])][row["person_id"]]
        ((other_value, _),) = twice[str(row["order_id"])][row["other_person_id"]]
        assert value != other_value and (value, currency) == (row["value"], row["currency"])
        assert currency == ("EUR" if countries[row["person_id"]] in {"DE", "FR"} else "USD")
    orders = [row for row in world.truth("orders") if row["event_type"] == "order_completed"]
    able = [row for row in orders if row["person_id"] != "p0000000"]
    assert is_binomial(len(true), len(able), world.spec.rate("reused_order_ids"))
    at = {row["order_id"]: row["event_at"] for row in orders}
    gaps = [abs(row["event_at"] - at[row["order_id"]]) for row in true]
    assert 0.1 < sum(gap < timedelta(hours=4) for gap in gaps) / len(gaps) < 0.35 and max(gaps) > timedelta(days=20)
    assert not shared_identifiers(world, rows), "an order id links nobody"


def test_second_accounts_share_no_identifier_with_the_first_and_no_name_that_is_right(twice: tuple[World, list[Row]]) -> None:
    world, rows = twice
    true = world.truth("second_accounts")
    sign_ups = [person for person in world.truth("persons") if person["signed_up_at"]]
    assert is_binomial(len(true), len(sign_ups), world.spec.rate("second_accounts"))
    graph = nx.Graph()
    for row in rows:
        nx.add_path(graph, [value.lower() for value in (row["anonymous_id"], row["user_id"], row["email"], normal_phone(row["phone"])) if value])
    names = {row["person_id"]: row for row in world.truth("names")}
    accounts = {row["first_user_id"]: row["person_id"] for row in true}
    assert accounts == {person["user_id"]: person["person_id"] for person in world.truth("persons") if person["user_id"] in accounts}
    typed = defaultdict[str, list[Row]](list)
    for row in rows:
        typed[row["user_id"]].append(row)
    for second in true:
        own = {second["user_id"], second["email"], second["anonymous_id"]}
        assert nx.node_connected_component(graph, second["user_id"]) == own
        clean = names[second["person_id"]]
        forms = [row for row in typed[str(second["user_id"])] if row["family_name"]]
        assert [row["event_name"] for row in sorted(forms, key=lambda row: row["occurred_at"])] == ["signed_up", "checkout_started"]
        for row in forms:
            pairs = {(row["given_name"], row["family_name"]), (row["family_name"], row["given_name"])}
            assert all(sum((given == clean["given_name"], family == clean["family_name"])) <= 1 for given, family in pairs)
            assert any(given == clean["given_name"] or family == clean["family_name"] for given, family in pairs), "one of the two is as it should be"
        first = min(instant(row["occurred_at"]) for row in typed[str(second["first_user_id"])] if row["event_name"] == "signed_up")
        assert second["signed_up_at"] - first > timedelta(hours=1)


PEOPLE = ("names", "households", "shared_devices", "placeholder_emails", "reused_order_ids", "second_accounts", "consents")
TRUTHS = ("names", "addresses", "forms", "households", "shared_devices", "placeholder_emails", "reused_orders", "second_accounts", "consents",
          "consent_events", "persons", "devices", "sessions", "orders", "dirt")  # fmt: skip


def test_blocks_workers_and_further_customers_change_no_byte_of_worlds_with_people_in_them(tmp_path: Path) -> None:
    rates = {**DEFAULT_MECHANISMS, **dict.fromkeys(PEOPLE, 0.6)}
    assert set(PEOPLE) <= set(MECHANISMS)
    plain = make_world(tmp_path / "plain", WorldSpec(customers=130, days=56, mechanisms=rates))
    for how in ({"block_customers": 37, "workers": 1}, {"block_customers": 70, "workers": 3}):
        again = make_world(tmp_path / str(how["workers"]), plain.spec, **how)
        assert again.lines() == plain.lines()
        for table in TRUTHS:
            assert sorted(map(repr, again.truth(table))) == sorted(map(repr, plain.truth(table))), table
    more = make_world(tmp_path / "more", WorldSpec(customers=160, days=56, mechanisms=rates))
    there = {name: iter(lines) for name, lines in more.lines().items()}
    for name, lines in plain.lines().items():
        assert all(line in there[name] for line in lines), name


@pytest.mark.parametrize("name", PEOPLE)
def test_a_mechanism_writes_its_truth_only_where_it_is_on(name: str, tmp_path: Path) -> None:
    world = make_world(tmp_path, WorldSpec(customers=20, days=28, mechanisms={name: 0.5}))
    tables = {path.stem for path in world.truth_folder.iterdir()} - {f"truth_{table}" for table in ("persons", "devices", "sessions", "orders", "dirt")}
    assert tables == OWN_TABLES[name]


OWN_TABLES = {
    "names": {"truth_names", "truth_addresses", "truth_forms"},
    "households": {"truth_households"},
    "shared_devices": {"truth_shared_devices"},
    "placeholder_emails": {"truth_placeholder_emails"},
    "reused_order_ids": {"truth_reused_orders"},
    "second_accounts": {"truth_second_accounts"},
    "consents": {"truth_consents", "truth_consent_events"},
}


def test_households_alter_the_forms_of_their_members_and_no_other_row(tmp_path: Path) -> None:
    """With names, a household's members give its name and address: beyond rows of their own, these columns are all that households change."""
    on, off = (make_world(tmp_path / str(rate), WorldSpec(customers=256, days=56, mechanisms={"names": 0.7, "households": rate})) for rate in (0.8, 0.0))
    members = {row["person_id"] for row in on.truth("households")}
    forms = {row["event_id"]: row["person_id"] for row in on.truth("forms")}
    after = {row["event_id"]: row for row in accepted(on)}
    changed = set()
    for row in accepted(off):
        differing = {name for name in row if row[name] != after[row["event_id"]][name]}
        assert differing <= {"given_name", "family_name", "street", "house_number", "postcode", "address_city"}
        if differing:
            changed.add(forms[row["event_id"]])
    assert changed and changed <= members

