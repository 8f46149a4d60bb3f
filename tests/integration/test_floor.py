"""The benchmark's floor stays a floor: it computes what the models compute."""

from __future__ import annotations

from benchmarks.floor import run_floor, statements
from benchmarks.report import BESIDE
from tests.integration.conftest import Ran
from waymark.core.settings import load_project


def test_the_floor_makes_the_same_marts_as_the_models(demo: Ran) -> None:
    compared = run_floor(load_project(demo.directory))["compared"]
    assert len(compared) == 8
    assert [name for name, found in compared.items() if not found["equal"]] == []
    assert all(found["rows"] > 0 for found in compared.values())


def test_every_statement_of_the_floor_stands_beside_a_model() -> None:
    beside = [name for names in BESIDE.values() for name in names]
    assert sorted(beside) == sorted(statements())
