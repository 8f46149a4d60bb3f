"""Tests that share a run stay in one process, whatever the versions of pytest and pytest-xdist do with node ids."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import group_of, pytest_xdist_make_scheduler

SHARED = {"demo", "shop", "rees46"}


def test_tests_that_share_a_run_are_in_one_group(request: pytest.FixtureRequest) -> None:
    groups: dict[str, set[str]] = {}
    for item in request.session.items:
        for name in SHARED & set(getattr(item, "fixturenames", ())):
            groups.setdefault(name, set()).add(group_of(item.nodeid))
    assert {name: found for name, found in groups.items() if len(found) > 1 or "/" in next(iter(found))} == {}


def test_a_process_gets_all_tests_of_a_group_at_once(request: pytest.FixtureRequest) -> None:
    files = ("tests/integration/test_first_run.py", "tests/integration/test_floor.py", "tests/unit/core/test_home.py")
    ids = [f"{file}::test_{number}" for number in range(3) for file in files]
    given: dict[str, list[int]] = {}
    scheduler = pytest_xdist_make_scheduler(_Distributed(), None)
    for name in ("gw0", "gw1"):
        node = _Node(name, given)
        scheduler.add_node(node)
        scheduler.add_node_collection(node, ids)
    scheduler.schedule()
    assert {frozenset(ids[number].split("::")[0] for number in numbers) for numbers in given.values()} == {frozenset(files[:2]), frozenset(files[2:])}


class _Distributed:
    """As much of pytest's configuration as a scheduler reads."""

    class option:
        loadscopereorder = True

    rootpath = Path(sys.prefix)

    def getvalue(self, name: str) -> object:
        return {"dist": "loadgroup", "tx": ["popen", "popen"], "numprocesses": 2}.get(name)


class _Node:
    """A process that notes which tests it was sent."""

    shutting_down = False

    def __init__(self, name: str, given: dict[str, list[int]]) -> None:
        self.name, self.given = name, given
        self.gateway = type("Gateway", (), {"id": name})

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.given.setdefault(self.name, []).extend(numbers)

    def shutdown(self) -> None:
        self.shutting_down = True
