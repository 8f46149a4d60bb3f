"""Splits that do not overlap, models that are the same twice, and a gate that refuses what it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.datasets import Dataset, NotEnoughHistoryError, assemble, plan_splits
from ml.evaluation import Estimate
from ml.features import Field
from ml.models.propensity.gate import judge
from ml.models.propensity.leaks import recomputed_leaks
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import CHAMPION, TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.learning.population import FIELDS, START, population


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_no_label_of_a_split_looks_into_the_next(weeks: int, horizon: int) -> None:
    points = [START + timedelta(days=7 * week) for week in range(weeks)]
    try:
        plan = plan_splits(points, horizon).points
    except NotEnoughHistoryError:
        assert weeks < 8 or horizon > 7
        return
    for before, after in (("train", "calibration"), ("calibration", "test")):
        assert max(plan[before]) + timedelta(days=horizon) <= min(plan[after])
    assert len(plan["test"]) >= 2 and len(plan["calibration"]) >= 2 and len(plan["train"]) >= 2


def test_the_fingerprint_forgets_the_order_of_rows_and_nothing_else() -> None:
    tables = {name: population(300, seed=seed, first_week=seed, weeks=1)[0] for seed, name in enumerate(("train", "calibration", "test"))}
    known = assemble(tables, FIELDS, horizon_days=7, seed=1).fingerprint
    shuffled = {name: table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows))) for name, table in tables.items()}
    assert assemble(shuffled, FIELDS, horizon_days=7, seed=1).fingerprint == known
    altered = tables["test"].set_column(2, "hours_since_last_event", pa.array(np.append(tables["test"].column(2).to_numpy()[:-1], 1.5)))
    assert assemble({**tables, "test": altered}, FIELDS, horizon_days=7, seed=1).fingerprint != known


def test_a_category_that_training_has_not_seen_is_none_of_those_it_has() -> None:
    tables = {name: population(200, seed=seed, first_week=seed, weeks=1)[0] for seed, name in enumerate(("train", "calibration", "test"))}
    encoder = assemble(tables, FIELDS, horizon_days=7, seed=1).encoder
    strange = tables["test"].set_column(tables["test"].column_names.index("last_channel"), "last_channel", pa.array(["carrier_pigeon"] * 200))
    places = [place for place, (name, _) in enumerate(encoder.columns) if name == "last_channel"]
    assert len(places) == 3 and not encoder.encode(strange)[:, places].any() and encoder.encode(tables["test"])[:, places].sum() == 200


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> TrainingResult:
    return train_on(dataset)


def test_trees_beat_the_baselines_and_are_promoted(result: TrainingResult) -> None:
    assert result.candidate("xgboost").metrics["auc"].low > 0.65
    assert judge(result).promote, judge(result).summary


def test_equal_data_and_seed_give_an_equal_model(result: TrainingResult, dataset: Dataset) -> None:
    assert train_on(dataset).model.digest == result.model.digest


def test_a_model_survives_being_saved(result: TrainingResult, dataset: Dataset, tmp_path: Path) -> None:
    result.model.save(tmp_path / "model")
    loaded = PropensityModel.load(tmp_path / "model")
    rows = dataset.splits["test"].table
    assert np.array_equal(loaded.predict(rows).score, result.model.predict(rows).score) and loaded.digest == result.model.digest
    assert not list(tmp_path.glob(".model*"))


def test_contributions_sum_to_the_margin_and_are_shapley_values(result: TrainingResult, dataset: Dataset) -> None:
    matrix = result.model.encoder.encode(dataset.splits["test"].table.slice(0, 400))
    assert np.abs(result.model.contributions(matrix).sum(axis=1) - result.model.margins(matrix)).max() < 1e-4


def test_shuffled_labels_are_refused(dataset: Dataset) -> None:
    rng = np.random.default_rng(4)
    splits = {name: replace(split, labels=rng.permutation(split.labels)) for name, split in dataset.splits.items()}
    verdict = judge(train_on(replace(dataset, splits=splits)))
    assert not verdict.promote and "not_better_than_base_rate" in {reason.code for reason in verdict.reasons}


def test_a_challenger_within_noise_of_the_champion_is_refused(result: TrainingResult, dataset: Dataset) -> None:
    again = train_on(dataset, champion=result.model)
    assert [reason.code for reason in judge(again).reasons] == ["within_noise_of_champion"]
    better = replace(again, differences={**again.differences, CHAMPION: {"log_loss": Estimate(-0.02, -0.03, -0.01, 100)}})
    assert judge(better).promote


def test_a_model_that_exaggerates_is_refused(result: TrainingResult) -> None:
    chosen = result.candidate("xgboost")
    skewed = replace(chosen, metrics={**chosen.metrics, "calibration_slope": Estimate(0.6, 0.5, 0.7, 100)})
    others = tuple(skewed if item.name == "xgboost" else item for item in result.candidates)
    assert "calibration_slope" in {reason.code for reason in judge(replace(result, candidates=others)).reasons}


def test_a_feature_that_says_the_answer_is_refused_by_name(dataset: Dataset) -> None:
    blatant = Field("knows_the_future", "number", None, "the future", ("event_count",))
    rng = np.random.default_rng(0)
    known = {name: pa.array(split.labels + rng.normal(0, 0.2, len(split.labels))) for name, split in dataset.splits.items()}
    tables = {name: split.table.append_column("knows_the_future", known[name]) for name, split in dataset.splits.items()}
    leaking = train_on(assemble(tables, (*FIELDS, blatant), horizon_days=7, seed=7))
    verdict = judge(leaking, leaking.leaks)
    assert not verdict.promote and any("knows_the_future" in reason.sentence for reason in verdict.reasons if reason.code == "leak")


def test_a_stored_value_that_later_events_made_is_named() -> None:
    stored = pa.table({"customer_id": ["a", "b"], "as_of_at": [datetime(2026, 1, 5)] * 2, "honest": [1, 2], "leaking": [1.5, None]})
    recomputed = pa.table({"customer_id": ["b", "a"], "as_of_at": [datetime(2026, 1, 5)] * 2, "honest": [2, 1], "leaking": [None, 1.0]})
    fields = [Field(name, "number", None, name, ()) for name in ("honest", "leaking")]
    assert [leak.feature for leak in recomputed_leaks(stored, recomputed, fields)] == ["leaking"]
