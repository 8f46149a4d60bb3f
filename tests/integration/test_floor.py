"""The benchmarks' floors stay floors: they compute what the models compute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.floor import FEATURES_SCRIPT, run_features_floor, run_floor, statements
from benchmarks.report import BESIDE, BESIDE_FEATURES
from tests.integration.conftest import Ran
from tests.integration.equality_logs import give, shop
from tests.integration.feature_logs import season
from tests.integration.stepwise import Stepwise
from waymark.core.settings import load_project


def test_the_floor_makes_the_same_marts_as_the_models(demo: Ran) -> None:
    compared = run_floor(load_project(demo.directory))["compared"]
    assert len(compared) == 8
    assert [name for name, found in compared.items() if not found["equal"]] == []
    assert all(found["rows"] > 0 for found in compared.values())


def test_the_floor_makes_the_same_features_and_labels_as_the_models(demo: Ran) -> None:
    compared = run_features_floor(load_project(demo.directory))["compared"]
    assert len(compared) == 4
    assert [name for name, found in compared.items() if not found["equal"]] == []
    assert all(found["rows"] > 0 for found in compared.values())


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepwise]:
    """A season of events whose clock stops in the middle of a day, and whose identifiers become over-shared."""
    project = shop(tmp_path_factory.mktemp("busy"))
    give(project, season(20240304, cells=40, batches=1), "all")
    project.run(stop_before="publish", checks=False)
    yield project


@pytest.mark.prove
def test_the_floor_counts_for_whom_the_models_count(busy: Stepwise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.floor._DAYS_IN_A_BUCKET", 500)  # several buckets
    assert busy.rows("select data_now from raw.run_clock where data_now <> date_trunc('week', data_now)")
    assert busy.rows("select node_id from identity.over_shared_since")
    compared = run_features_floor(busy.project)["compared"]
    assert [name for name, found in compared.items() if not found["equal"]] == []
    assert all(found["rows"] > 0 for found in compared.values())


def test_every_statement_of_a_floor_stands_beside_a_model() -> None:
    for beside, script in ((BESIDE, statements()), (BESIDE_FEATURES, statements(FEATURES_SCRIPT))):
        assert sorted(name for names in beside.values() for name in names) == sorted(script)
