"""The area under the ROC curve and its variance, when customers stand in several rows.

DeLong, DeLong & Clarke-Pearson (1988) by mid-ranks (Sun & Xu 2014); with clusters, Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ml.evaluation.estimate import NOTHING, Z95, Estimate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Estimate:
    """P(a converting row scores higher than another), ties counting half, with DeLong's 95 % interval.

    labels: 0 or 1. scores: any real numbers. clusters: each row's customer as a number from 0; None means that rows are independent, which gives DeLong's
    own variance. NaN where one class is absent.
    """
    y, s = np.asarray(labels).astype(np.bool_), np.asarray(scores, dtype=np.float64)
    parts = _components(y, s)
    if parts is None:
        return Estimate(*NOTHING, n=len(y))
    value, positive, negative = parts
    return _interval(value, _variance(y, positive, negative, _codes(clusters, len(y))), len(y))


def auc_difference(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Estimate:
    """AUC of `first` minus AUC of `second` on the same rows, with the interval of the paired difference. Arguments as in `auc`."""
    y = np.asarray(labels).astype(np.bool_)
    a, b = (_components(y, np.asarray(scores, dtype=np.float64)) for scores in (first, second))
    if a is None or b is None:
        return Estimate(*NOTHING, n=len(y))
    variance = _variance(y, a[1] - b[1], a[2] - b[2], _codes(clusters, len(y)))
    half = Z95 * float(np.sqrt(variance))
    value = a[0] - b[0]
    return Estimate(value, value - half, value + half, len(y))


def _components(y: npt.NDArray[np.bool_], s: Floats) -> tuple[float, Floats, Floats] | None:
    """AUC; each positive row's share of negatives below it; each negative row's share of positives above it."""
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return None
    overall = rankdata(s)
    of_positive = (overall[y] - rankdata(s[y])) / negatives
    of_negative = 1.0 - (overall[~y] - rankdata(s[~y])) / positives
    return float(of_positive.mean()), of_positive, of_negative


def _variance(y: npt.NDArray[np.bool_], positive: Floats, negative: Floats, codes: Ints) -> float:
    """Obuchowski's clustered variance of the mean of the components; DeLong's where each row is its own cluster."""
    count = int(codes.max()) + 1
    m, n = len(positive), len(negative)
    up = np.bincount(codes[y], positive - positive.mean(), count)
    down = np.bincount(codes[~y], negative - negative.mean(), count)
    with_positive = len(np.unique(codes[y]))
    with_negative = len(np.unique(codes[~y]))
    if with_positive < 2 or with_negative < 2:
        return float("nan")
    first = with_positive / (with_positive - 1) * float(up @ up) / m**2
    second = with_negative / (with_negative - 1) * float(down @ down) / n**2
    both = count / (count - 1) * float(up @ down) / (m * n)
    return first + second + 2 * both


def _codes(clusters: npt.ArrayLike | None, rows: int) -> Ints:
    return np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)


def _interval(value: float, variance: float, rows: int) -> Estimate:
    half = Z95 * float(np.sqrt(variance))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), rows) if np.isfinite(half) else Estimate(value, float("nan"), float("nan"), rows)
