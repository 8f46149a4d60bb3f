"""Venn-Abers against isotonic regression that is refitted for every row, and what the interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from ml.evaluation import sigmoid
from ml.models.propensity.calibration import LEVEL, Calibrator, VennAbers, merged_score


def refitted(margins: np.ndarray, labels: np.ndarray, margin: float, label: float) -> float:
    """Isotonic regression of all rows and the new one, at the new one."""
    fit = IsotonicRegression().fit(np.append(margins, margin), np.append(labels, label))
    return float(fit.predict([margin])[0])


CASES = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=1, max_size=40)


@given(CASES, st.lists(st.integers(-19, 19), min_size=1, max_size=5))
def test_venn_abers_is_what_refitting_gives(case: list[tuple[int, bool]], halves: list[int]) -> None:
    margins, labels = np.array([row[0] for row in case], dtype=float), np.array([row[1] for row in case], dtype=float)
    wanted = np.array(halves) / 2  # at the rows' own margins, between them and outside them
    p0, p1 = VennAbers.fit(margins, labels).predict(wanted)
    for place, margin in enumerate(wanted):
        assert p0[place] == pytest.approx(refitted(margins, labels, margin, 0.0), abs=1e-9)
        assert p1[place] == pytest.approx(refitted(margins, labels, margin, 1.0), abs=1e-9)
    assert (p0 <= p1 + 1e-12).all()


def test_scores_rise_with_the_margin_and_lie_within_their_interval() -> None:
    draw = np.random.default_rng(5)
    margins = draw.normal(-3, 1.2, 3_000)
    calibrator = Calibrator.fit(margins, draw.random(3_000) < sigmoid(margins), np.arange(3_000))
    grid = np.linspace(-9, 4, 400)
    score, (low, high) = calibrator.score(grid), calibrator.interval(grid)
    assert (np.diff(score) >= -1e-12).all()
    assert ((low >= 0) & (low <= score) & (score <= high) & (high <= 1)).all()


def test_scores_of_many_rows_are_computed_by_step_and_equal_those_of_each_row() -> None:
    draw = np.random.default_rng(6)
    margins = draw.normal(-3, 1.2, 2_000)
    calibrator = Calibrator.fit(margins, draw.random(2_000) < sigmoid(margins), np.arange(2_000))
    wanted = np.concatenate((draw.normal(-3, 3, 5_000), [-40.0, 40.0, margins[0], margins[0]]))
    np.testing.assert_array_equal(np.array(calibrator.predict(wanted)), np.array([calibrator.score(wanted), *calibrator.interval(wanted)]))
    assert all(len(part) == 0 for part in calibrator.predict([]))


def test_one_pair_merges_to_itself_and_several_to_between_them() -> None:
    one, other = (np.array([0.1, 0.0, 1.0]), np.array([0.3, 0.2, 1.0])), (np.array([0.2, 0.0, 0.7]), np.array([0.5, 0.1, 0.9]))
    alone = [p1 / (1 - p0 + p1) for p0, p1 in (one, other)]
    np.testing.assert_allclose(merged_score([one]), alone[0])
    both = merged_score([one, other])
    assert ((both >= np.minimum(*alone) - 1e-12) & (both <= np.maximum(*alone) + 1e-12)).all()


def rare(seed: int, rows: int = 16_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins, labels and true log-odds of rows of which one in forty converts; a row's own log-odds lie around its margin by 0.5."""
    draw = np.random.default_rng(seed)
    margins = draw.normal(-4.9, 1.6, rows)
    truth = margins + draw.normal(0, 0.5, rows)
    return margins, draw.random(rows) < sigmoid(truth), truth


def test_scores_are_nearer_to_the_level_of_their_rows_than_the_minimax_choice() -> None:
    levels = []
    for seed in range(4):
        margins, labels, _ = rare(seed)
        calibrator = Calibrator.fit(margins, labels, np.arange(len(margins)))
        p0, p1 = calibrator.venn_abers.predict(margins)
        score = calibrator.score(margins)
        assert ((p0 - 1e-12 <= score) & (score <= p1 + 1e-12)).all()
        levels.append([score.mean() / labels.mean(), (p1 / (1 - p0 + p1)).mean() / labels.mean()])
    mine, minimax = np.mean(levels, axis=0)
    assert abs(mine - 1) < 0.035 and minimax > 1.05


