"""Scores of everybody: deciles that equal scores share, and reasons for the first of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from expectations.suites.scores import suites
from ml.models.propensity.model import PropensityModel, Scores
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.score import TABLE, score_customers
from tests.unit.propensity.synthetic import fill, population
from waymark.core.warehouse import connect, rows


class Stepped(PropensityModel):
    """Scores of few steps: what calibration does to customers whom nothing tells apart."""

    steps = 1

    def predict(self, table: pa.Table | pa.RecordBatch) -> Scores:
        found = super().predict(table)
        score = np.ceil(found.score * self.steps) / self.steps
        return replace(found, score=score, low=np.minimum(found.low, score), high=np.maximum(found.high, score))


def scored(trained: TrainingResult, steps: int) -> list[tuple[str, float, int, str | None]]:
    model = Stepped(trained.model.booster, trained.model.calibrator, trained.model.encoder)
    object.__setattr__(model, "steps", steps)
    with connect() as connection:
        fill(connection, population(700, 3, seed=4))
        connection.execute("create schema marts; create table marts.dim_customer_aliases (alias_customer_id varchar, customer_id varchar)")
        assert score_customers(connection, model, "1", batch_rows=97).rows == 700
        (rule,) = (rule for suite in suites() for rule in suite.rules if rule.name == "deciles_follow_the_scores")
        assert rows(connection, rule.failing.format(batch=TABLE, scope="true")) == []
        return cast("list[tuple[str, float, int, str | None]]", rows(connection, f"select customer_id, score, decile, reasons from {TABLE}"))


@pytest.mark.parametrize("steps", [1, 3, 20, 1_000_000_000])
def test_equal_scores_share_the_decile_that_holds_the_middle_of_their_ranks(trained: TrainingResult, steps: int) -> None:
    found = scored(trained, steps)
    scores = [score for _, score, _, _ in found]
    for _, score, decile, reasons in found:
        above, same = sum(other > score for other in scores), scores.count(score)
        middle = (above + Fraction(same - 1, 2)) / len(scores)
        assert decile == int(middle * 10) + 1
        assert (reasons is not None) == (decile == 1)
    assert len({(score, decile) for _, score, decile, _ in found}) == len(set(scores))


def test_deciles_of_different_scores_hold_a_tenth_each(trained: TrainingResult) -> None:
    found = scored(trained, 1_000_000_000)
    if len({score for _, score, _, _ in found}) == len(found):
        assert set(Counter(decile for _, _, decile, _ in found).values()) == {70}
    else:  # steps of the calibration: no decile is off by more than its largest tie
        tie = max(Counter(score for _, score, _, _ in found).values())
        assert all(abs(count - 70) <= tie for count in Counter(decile for _, _, decile, _ in found).values())
