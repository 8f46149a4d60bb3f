"""Numbers beside scikit-learn's, intervals beside resampling."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from ml.evaluation import auc, auc_difference, calibration_slope_and_intercept, compare, evaluate, logit


def _drawn(rows: int = 4000, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.6, 6, rows)
    return (rng.random(rows) < p).astype(int), p, rng.integers(0, rows // 3, rows)


def test_metrics_are_scikit_learn_s() -> None:
    y, p, customers = _drawn()
    found = evaluate(y, p, customers)
    assert found["auc"].value == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert found["average_precision"].value == pytest.approx(average_precision_score(y, p), abs=1e-9)
    assert found["log_loss"].value == pytest.approx(log_loss(y, p), abs=1e-9)
    assert found["brier"].value == pytest.approx(brier_score_loss(y, p), abs=1e-12)
    assert all(estimate.low <= estimate.value <= estimate.high for name, estimate in found.items() if not name.startswith("ece_if"))


def test_ties_in_the_scores_are_scikit_learn_s_too() -> None:
    y, p, _ = _drawn(500)
    rounded = np.round(p, 1)
    assert auc(y, rounded).value == pytest.approx(roc_auc_score(y, rounded), abs=1e-12)
    assert evaluate(y, rounded)["average_precision"].value == pytest.approx(average_precision_score(y, rounded), abs=1e-9)


def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression() -> None:
    y, p, _ = _drawn()
    skewed = 1 / (1 + np.exp(-(0.7 * logit(p) + 0.3)))
    slope, intercept, _ = calibration_slope_and_intercept(y, skewed)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(skewed)[:, None], y)
    assert slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-4) and intercept.value == pytest.approx(fitted.intercept_[0], rel=1e-3, abs=1e-3)
    assert slope.low > 1  # too flat: 1 / 0.7


def test_the_auc_interval_is_as_wide_as_resampling_customers_says() -> None:
    y, p, customers = _drawn(1500)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(customers == customer) for customer in np.unique(customers)]
    resampled = []
    for _ in range(300):
        picked = np.concatenate([members[place] for place in rng.integers(0, len(members), len(members))])
        resampled.append(roc_auc_score(y[picked], p[picked]))
    estimate = auc(y, p, customers)
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(np.std(resampled), rel=0.2)


def test_a_difference_of_equal_scores_is_nothing_and_of_unequal_ones_is_beyond_noise() -> None:
    y, p, customers = _drawn()
    assert auc_difference(y, p, p, customers).value == 0
    worse = np.clip(p + np.random.default_rng(1).normal(0, 0.2, len(p)), 1e-6, 1 - 1e-6)
    assert compare(y, p, worse, customers)["log_loss"].high < 0 < compare(y, p, worse, customers)["auc"].low
