"""Contributions against Shapley values by their definition, over all subsets of eight features."""

from __future__ import annotations

import json
from itertools import combinations
from math import comb, log
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from ml.datasets import Dataset, Matrix, assemble
from ml.features import Field
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.propensity.synthetic import population

Floats = npt.NDArray[np.float64]
FIELDS = tuple(Field(f"f{number}", "number", None, "", ()) for number in range(8))
ROWS = 40


def eight_features(rows: int, seed: int, week: int) -> pa.Table:
    """Features that act together and are related, with gaps in one."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, 8))
    x[:, 1] += x[:, 0]
    margin = -1.5 + 0.8 * x[:, 0] - 0.5 * x[:, 1] + 0.9 * (x[:, 2] > 0) * x[:, 3] + 0.4 * np.abs(x[:, 4]) + 0.3 * x[:, 5] * x[:, 6]
    x[draw.random(rows) < 0.2, 3] = np.nan
    points = np.datetime64("2026-01-05", "us") + (week + np.arange(rows) * 3 // rows) * np.timedelta64(7, "D")
    columns: dict[str, Any] = {f"f{number}": pa.array(x[:, number], from_pandas=True) for number in range(8)}
    labels = draw.random(rows) < 1 / (1 + np.exp(-margin))
    return pa.table({"customer_id": [f"c{n}" for n in range(rows)], "as_of_at": pa.array(points), **columns, "is_converted": labels})


@pytest.fixture(scope="module")
def eight() -> Dataset:
    tables = {name: eight_features(1_500, seed, week) for seed, (name, week) in enumerate((("train", 0), ("calibration", 4), ("test", 8)))}
    return assemble(tables, FIELDS, horizon_days=7, seed=7)


@pytest.fixture(scope="module")
def model(eight: Dataset) -> PropensityModel:
    return train_on(eight).model


def dumped(model: PropensityModel) -> tuple[float, list[dict[str, Any]]]:
    """The margin before any tree, and the trees, from XGBoost's JSON."""
    learner = json.loads(bytes(model.booster.save_raw("json")))["learner"]
    share = float(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    return log(share / (1 - share)), learner["gradient_booster"]["model"]["trees"]


def expected_value(tree: dict[str, Any], rows: Matrix, known: frozenset[int], node: int = 0) -> Floats:
    """Each row's mean over the tree given its known features: where a split's is not known, both ways, by the weight of training rows that went there.

    Lundberg, Erion & Lee (2018), algorithm 1.
    """
    left, right = tree["left_children"][node], tree["right_children"][node]
    if left < 0:
        return np.full(len(rows), float(np.float32(tree["split_conditions"][node])))  # of a leaf: its value
    feature = tree["split_indices"][node]
    values = [expected_value(tree, rows, known, child) for child in (left, right)]
    if feature in known:
        column = rows[:, feature]
        is_left = np.where(np.isnan(column), bool(tree["default_left"][node]), column < np.float32(tree["split_conditions"][node]))
        return np.where(is_left, *values)
    weights = [float(np.float32(tree["sum_hessian"][child])) for child in (left, right)]
    return np.asarray((weights[0] * values[0] + weights[1] * values[1]) / sum(weights))


def shapley_values(trees: list[dict[str, Any]], rows: Matrix) -> Floats:
    """(rows, features + 1), by the definition: the mean, over orders, of what a feature adds to those before it; last, the value of knowing nothing."""
    count = rows.shape[1]
    subsets = [frozenset(chosen) for size in range(count + 1) for chosen in combinations(range(count), size)]
    value = {subset: sum((expected_value(tree, rows, subset) for tree in trees), np.zeros(len(rows))) for subset in subsets}
    found = np.zeros((len(rows), count + 1))
    for feature in range(count):
        for subset in subsets:
            if feature not in subset:
                found[:, feature] += (value[subset | {feature}] - value[subset]) / (count * comb(count - 1, len(subset)))
    found[:, count] = value[frozenset()]
    return found


def test_contributions_are_shapley_values_by_their_definition(model: PropensityModel, eight: Dataset) -> None:
    matrix = model.encoder.encode(eight.splits["test"].table)[:ROWS]
    base, trees = dumped(model)
    assert len(trees) > 10 and np.isnan(matrix[:, 3]).any()
    expected = shapley_values(trees, matrix)
    expected[:, -1] += base
    np.testing.assert_allclose(model.contributions(matrix), expected, rtol=0, atol=1e-6)
    assert np.abs(expected[:, :-1]).max() > 0.3  # there is something to share out


def test_contributions_sum_to_the_margin(model: PropensityModel, eight: Dataset, trained: TrainingResult) -> None:
    """That of the leaves which a row ends in, added up in double precision. XGBoost's own adds trees in single precision, and is further off."""
    for one, table in ((model, eight.splits["test"].table), (trained.model, population(900, 2, seed=11))):
        matrix = one.encoder.encode(table)
        base, trees = dumped(one)
        margin = base + sum((expected_value(tree, matrix, frozenset(range(matrix.shape[1]))) for tree in trees), np.zeros(len(matrix)))
        np.testing.assert_allclose(one.contributions(matrix).sum(axis=1), margin, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.margins(matrix), margin, rtol=0, atol=5e-6)
