"""The trained model: the same for equal data, kept whole, and honest about shuffled labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ml.datasets import load_for
from ml.evaluation import auc
from ml.models.propensity.gate import judge
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from tests.conftest import REPOSITORY
from tests.unit.propensity.synthetic import FIELDS, array, fill, population
from waymark.core.settings import EngineSettings, LearningSettings
from waymark.core.warehouse import Connection, connect

SETTINGS = LearningSettings(min_positives=50)


def train(table: pa.Table, *, threads: int = 2, settings: LearningSettings = SETTINGS) -> TrainingResult:
    with connect(engine=EngineSettings(threads=threads)) as connection:
        fill(connection, table)
        dataset = load_for(connection, settings, FIELDS)
    return train_on(dataset)


@pytest.mark.prove
def test_engine_threads_and_row_order_change_no_digest_and_a_seed_does(trained: TrainingResult) -> None:
    table = population(900, 16)
    shuffled = table.take(pa.array(np.random.default_rng(9).permutation(table.num_rows)))
    for other in (train(table, threads=1), train(shuffled, threads=2)):
        assert other.dataset.fingerprint == trained.dataset.fingerprint
        assert other.model.digest == trained.model.digest
        assert {c.name: c.metrics for c in other.candidates} == {c.name: c.metrics for c in trained.candidates}
    assert train(table, settings=LearningSettings(min_positives=50, seed=8)).model.digest != trained.model.digest


@pytest.mark.prove
def test_one_cpu_gives_the_digest_of_two(trained: TrainingResult) -> None:
    """In a process of its own, bound to one processor and one OpenMP thread."""
    code = "from tests.unit.propensity.test_model import *; print(train(population(900, 16), threads=1).model.digest)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    bound = f"import os; os.sched_setaffinity(0, {{{cpu}}}); " if cpu is not None else ""
    done = subprocess.run([sys.executable, "-c", bound + code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == trained.model.digest


def test_a_saved_model_scores_the_same_to_the_bit(trained: TrainingResult, tmp_path: Path) -> None:
    folder, table = tmp_path / "model", population(200, 3, seed=5)
    trained.model.save(folder)
    trained.model.save(folder)  # over itself
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    loaded = PropensityModel.load(folder)
    assert loaded.digest == trained.model.digest and loaded.fields == tuple(field.name for field in FIELDS)
    for name in ("score", "low", "high"):
        np.testing.assert_array_equal(getattr(loaded.predict(table), name), getattr(trained.model.predict(table), name))
    rest = json.loads((folder / "model.json").read_text())
    rest["calibrator"]["p1"][0] += 0.001
    (folder / "model.json").write_text(json.dumps(rest, sort_keys=True))
    assert PropensityModel.load(folder).digest != trained.model.digest


def test_scores_of_a_batch_are_the_scores_of_its_rows(trained: TrainingResult) -> None:
    table = population(100, 2, seed=6)
    whole = trained.model.predict(table)
    parts = [trained.model.predict(batch) for batch in table.to_batches(max_chunksize=37)]
    np.testing.assert_array_equal(np.concatenate([part.score for part in parts]), whole.score)
    assert ((whole.low <= whole.score) & (whole.score <= whole.high)).all()


def test_an_unknown_category_is_scored_like_a_missing_one(trained: TrainingResult) -> None:
    table = population(50, 1, seed=8)
    place = table.schema.get_field_index("last_channel")
    unknown, missing = (table.set_column(place, "last_channel", pa.array([value] * 50, pa.string())) for value in ("carrier_pigeon", None))
    np.testing.assert_array_equal(trained.model.predict(unknown).score, trained.model.predict(missing).score)


def test_trees_come_near_the_true_chance_and_past_the_baselines(trained: TrainingResult) -> None:
    truth = population(900, 16)
    chance = dict(zip(zip(truth.column("customer_id").to_pylist(), truth.column("as_of_at").to_pylist(), strict=True), array(truth, "chance"), strict=True))
    keys = zip(trained.test.keys.column("customer_id").to_pylist(), trained.test.keys.column("as_of_at").to_pylist(), strict=True)
    best = auc(trained.test.labels, [chance[key] for key in keys]).value
    found = {candidate.name: candidate.metrics for candidate in trained.candidates}
    assert [*found] == ["base_rate", "rfm", "logistic", "xgboost"]
    assert best - 0.03 < found["xgboost"]["auc"].value < best + 0.01
    assert found["xgboost"]["auc"].value > found["rfm"]["auc"].high
    assert trained.differences["base_rate"]["log_loss"].high < 0
    assert found["xgboost"]["calibration_slope"].low < 1 < found["xgboost"]["calibration_slope"].high
    assert found["base_rate"]["auc"].value == 0.5


def test_shuffled_labels_leave_nothing_to_rank_by_and_are_refused() -> None:
    result = train(population(900, 16, shuffled=True))
    estimate = result.candidate("xgboost").metrics["auc"]
    assert estimate.low < 0.5 < estimate.high
    assert "not_better_than_base_rate" in {reason.code for reason in judge(result).reasons}


def test_the_test_split_is_no_part_of_any_choice(warehouse: Connection, trained: TrainingResult) -> None:
    """Labels of the test split turned round change what is measured and nothing that was learnt."""
    table = population(900, 16)
    first = trained.dataset.splits["test"].first_as_of_at
    turned = [bool(label) != (point >= first) for label, point in
              zip(table.column("is_converted").to_pylist(), table.column("as_of_at").to_pylist(), strict=True)]  # fmt: skip
    other = train(table.set_column(table.schema.get_field_index("is_converted"), "is_converted", pa.array(turned)))
    assert other.model.digest == trained.model.digest
    assert other.candidate("xgboost").metrics["auc"].value == pytest.approx(1 - trained.candidate("xgboost").metrics["auc"].value)
