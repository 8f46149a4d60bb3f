"""A world's bytes are a function of its spec."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from ml.simulator import Drift, WorldSpec
from tests.unit.simulator.conftest import NAMES, World, is_crawler, make_world, parsed
from waymark.core.errors import SettingsError

SPEC = WorldSpec(customers=230, days=56, mechanisms={**WorldSpec().mechanisms, "kiosks": 0.5})
TRUTHS = ("persons", "devices", "sessions", "orders", "dirt")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("plain"), SPEC)


@pytest.mark.parametrize("how", [{}, {"block_customers": 37, "workers": 1}, {"block_customers": 100, "workers": 3}])
def test_the_same_spec_gives_the_same_bytes_whatever_the_blocks_and_workers(plain: World, tmp_path: Path, how: dict[str, int]) -> None:
    again = make_world(tmp_path, SPEC, **how)
    assert {path.name: path.read_bytes() for path in again.report.paths} == {path.name: path.read_bytes() for path in plain.report.paths}
    for name in TRUTHS:
        assert again.truth(name) == plain.truth(name), name
    assert again.report.rows_by_kind == plain.report.rows_by_kind


def test_another_seed_gives_another_world(plain: World, tmp_path: Path) -> None:
    other = make_world(tmp_path, WorldSpec(customers=230, days=56, seed=2, mechanisms=SPEC.mechanisms))
    assert not {line for lines in other.lines().values() for line in lines} & {line for lines in plain.lines().values() for line in lines}


def test_more_customers_leave_the_rows_of_the_first_as_they_are(plain: World, tmp_path: Path) -> None:
    more = make_world(tmp_path, WorldSpec(customers=300, days=56, mechanisms=SPEC.mechanisms))
    there = {name: iter(lines) for name, lines in more.lines().items()}
    for name, lines in plain.lines().items():
        assert all(line in there[name] for line in lines), name  # `in` on an iterator consumes it: this asks for a subsequence


def test_parts_of_a_world_hold_its_lines_together(plain: World, tmp_path: Path) -> None:
    parts = [make_world(tmp_path / str(part.start), SPEC, block_customers=40, part=part) for part in (range(90), range(90, 230))]
    assert sum(part.report.rows for part in parts) == plain.report.rows
    for name, lines in plain.lines().items():
        assert sorted(line for part in parts for line in part.lines().get(name, [])) == sorted(lines), name


def test_plain_files_hold_what_the_gzipped_ones_hold(plain: World, tmp_path: Path) -> None:
    bare = make_world(tmp_path, WorldSpec(customers=230, days=56, gzip=False, mechanisms=SPEC.mechanisms))
    assert [path.read_bytes() for path in bare.report.paths] == [gzip.decompress(path.read_bytes()) for path in plain.report.paths]


def test_daily_files_hold_the_rows_of_the_weekly_ones_in_the_same_order(plain: World, tmp_path: Path) -> None:
    daily = make_world(tmp_path, WorldSpec(customers=230, days=56, file_days=1, mechanisms=SPEC.mechanisms))
    assert len(daily.report.paths) > 5 * len(plain.report.paths)
    assert [line for lines in daily.lines().values() for line in lines] == [line for lines in plain.lines().values() for line in lines]


def test_an_identified_world_differs_from_the_plain_one_in_who_is_named_alone(tmp_path: Path) -> None:
    plain, named = (make_world(tmp_path / str(named), WorldSpec(customers=230, days=56, is_identified=named)) for named in (False, True))
    counted = Counter[str]()
    for file, lines in plain.lines().items():
        for line, other in zip(lines, named.lines()[file], strict=True):
            one, two = parsed(line), parsed(other)
            if one and two:
                counted.update(name for name in NAMES if one[name] != two[name])
                own = one["staff"] == "false" and not is_crawler(one)
                assert two["user_id"] or not own
    assert set(counted) == {"user_id", "email"}
    assert named.truth("sessions") == plain.truth("sessions") and named.truth("orders") == plain.truth("orders")
    assert all(person["user_id"] for person in named.truth("persons"))
    assert all(device["is_linked"] for device in named.truth("devices"))
    assert len({device["component_id"] for device in named.truth("devices")}) == len({device["person_id"] for device in named.truth("devices")})


def test_a_drift_leaves_what_happened_before_it_as_it_was(plain: World, tmp_path: Path) -> None:
    drifted = make_world(tmp_path, WorldSpec(customers=230, days=56, mechanisms=SPEC.mechanisms, drift=Drift(day=30, forward=0.4, channels={"email": 4.0})))
    nothing = make_world(tmp_path / "none", WorldSpec(customers=230, days=56, mechanisms=SPEC.mechanisms, drift=Drift(day=30)))
    assert nothing.lines() == plain.lines()

    def split(world: World) -> tuple[set[bytes], set[bytes]]:
        lines = {line for lines in world.lines().values() for line in lines if (row := parsed(line)) and row["occurred_at"] < "2027"}
        early = {line for line in lines if line.split(b",")[2] < b"2026-02-04"}
        return early, lines - early

    (early, late), (drifted_early, drifted_late) = split(plain), split(drifted)
    assert early == drifted_early and len(early) > 500
    assert len(late & drifted_late) < 0.9 * len(late)


def test_an_impossible_drift_is_refused() -> None:
    with pytest.raises(SettingsError, match="no way in 'pigeon'"):
        Drift(day=3, channels={"pigeon": 2.0})
    with pytest.raises(SettingsError, match="positive factors"):
        Drift(day=3, leaving=0.0)
