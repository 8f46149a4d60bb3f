"""Mechanisms: each adds its own rows and touches nobody else's; each keeps its rate; each makes what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from scipy import stats

from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator import catalogue as cat
from ml.simulator.mechanisms import MECHANISMS
from tests.unit.simulator.conftest import NAMES, World, is_crawler, make_world, parsed
from waymark.core.errors import SettingsError

CUSTOMERS, DAYS = 400, 84
ALL = {
    **DEFAULT_MECHANISMS, "kiosks": 0.6, "leaks": 0.9, "households": 0.7, "shared_devices": 0.7, "placeholder_emails": 0.6, "reused_order_ids": 0.6,
    "second_accounts": 0.6, "consents": 0.6,
}  # fmt: skip
OWN_KIND = {
    "duplicates": "duplicate",
    "conflicts": "conflict",
    "skewed": "skewed",
    "crawlers": "crawler",
    "staff": "staff",
    "double_reports": "double_report",
    "kiosks": "kiosk",
    "leaks": "leak",
    "households": "household",
    "shared_devices": "shared_device",
    "placeholder_emails": "placeholder_email",
    "reused_order_ids": "reused_order_id",
    "second_accounts": "second_account",
    "consents": "consent",
}
RECEIVED = NAMES.index("received_at")


def spec_with(**rates: float) -> WorldSpec:
    return WorldSpec(customers=CUSTOMERS, days=DAYS, mechanisms=rates)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("everything"), spec_with(**ALL))


def kind_total(world: World, wanted: Callable[[str], bool]) -> int:
    return sum(count for kind, count in world.report.rows_by_kind.items() if wanted(kind))


@pytest.mark.parametrize("name", [name for name in ALL if name != "late"])
def test_switching_one_off_removes_its_rows_and_changes_no_other_byte(everything: World, tmp_path: Path, name: str) -> None:
    without = make_world(tmp_path, spec_with(**{other: rate for other, rate in ALL.items() if other != name}))
    lines_without, removed = without.lines(), Counter[bytes]()
    for file, lines in everything.lines().items():
        rest = iter(lines)
        kept = lines_without.get(file, [])
        assert all(line in rest for line in kept), f"{file}: a line changed or moved"
        removed += Counter(lines) - Counter(kept)
    is_own: Callable[[str], bool] = (lambda kind: kind.startswith("broken_")) if name == "broken" else (lambda kind: kind == OWN_KIND[name])
    assert removed.total() == kind_total(everything, is_own) > 0
    assert kind_total(without, is_own) == 0


def test_switching_lateness_off_changes_only_when_late_rows_and_their_copies_arrive(everything: World, tmp_path: Path) -> None:
    without = make_world(tmp_path, spec_with(**{name: rate for name, rate in ALL.items() if name != "late"}))
    with_late, on_time = (Counter(line for lines in world.lines().values() for line in lines) for world in (everything, without))
    moved, were = (sorted(_but_received(line) for line in (one - other).elements()) for one, other in ((with_late, on_time), (on_time, with_late)))
    assert moved == were
    assert len(moved) >= everything.report.rows_by_kind["late"] > 0


def _but_received(line: bytes) -> list[bytes]:
    fields = line.split(b",", RECEIVED + 1)
    return [*fields[:RECEIVED], fields[RECEIVED + 1]]


def test_a_rate_of_zero_is_the_same_as_absence(tmp_path: Path) -> None:
    bare = make_world(tmp_path / "bare", WorldSpec(customers=50, days=28, mechanisms={}))
    zero = make_world(tmp_path / "zero", WorldSpec(customers=50, days=28, mechanisms=dict.fromkeys(MECHANISMS, 0.0)))
    assert bare.lines() == zero.lines()
    assert set(bare.report.rows_by_kind) == {"event"}


@pytest.mark.parametrize("name", ["late", "duplicates", "conflicts", "broken", "skewed"])
def test_the_number_of_dirty_rows_is_binomial_at_the_stated_rate(world: World, name: str) -> None:
    found = kind_total(world, lambda kind: kind.startswith("broken_") if name == "broken" else kind == OWN_KIND.get(name, name))
    assert stats.binomtest(found, world.report.events, DEFAULT_MECHANISMS[name]).pvalue > 1e-4


def test_a_lowered_rate_keeps_a_part_of_the_same_rows(everything: World, tmp_path: Path) -> None:
    fewer = make_world(tmp_path, spec_with(**{**ALL, "duplicates": ALL["duplicates"] / 2}))
    lines, all_lines = (Counter(line for lines in world.lines().values() for line in lines) for world in (fewer, everything))
    assert not lines - all_lines
    assert 0 < fewer.report.rows_by_kind["duplicate"] < everything.report.rows_by_kind["duplicate"]


def test_about_three_rows_in_a_hundred_are_by_crawlers_that_say_so(world: World) -> None:
    crawled = [row for lines in world.lines().values() for line in lines if (row := parsed(line)) and is_crawler(row)]
    # visits of 1 to 15 rows: the sum's variance per row is that of a compound binomial, E[n^2] / E[n] = 82.67 / 8
    expected = DEFAULT_MECHANISMS["crawlers"] * world.report.events
    assert abs(len(crawled) - expected) < 3.9 * (expected * 82.67 / 8) ** 0.5
    assert len(crawled) == world.report.rows_by_kind["crawler"]
    assert not any(row["user_id"] or row["email"] for row in crawled)
    assert 0 < sum(not row["anonymous_id"] for row in crawled) < len(crawled)


def test_late_rows_arrive_days_later_and_in_a_file_of_that_day(world: World) -> None:
    late = 0
    for name, lines in world.lines().items():
        first = date.fromisoformat(name.removeprefix("events_")[:10])
        for line in lines:
            row = parsed(line)
            if row is None or row["occurred_at"] > row["received_at"]:
                continue
            received = date.fromisoformat(row["received_at"][:10])
            assert received < first + timedelta(days=7), "a row cannot stand in a file that is older than it"
            late += received - date.fromisoformat(row["occurred_at"][:10]) >= timedelta(days=1) and received >= first
    assert late >= world.report.rows_by_kind["late"]


def test_both_orders_of_conflict_occur_and_leave_identifiers_and_money_alone(world: World) -> None:
    reports: dict[str, list[dict[str, str]]] = {}
    for lines in world.lines().values():
        for line in lines:
            if row := parsed(line):
                reports.setdefault(row["event_id"], []).append(row)
    pairs = [(first, second) for first, *others in reports.values() for second in others if first != second]
    assert len(pairs) == world.report.rows_by_kind["conflict"]
    assert {second["occurred_at"] < first["occurred_at"] for first, second in pairs} == {True, False}
    for first, second in pairs:
        assert {name for name in NAMES if first[name] != second[name]} == {"occurred_at", "properties"}


def test_orders_reported_twice_agree_in_order_value_and_currency(world: World) -> None:
    reports: dict[str, set[tuple[str, str, str]]] = {}
    for lines in world.lines().values():
        for line in lines:
            if (row := parsed(line)) and row["event_name"] == "order_placed" and row["occurred_at"] < "2027":
                reports.setdefault(row["order_id"], set()).add((row["event_id"], row["value"], row["currency"]))
    assert all(len({(value, currency) for _, value, currency in found}) == 1 for found in reports.values())
    assert sum(len(found) - 1 for found in reports.values()) == world.report.rows_by_kind["double_report"]


def test_kiosks_link_strangers_and_the_truth_still_tells_them_apart(everything: World) -> None:
    cookies: dict[str, set[str]] = {}
    for lines in everything.lines().values():
        for line in lines:
            if (row := parsed(line)) and row["anonymous_id"] and row["user_id"].startswith("u"):
                cookies.setdefault(row["anonymous_id"], set()).add(row["user_id"])
    shared = {cookie for cookie, users in cookies.items() if len(users) > 1}
    assert shared
    assert not shared & {device["anonymous_id"] for device in everything.truth("devices")}


def test_a_leak_is_dated_before_the_week_of_its_order_and_received_after_it(tmp_path: Path) -> None:
    leaking = make_world(tmp_path, spec_with(leaks=0.9))
    rows = [row for lines in leaking.lines().values() for line in lines if (row := parsed(line))]
    ordered: dict[str, list[str]] = {}
    for row in rows:
        if row["event_name"] == "order_placed":
            ordered.setdefault(row["email"].lower(), []).append(row["occurred_at"])
    accounts = {row["user_id"]: row["email"].lower() for row in rows if row["user_id"] and row["email"]}
    leaks = [row for row in rows if row["event_name"] == "newsletter_signup" and not row["anonymous_id"]]
    assert len(leaks) == leaking.report.rows_by_kind["leak"] > 50
    for row in leaks:
        assert not (row["user_id"] and row["email"]), "a leak links nobody"
        assert row["consent"] in cat.CONSENTS
        buys = ordered.get(row["email"].lower() or accounts.get(row["user_id"], ""), [])
        assert any(row["occurred_at"] < _monday(at) <= at < row["received_at"] for at in buys), row


def _monday(moment: str) -> str:
    day = date.fromisoformat(moment[:10])
    return (day - timedelta(days=day.weekday())).isoformat()


def test_unknown_mechanisms_and_impossible_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no mechanism 'moonlight'"):
        make_world(tmp_path, spec_with(moonlight=0.1))
    with pytest.raises(SettingsError, match=r"rate of 'late' is 1\.5"):
        spec_with(late=1.5)
    with pytest.raises(SettingsError, match="customers is 0"):
        WorldSpec(customers=0)


def test_a_folder_that_holds_a_world_is_refused(everything: World, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / "events_2026-01-05.csv").write_text("")
    with pytest.raises(SettingsError, match="holds a world already"):
        make_world(tmp_path, everything.spec)


def test_every_module_of_mechanisms_is_registered_and_named_in_the_readme() -> None:
    folder = Path(__file__).resolve().parents[3] / "ml" / "simulator"
    modules = {path.stem for path in (folder / "mechanisms").glob("*.py")} - {"__init__"}
    assert modules == set(MECHANISMS)
    readme = (folder / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in modules)
