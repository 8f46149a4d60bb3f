"""From a model's margin to a probability that can be taken at its word, learnt on rows that the model has not seen.

Two estimates of P(outcome | margin) are made. An inductive Venn-Abers predictor (Vovk & Petej 2014, "Venn-Abers predictors"; Vovk, Petej & Fedorova 2015):
p0 and p1 are what isotonic regression of the calibration rows gives at a new row's margin once the row is added with outcome 0, or 1. And a smooth curve:
logistic regression on a natural cubic spline of the margin. The score is the curve's probability, kept between p0 and p1. The curve has the level of
the rows it learnt from; where its shape does not fit them, the pair holds it. The minimax choice p1 / (1 - p0 + p1) leans upwards where few rows convert:
with 400 of 16,000 it is 5.9 % above their level in the mean, the score 2.5 %.

The interval is at 90 % and of the row's own probability. Three things make its width: the curve's covariance, summed by customer; how far a model lies from
the truth, when the truth is known: the same trees, grown again on outcomes drawn from what was learnt (the parametric bootstrap, Efron & Tibshirani 1993, 6.5);
and at the lower end, how little so few rows can say: where hardly any row converts, no more than the exact lower bound of the share that does among all
rows up to that margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from ml.evaluation import sigmoid

Floats = npt.NDArray[np.float64]

LEVEL = 0.90
_Z = 1.6448536269514722
# Knots stand where converting rows are, so that each piece of the curve has some to learn from.
_KNOTS = (0.10, 0.50, 0.90)
_LEAST_HITS = 30
_STEPS = 60
_RIDGE = 1e-6
# Margins are told apart to this much; finer differences than a thousandth of a logit are noise.
_GRAIN = 1e-3
_TAIL = (1 - LEVEL) / 2
_SPREAD_BINS = 20
_FLOOR_PLACES = 200
# With as many converting rows up to a margin, rows can tell how few convert there. Of 3, 10, 30 and 100, 10 kept the coverage of all rows nearest to 90 % on
# eleven worlds with an oracle, other ones than those that the proof grades.
_FEW_HITS = 10


@dataclass(frozen=True)
class VennAbers:
    """points: the distinct margins of the calibration rows, rising. p0, p1: (2k + 1) values; place 2i is the gap before points[i], 2i + 1 the point itself."""

    points: Floats
    p0: Floats
    p1: Floats

    @classmethod
    def fit(cls, margins: npt.ArrayLike, labels: npt.ArrayLike) -> VennAbers:
        """margins: any real numbers; labels: 0 or 1; at least one row."""
        points, places = np.unique(grained(margins), return_inverse=True)
        weights = np.bincount(places).astype(np.float64)
        hits = np.bincount(places, np.asarray(labels, dtype=np.float64)).astype(np.float64)
        return cls(points, _inserted(weights, hits, 0.0), _inserted(weights, hits, 1.0))

    def predict(self, margins: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(p0, p1) of each margin."""
        wanted = grained(margins)
        left, right = np.searchsorted(self.points, wanted, "left"), np.searchsorted(self.points, wanted, "right")
        places = left + right
        return self.p0[places], self.p1[places]


def grained(margins: npt.ArrayLike) -> Floats:
    """Margins in steps of a thousandth."""
    return np.asarray(np.round(np.asarray(margins, dtype=np.float64) / _GRAIN) * _GRAIN)


def _inserted(weights: Floats, hits: Floats, label: float) -> Floats:
    """The isotonic fit at a row of weight 1 and this label, for each place where it can stand among k groups: 2k + 1 values.

    Isotonic regression is the slope of the greatest convex minorant of the cumulative sums. The row adds the segment from the last point to its left to the
    first to its right, moved by (1, label); its slope is that of the common tangent of the hulls on both sides, or max over the left vertices of the least
    slope to the right ones. Hulls have few vertices, so each place costs little.
    """
    count = len(weights)
    x, y = np.concatenate(([0.0], np.cumsum(weights))), np.concatenate(([0.0], np.cumsum(hits)))
    right_hulls = _suffix_hulls(x, y)
    left: list[int] = []
    found = np.empty(2 * count + 1)
    for place in range(count + 1):
        _push(left, place, x, y)
        found[2 * place] = _tangent(x, y, left, right_hulls[place], label)
        if place < count:  # at the point itself its group is on neither side
            found[2 * place + 1] = _tangent(x, y, left, right_hulls[place + 1], label)
    return found


def _push(hull: list[int], vertex: int, x: Floats, y: Floats) -> None:
    """Adds a vertex on the right to a lower hull."""
    while len(hull) > 1:
        a, b = hull[-2], hull[-1]
        if (y[b] - y[a]) * (x[vertex] - x[b]) >= (y[vertex] - y[b]) * (x[b] - x[a]):
            hull.pop()
        else:
            break
    hull.append(vertex)


