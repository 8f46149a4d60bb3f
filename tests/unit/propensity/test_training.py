"""A gate that refuses what it should, by name: models, and features that know too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from ml.datasets import Dataset, assemble
from ml.evaluation import Estimate
from ml.features import Field
from ml.models.propensity.gate import judge
from ml.models.propensity.leaks import recomputed_leaks, univariate_leaks
from ml.models.propensity.result import CHAMPION, TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.propensity.synthetic import FIELDS


def test_trees_beat_the_baselines_and_are_promoted(trained: TrainingResult) -> None:
    assert trained.candidate("xgboost").metrics["auc"].low > 0.65
    assert judge(trained).promote, judge(trained).summary



def test_a_challenger_within_noise_of_the_champion_is_refused(trained: TrainingResult, dataset: Dataset) -> None:
    again = train_on(dataset, champion=trained.model)
    assert [reason.code for reason in judge(again).reasons] == ["within_noise_of_champion"]
    better = replace(again, differences={**again.differences, CHAMPION: {"log_loss": Estimate(-0.02, -0.03, -0.01, 100)}})
    assert judge(better).promote


def test_a_model_that_exaggerates_is_refused(trained: TrainingResult) -> None:
    chosen = trained.candidate("xgboost")
    skewed = replace(chosen, metrics={**chosen.metrics, "calibration_slope": Estimate(0.6, 0.5, 0.7, 100)})
    others = tuple(skewed if item.name == "xgboost" else item for item in trained.candidates)
    assert "calibration_slope" in {reason.code for reason in judge(replace(trained, candidates=others)).reasons}


def test_a_feature_that_says_the_answer_is_refused_by_name(dataset: Dataset) -> None:
    blatant = Field("knows_the_future", "number", None, "the future", ("event_count",))
    rng = np.random.default_rng(0)
    known = {name: pa.array(split.labels + rng.normal(0, 0.2, len(split.labels))) for name, split in dataset.splits.items()}
    tables = {name: split.table.append_column("knows_the_future", known[name]) for name, split in dataset.splits.items()}
    leaking = train_on(assemble(tables, (*FIELDS, blatant), horizon_days=7, seed=7))
    verdict = judge(leaking, leaking.leaks)
    assert not verdict.promote and any("knows_the_future" in reason.sentence for reason in verdict.reasons if reason.code == "leak")


@pytest.mark.parametrize("is_value_of_buyers", [True, False])
def test_a_feature_whose_presence_says_the_answer_is_refused_by_name(dataset: Dataset, is_value_of_buyers: bool) -> None:
    """What it says of those who have it is nothing: noise."""
    field, rng = Field("has_it_or_not", "number", None, "the future", ("event_count",)), np.random.default_rng(0)
    tables = {}
    for name, split in dataset.splits.items():
        column = pa.array(rng.normal(size=len(split.labels)), mask=(split.labels == 1) != is_value_of_buyers)
        tables[name] = split.table.append_column(field.name, column)
    leaks = univariate_leaks(assemble(tables, (*FIELDS, field), horizon_days=7, seed=7))
    assert [leak.feature for leak in leaks] == ["has_it_or_not"]
    assert univariate_leaks(dataset) == ()


def test_a_stored_value_that_later_events_made_is_named() -> None:
    stored = pa.table({"customer_id": ["a", "b"], "as_of_at": [datetime(2026, 1, 5)] * 2, "honest": [1, 2], "leaking": [1.5, None]})
    recomputed = pa.table({"customer_id": ["b", "a"], "as_of_at": [datetime(2026, 1, 5)] * 2, "honest": [2, 1], "leaking": [None, 1.0]})
    fields = [Field(name, "number", None, name, ()) for name in ("honest", "leaking")]
    assert [leak.feature for leak in recomputed_leaks(stored, recomputed, fields)] == ["leaking"]