def test_a_spread_makes_the_interval_one_of_a_row_s_own_probability() -> None:
    margins, labels, _ = rare(11)
    refits = [(truth, learnt) for learnt, _, truth in (rare(12), rare(13))]
    plain = Calibrator.fit(margins, labels, np.arange(len(margins)))
    wide = plain.with_spread(margins, labels, refits)
    fresh, _, truth = rare(14)
    own = sigmoid(truth)
    low, high = plain.interval(fresh)
    assert ((low <= own) & (own <= high)).mean() < 0.6
    np.testing.assert_array_equal(plain.score(fresh), wide.score(fresh))
    low, high = wide.interval(fresh)
    assert 0.02 < (own > high).mean() < 0.07
    busy = fresh > np.quantile(fresh, 0.8)  # below, the lower end is lower than the spread asks for; and the curve's own band comes on top
    assert 0.87 < ((low <= own) & (own <= high))[busy].mean() < 0.97
    assert ((low <= wide.score(fresh)) & (wide.score(fresh) <= high)).all()


def test_where_nobody_converted_the_interval_reaches_to_nothing() -> None:
    margins, labels, _ = rare(15)
    labels = labels & (margins > np.quantile(margins, 0.4))
    calibrator = Calibrator.fit(margins, labels, np.arange(len(margins)))
    refits = [(truth, learnt) for learnt, _, truth in (rare(16),)]
    low, high = calibrator.with_spread(margins, labels, refits).interval(margins)
    bottom = margins < np.quantile(margins, 0.3)
    assert (low[bottom] < 1e-12).all() and (high[bottom] > 0).all()
    assert (low[margins > np.quantile(margins, 0.9)] > 1e-3).all()


def coverage(seed: int, customers: int = 3_000) -> tuple[float, float]:
    """Share of new rows whose interval holds the chance they are drawn with, and the mean width over the mean chance.

    Customers have several rows of one persistent trait; the model's margin bends the chance and leaves nothing else of it out.
    """
    draw = np.random.default_rng(seed)
    owners = np.repeat(np.arange(customers), 3)
    margins = (draw.normal(-3.2, 1.0, customers)[owners] + draw.normal(0, 0.5, len(owners))) * 1.3 + 0.4
    chance = lambda m: sigmoid(-0.3 + 0.7 * m)  # noqa: E731
    calibrator = Calibrator.fit(margins, draw.random(len(owners)) < chance(margins), owners)
    fresh = draw.normal(-3.2, np.hypot(1.0, 0.5), 4_000) * 1.3 + 0.4
    low, high = calibrator.interval(fresh)
    truth = chance(fresh)
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean() / truth.mean())


def test_the_interval_covers_and_is_narrow() -> None:
    """Coverage within one fit is correlated from row to row, so its mean over fits is judged, loosely here; the proof has many."""
    found = np.array([coverage(seed) for seed in range(6)])
    assert found[:, 0].mean() > 0.75
    assert found[:, 1].mean() < 0.5


@pytest.mark.prove
def test_interval_coverage_over_many_fits(record_property: object) -> None:
    """Each fit gives the share of 4,000 new rows that are covered; fits are independent, rows of one fit are not."""
    seeds = 200
    shares = np.array([coverage(1_000 + seed)[0] for seed in range(seeds)])
    mean, error = float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(seeds))
    assert callable(record_property)
    record_property("claim", f"The score's interval covers the true probability within 2 points of {LEVEL:.0%}")
    record_property("n", seeds)
    record_property("seed", "1000-1199")
    record_property("interval", f"{mean:.3f} +- {1.96 * error:.3f}")
    assert mean - 3.9 * error <= LEVEL + 0.02 and mean + 3.9 * error >= LEVEL - 0.02