def _suffix_hulls(x: Floats, y: Floats) -> list[tuple[int, ...]]:
    """The lower hull of points i … k, for each i, as vertices from left to right."""
    hull: list[int] = []  # from right to left
    found: list[tuple[int, ...]] = [()] * len(x)
    for vertex in range(len(x) - 1, -1, -1):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[vertex]) * (x[a] - x[b]) >= (y[a] - y[b]) * (x[b] - x[vertex]):
                hull.pop()
            else:
                break
        hull.append(vertex)
        found[vertex] = tuple(reversed(hull))
    return found


def _tangent(x: Floats, y: Floats, left: list[int], right: tuple[int, ...], label: float) -> float:
    a, b = np.asarray(left), np.asarray(right)
    slopes = (y[b] + label - y[a][:, None]) / (x[b] + 1.0 - x[a][:, None])
    return float(slopes.min(axis=1).max())


def merged_score(pairs: Sequence[tuple[Floats, Floats]]) -> Floats:
    """One probability of several Venn-Abers pairs (p0, p1), each of a model and calibration rows of its own: cross Venn-Abers prediction.

    GM(p1) / (GM(1 - p0) + GM(p1)) with geometric means GM over the pairs, which is minimax for log-loss (Vovk, Petej & Fedorova 2015). For data without
    time, where folds can take turns at calibration and no row is lost to training.
    """
    p0, p1 = (np.clip(np.array([pair[place] for pair in pairs]), 0.0, 1.0) for place in (0, 1))
    with np.errstate(divide="ignore"):
        yes, no = np.exp(np.log(p1).mean(axis=0)), np.exp(np.log(1 - p0).mean(axis=0))
    return np.asarray(yes / (yes + no))


