"""Venn-Abers beside brute force; the interval beside known probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from ml.models.propensity.calibration import Calibrator, VennAbers

ROWS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_p0_and_p1_are_isotonic_refits_with_the_row_added(rows: list[tuple[int, bool]]) -> None:
    margins, labels = np.asarray([place / 4 for place, _ in rows]), np.asarray([int(hit) for _, hit in rows])
    fitted = VennAbers.fit(margins, labels)
    wanted = np.sort(np.concatenate([np.unique(margins), np.unique(margins) + 0.1, [-9.0, 9.0]]))
    for label, found in zip((0, 1), fitted.predict(wanted), strict=True):
        refitted = [IsotonicRegression().fit(np.append(margins, at), np.append(labels, label)).predict([at])[0] for at in wanted]
        assert found == pytest.approx(np.asarray(refitted), abs=1e-7)


def _coverage(seed: int, rows: int = 8000) -> float:
    """Share of rows whose interval holds the true probability; the margin is a distorted logit of it, as a model's would be."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3.5, 1.4, rows)
    p, margins = 1 / (1 + np.exp(-logits)), 1.3 * logits + 0.4 + 0.15 * np.sin(logits)
    calibrator = Calibrator.fit(margins, rng.random(rows) < p, np.arange(rows))
    low, high = calibrator.interval(margins)
    score = calibrator.score(margins)
    assert np.all((low <= score) & (score <= high) & (low >= 0) & (high <= 1))
    return float(((low <= p) & (p <= high)).mean())


def test_the_interval_holds_most_true_probabilities() -> None:
    assert np.mean([_coverage(seed) for seed in range(4)]) > 0.75


@pytest.mark.prove
def test_the_interval_holds_the_true_probability_as_often_as_it_says(record_property: Callable[[str, object], None]) -> None:
    found = np.asarray([_coverage(seed) for seed in range(40)])
    mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))
    record_property("claim", f"The score's 90 % interval holds the true probability: share {mean:.3f}, standard error {error:.3f} over seeds")
    record_property("n", "40 populations of 8,000 with known probability")
    record_property("seed", "0-39")
    record_property("interval", "mean within 2 points of 0.90 plus 3.9 standard errors")
    assert abs(mean - 0.90) < 0.02 + 3.9 * error
