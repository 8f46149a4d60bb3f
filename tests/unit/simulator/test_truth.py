"""The truth tables against the files, read back by a reader that shares no code with the simulator."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import networkx as nx

from tests.unit.simulator.conftest import LAST_TRUE_DAY, World, parsed

Row = dict[str, str]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def normal_phone(text: str) -> str:
    return re.sub(r"[^0-9+]", "", text)


def test_each_file_holds_the_rows_that_the_dirt_table_counts(world: World) -> None:
    """Conservation from the outside: readable rows by first id, repeats, and what must be refused, file by file."""
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in world.truth("dirt"):
        expected[str(cell["file"])][str(cell["outcome"])] += int(str(cell["row_count"]))
    seen: set[str] = set()
    for file, lines in world.lines().items():
        found = Counter[str]()
        for line in lines:
            row = parsed(line)
            if row is None or row["occurred_at"] > LAST_TRUE_DAY:
                found["quarantined"] += 1
            elif row["event_id"] in seen:
                found["duplicate"] += 1
            else:
                seen.add(row["event_id"])
                found["accepted"] += 1
        assert found == expected[file], file
    assert sum(counts.total() for counts in expected.values()) == world.report.rows


def test_files_are_sorted_by_arrival_but_for_redelivered_rows(world: World) -> None:
    redelivered = world.report.rows_by_kind["duplicate"] + world.report.rows_by_kind["conflict"]
    stragglers = 0
    for lines in world.lines().values():
        newest = ""
        for row in filter(None, map(parsed, lines)):
            stragglers += row["received_at"] < newest
            newest = max(newest, row["received_at"])
    assert 0 < stragglers <= redelivered


def test_sessions_equal_a_brute_force_cut_at_gaps_of_more_than_thirty_minutes(world: World, rows: list[Row]) -> None:
    moments: dict[str, list[datetime]] = defaultdict(list)
    for row in rows:
        if row["anonymous_id"]:
            moments[row["anonymous_id"]].append(instant(row["occurred_at"]))
    found = set()
    gaps = []
    for device, times in moments.items():
        times.sort()
        start, count = times[0], 1
        for previous, following in pairwise(times):
            gaps.append(following - previous)
            if following - previous > timedelta(minutes=30):
                found.add((device, start, previous, count))
                start, count = following, 0
            count += 1
        found.add((device, start, times[-1], count))
    assert found == {(s["anonymous_id"], s["started_at"], s["ended_at"], s["event_count"]) for s in world.truth("sessions")}
    assert not [gap for gap in gaps if timedelta(minutes=10) < gap < timedelta(minutes=110)], "gaps must be well under or well over the session gap"


def test_components_of_identifiers_that_stand_together_equal_the_true_ones(world: World, rows: list[Row]) -> None:
    graph = nx.Graph()
    for row in rows:
        held = [(kind, value) for kind, value in (
            ("cookie", row["anonymous_id"]), ("user", row["user_id"]), ("email", row["email"].lower()), ("phone", normal_phone(row["phone"])),
        ) if value]  # fmt: skip
        graph.add_nodes_from(held)
        nx.add_path(graph, held)
    found = {frozenset(component) for component in nx.connected_components(graph)}
    true: dict[object, set[tuple[str, object]]] = defaultdict(set)
    for device in world.truth("devices"):
        true[device["component_id"]].add(("cookie", device["anonymous_id"]))
    for person in world.truth("persons"):
        for kind, column in (("user", "user_id"), ("email", "email"), ("phone", "phone")):
            if person[f"{kind}_component_id"] is not None:
                true[person[f"{kind}_component_id"]].add((kind, person[column]))
    assert found == {frozenset(nodes) for nodes in true.values()}


def test_a_device_is_linked_where_its_component_holds_more_than_itself(world: World) -> None:
    devices, persons = world.truth("devices"), world.truth("persons")
    sizes = Counter(device["component_id"] for device in devices)
    sizes.update(person[f"{kind}_component_id"] for person in persons for kind in ("user", "email", "phone") if person[f"{kind}_component_id"])
    assert all(device["is_linked"] == (sizes[device["component_id"]] > 1) for device in devices)
    assert {device["is_linked"] for device in devices} == {True, False}
    assert all(str(device["component_id"]).startswith(f"{device['person_id']}/") for device in devices), "no component holds two persons"


def test_devices_are_first_and_last_seen_when_the_files_say_so(world: World, rows: list[Row]) -> None:
    seen: dict[str, list[datetime]] = defaultdict(list)
    for row in rows:
        if row["anonymous_id"]:
            seen[row["anonymous_id"]].append(instant(row["occurred_at"]))
    found = {device: (min(times), max(times), len(times)) for device, times in seen.items()}
    assert found == {d["anonymous_id"]: (d["first_seen_at"], d["last_seen_at"], d["event_count"]) for d in world.truth("devices")}


def test_orders_and_refunds_are_the_files_to_the_cent(world: World, rows: list[Row]) -> None:
    found: dict[tuple[str, str], tuple[Decimal, str, int]] = {}
    for row in rows:
        if row["order_id"]:
            key = (row["order_id"], row["event_name"])
            found[key] = (Decimal(row["value"]), row["currency"], found.get(key, (0, "", 0))[2] + 1)
    names = {"order_completed": "order_placed", "order_refunded": "refund_issued"}
    true = {(str(o["order_id"]), names[str(o["event_type"])]): (o["value"], o["currency"], o["report_count"]) for o in world.truth("orders")}
    assert found == true
    assert any(value < 0 for value, _, _ in found.values())
    assert {currency for _, currency, _ in found.values()} == {"USD", "EUR"}
    assert sum(int(str(p["order_count"])) for p in world.truth("persons")) == sum(o["event_type"] == "order_completed" for o in world.truth("orders"))


def test_persons_have_the_events_of_their_identifiers(world: World, rows: list[Row]) -> None:
    owner = {d["anonymous_id"]: d["person_id"] for d in world.truth("devices")}
    for person in world.truth("persons"):
        owner |= {person[name]: person["person_id"] for name in ("user_id", "email", "phone") if person[name]}
    counts = Counter[object]()
    nameless = 0
    for row in rows:
        persons = {owner[value] for value in (row["anonymous_id"], row["user_id"], row["email"].lower(), normal_phone(row["phone"])) if value}
        assert len(persons) <= 1, row
        counts.update(persons)
        nameless += not persons
    true = {p["person_id"]: int(str(p["event_count"])) for p in world.truth("persons")}
    assert all(counts[person] <= count for person, count in true.items())
    assert sum(true.values()) - counts.total() == nameless > 0, "only events without any identifier (walk-in visits to a store) may lack a person"


def test_personal_data_stands_where_the_privacy_pass_must_find_it(rows: list[Row]) -> None:
    places = Counter(name for row in rows for name in ("page_url", "properties", "message") if re.search(r"[\w.]+@[\w.]+\.example", row[name]))
    assert min(places["page_url"], places["properties"], places["message"]) > 0
    assert any("%40" in row["page_url"] for row in rows)
    assert any(re.search(r"\+\d[\d ]{8,}", row["message"]) for row in rows)
    assert any(row["email"] != row["email"].lower() for row in rows) and any(" " in row["phone"] for row in rows)
