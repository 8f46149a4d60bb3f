"""A world's bytes are a function of its spec."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ml.simulator import WorldSpec
from tests.unit.simulator.conftest import World, make_world

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


def test_plain_files_hold_what_the_gzipped_ones_hold(plain: World, tmp_path: Path) -> None:
    bare = make_world(tmp_path, WorldSpec(customers=230, days=56, gzip=False, mechanisms=SPEC.mechanisms))
    assert [path.read_bytes() for path in bare.report.paths] == [gzip.decompress(path.read_bytes()) for path in plain.report.paths]


def test_daily_files_hold_the_rows_of_the_weekly_ones_in_the_same_order(plain: World, tmp_path: Path) -> None:
    daily = make_world(tmp_path, WorldSpec(customers=230, days=56, file_days=1, mechanisms=SPEC.mechanisms))
    assert len(daily.report.paths) > 5 * len(plain.report.paths)
    assert [line for lines in daily.lines().values() for line in lines] == [line for lines in plain.lines().values() for line in lines]