@dataclass(frozen=True)
class CalibrationBand:
    """knots: of the natural cubic spline over margins. coefficients and their covariance: of a logistic regression on [1, spline]."""

    knots: Floats
    coefficients: Floats
    covariance: Floats

    @classmethod
    def fit(cls, margins: npt.ArrayLike, labels: npt.ArrayLike, customers: npt.ArrayLike) -> CalibrationBand:
        """customers: each row's customer as a number; rows of one customer are not taken to be independent."""
        m, target = grained(margins), np.asarray(labels, dtype=np.float64)
        hits = m[target > 0]
        knots = np.unique(np.quantile(hits, _KNOTS)) if len(hits) >= _LEAST_HITS else np.zeros(0)
        design = _spline(m, knots)
        beta = _logistic(design, target)
        p = sigmoid(design @ beta)
        bread = np.linalg.pinv(design.T @ (design * (p * (1 - p))[:, None]) + _RIDGE * np.eye(design.shape[1]))
        codes = np.unique(np.asarray(customers), return_inverse=True)[1]
        scores = np.column_stack([np.bincount(codes, design[:, column] * (target - p)) for column in range(design.shape[1])])
        return cls(knots, beta, bread @ (scores.T @ scores) @ bread)

    def curve(self, margins: npt.ArrayLike) -> Floats:
        """Log-odds of P(outcome | margin)."""
        return np.asarray(_spline(grained(margins), self.knots) @ self.coefficients)

    def half_width(self, margins: npt.ArrayLike) -> Floats:
        """Half of the curve's 90 % band, in log-odds."""
        design = _spline(grained(margins), self.knots)
        return np.asarray(_Z * np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", design, self.covariance, design), 0.0)))

    def interval(self, margins: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The 90 % band of P(outcome | margin)."""
        center, half = self.curve(margins), self.half_width(margins)
        return sigmoid(center - half), sigmoid(center + half)


def _logistic(design: Floats, target: Floats) -> Floats:
    """Newton's method, with steps that are kept short; target: 0 to 1."""
    beta = np.zeros(design.shape[1])
    rate = np.clip(target.mean(), 1e-6, 1 - 1e-6)
    beta[0] = np.log(rate / (1 - rate))
    ridge = _RIDGE * np.eye(design.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(design @ beta)
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, design.T @ (target - p) - _RIDGE * beta)
        beta = beta + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return beta


def _spline(margins: Floats, knots: Floats) -> Floats:
    """Columns 1, m and the natural cubic basis of the knots (Hastie, Tibshirani & Friedman, 5.2.1), scaled; linear beyond the outer knots."""
    if len(knots) < len(_KNOTS):
        return np.column_stack((np.ones(len(margins)), margins))
    scale = knots[-1] - knots[0]
    m, k = (margins - knots[0]) / scale, (knots - knots[0]) / scale

    def cubed(place: int) -> Floats:
        return np.asarray((np.maximum(m - k[place], 0) ** 3 - np.maximum(m - k[-1], 0) ** 3) / (k[-1] - k[place]))

    last = cubed(len(k) - 2)
    return np.column_stack([np.ones(len(m)), m, *(cubed(place) - last for place in range(len(k) - 2))])


@dataclass(frozen=True)
class Spread:
    """How far a row's own probability may lie from the curve. Without levels, nothing is known of it.

    levels: rising log-odds on the curve. below, above: how far from it the 5th and the 95th percentile of the truth lie there, in log-odds, 0 or more.
    places: rising log-odds on the curve, as far as few calibration rows up to there convert. floor: what the share that does is not under, at 95 %.
    """

    levels: Floats
    below: Floats
    above: Floats
    places: Floats
    floor: Floats

    @classmethod
    def nothing(cls) -> Spread:
        return cls(*[np.zeros(0)] * 5)

    @classmethod
    def fit(cls, curve: Floats, labels: npt.ArrayLike, knots: Floats, refits: Sequence[tuple[Floats, Floats]]) -> Spread:
        """curve: log-odds of the calibration rows on it; labels: theirs. refits, at least one: true log-odds of those rows, and the margins of a model that
        has learnt from outcomes drawn by that truth."""
        levels, errors = [], []
        for truth, learnt in refits:
            design = _spline(grained(learnt), knots)
            level = design @ _logistic(design, sigmoid(truth))  # calibrated without noise: the noise is the band's
            levels.append(level)
            errors.append(truth - level)
        level, error = np.concatenate(levels), np.concatenate(errors)
        parts = [part for part in np.array_split(np.argsort(level, kind="stable"), _SPREAD_BINS) if len(part)]
        low, high = np.array([np.quantile(error[part], (_TAIL, 1 - _TAIL)) for part in parts]).T
        centers = np.array([np.median(level[part]) for part in parts])
        ordered = np.argsort(curve, kind="stable")
        rows = np.unique(np.linspace(1, len(ordered), _FLOOR_PLACES).round().astype(np.int64))
        hits = np.cumsum(np.asarray(labels, dtype=np.float64)[ordered])[rows - 1]
        rows, hits = rows[hits < _FEW_HITS], hits[hits < _FEW_HITS]
        floor = np.where(hits > 0, beta.ppf(_TAIL, np.maximum(hits, 1), rows - hits + 1), 0.0)
        # a share over more rows with higher margins is no less, whatever chance says
        floor = np.minimum.accumulate(floor[::-1])[::-1]
        return cls(centers, np.maximum(-low, 0.0), np.maximum(high, 0.0), curve[ordered][rows - 1], floor)


@dataclass(frozen=True)
class Calibrator:
    """Margins to (score, low, high)."""

    venn_abers: VennAbers
    band: CalibrationBand
    spread: Spread

    @classmethod
    def fit(cls, margins: npt.ArrayLike, labels: npt.ArrayLike, customers: npt.ArrayLike) -> Calibrator:
        """Without a spread: the interval is of P(outcome | margin) until `with_spread`."""
        return cls(VennAbers.fit(margins, labels), CalibrationBand.fit(margins, labels, customers), Spread.nothing())

    def with_spread(self, margins: npt.ArrayLike, labels: npt.ArrayLike, refits: Sequence[tuple[Floats, Floats]]) -> Calibrator:
        """The same scores, with intervals of a row's own probability. margins, labels: of the calibration rows; refits: as in `Spread.fit`."""
        return replace(self, spread=Spread.fit(self.band.curve(margins), labels, self.band.knots, refits))

    def predict(self, margins: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """(score, low, high) as `score` and `interval` give them, computed once for each step of the margin rather than for each row."""
        steps = np.rint(np.asarray(margins, dtype=np.float64) / _GRAIN).astype(np.int64)
        if not len(steps):
            return np.zeros(0), np.zeros(0), np.zeros(0)
        first = int(steps.min())
        places = steps - first
        seen = np.flatnonzero(np.bincount(places))
        distinct = (seen + first) * _GRAIN
        low, high = self.interval(distinct)
        found = []
        for values in (self.score(distinct), low, high):
            spread = np.empty(int(seen[-1]) + 1)
            spread[seen] = values
            found.append(spread[places])
        return found[0], found[1], found[2]

    def score(self, margins: npt.ArrayLike) -> Floats:
        """Calibrated probabilities in (0, 1)."""
        p0, p1 = self.venn_abers.predict(margins)
        return np.clip(sigmoid(self.band.curve(margins)), np.minimum(p0, p1), p1)

    def interval(self, margins: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The interval at 90 %, widened where it must be to hold the score."""
        score, center, half = self.score(margins), self.band.curve(margins), self.band.half_width(margins)
        below = above = half
        floor = np.ones(len(score))
        if len(self.spread.levels):
            below, above = (np.hypot(half, np.interp(center, self.spread.levels, by)) for by in (self.spread.below, self.spread.above))
        if len(self.spread.places):
            floor = np.where(center <= self.spread.places[-1], np.interp(center - below, self.spread.places, self.spread.floor), 1.0)
        low, high = np.minimum(sigmoid(center - below), floor), sigmoid(center + above)
        return np.minimum(low, score), np.maximum(high, score)
