"""Numbers that depend on the order of the probabilities: average precision, calibration error by bins, lift and gain by deciles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.evaluation.bootstrap import ClusterBootstrap, percentile_estimate
from ml.evaluation.estimate import Estimate

Floats = npt.NDArray[np.float64]

ECE_BINS = 20
DECILES = 10


@dataclass(frozen=True)
class Ranked:
    """What `ranked` gives. lift and gain: one Estimate a decile, highest probabilities first; gain is the share of all positives up to that decile.

    ece_if_calibrated: what the ECE of perfectly calibrated probabilities would be on as many rows: its mean and the range that holds 95 % of it.
    """

    average_precision: Estimate
    ece: Estimate
    ece_if_calibrated: Estimate
    lift: tuple[Estimate, ...]
    gain: tuple[Estimate, ...]


@dataclass(frozen=True)
class _Statistics:
    average_precision: Floats
    ece: Floats
    lift: Floats
    gain: Floats


class _Order:
    """Rows from the highest probability to the lowest. Equal probabilities stand in a random but seeded order, so that no bin favours a class."""

    def __init__(self, labels: Floats, probabilities: Floats, seed: int) -> None:
        shuffled = np.random.default_rng([seed, 1]).random(len(labels))
        self.places = np.lexsort((shuffled, -probabilities))
        self.y, self.p = labels[self.places], probabilities[self.places]
        self.ends = np.flatnonzero(np.append(np.diff(self.p) != 0, True))
        self.bins = _starts(len(labels), ECE_BINS)
        self.deciles = _starts(len(labels), DECILES)

    def statistics(self, weights: Floats) -> _Statistics:
        """Each for every row of `weights` (replicates, rows)."""
        hits = weights * self.y
        found, seen = np.cumsum(hits, axis=1), np.cumsum(weights, axis=1)
        total, everything = found[:, -1:], seen[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            at_ends = found[:, self.ends]
            precision = np.nan_to_num(at_ends / seen[:, self.ends])
            average_precision = (np.diff(at_ends, axis=1, prepend=0.0) * precision).sum(axis=1) / total[:, 0]
            off = np.add.reduceat(hits - weights * self.p, self.bins, axis=1)
            ece = np.abs(off).sum(axis=1) / everything[:, 0]
            hits_by_decile = np.add.reduceat(hits, self.deciles, axis=1)
            rows_by_decile = np.add.reduceat(weights, self.deciles, axis=1)
            lift = hits_by_decile / rows_by_decile / (total / everything)
            gain = np.cumsum(hits_by_decile, axis=1) / total
        return _Statistics(average_precision, ece, lift, gain)


def ranked(labels: npt.ArrayLike, probabilities: npt.ArrayLike, clusters: npt.ArrayLike | None = None, *, replicates: int = 200, seed: int = 0) -> Ranked:
    """Average precision (sum over thresholds of precision times the step of recall), expected calibration error on 20 equal-mass bins, lift and gain.

    labels: 0 or 1. probabilities: in [0, 1]. clusters: each row's customer. Intervals by the cluster bootstrap. The ECE is biased upwards by noise, and its
    bootstrap twice so: its interval runs from the lower end of the reflected bootstrap (at least 0) to the upper percentile, which is wide rather than wrong.
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    rows = len(y)
    order = _Order(y, p, seed)
    point = order.statistics(np.ones((1, rows)))
    bootstrap = ClusterBootstrap(clusters, rows, replicates=replicates, seed=seed)
    codes = bootstrap.codes[order.places]
    blocks = [order.statistics(draw[:, codes]) for draw in bootstrap.draws()]
    precision, ece, lift, gain = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("average_precision", "ece", "lift", "gain"))
    return Ranked(
        percentile_estimate(float(point.average_precision[0]), precision, rows),
        _ece(float(point.ece[0]), ece, rows),
        _ece_if_calibrated(order, seed),
        tuple(percentile_estimate(float(value), lift[:, decile], rows) for decile, value in enumerate(point.lift[0])),
        tuple(percentile_estimate(float(value), gain[:, decile], rows) for decile, value in enumerate(point.gain[0])),
    )


def average_precision_difference(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, clusters: npt.ArrayLike | None = None, *, replicates: int = 200, seed: int = 0
) -> Estimate:
    """Average precision of `first` minus that of `second`, on the same rows and the same draws of customers."""
    y = np.asarray(labels, dtype=np.float64)
    rows = len(y)
    a, b = (_Order(y, np.asarray(scores, dtype=np.float64), seed) for scores in (first, second))
    bootstrap = ClusterBootstrap(clusters, rows, replicates=replicates, seed=seed)
    ones = np.ones((1, rows))
    value = float(a.statistics(ones).average_precision[0] - b.statistics(ones).average_precision[0])
    replicated = [
        a.statistics(draw[:, bootstrap.codes[a.places]]).average_precision - b.statistics(draw[:, bootstrap.codes[b.places]]).average_precision
        for draw in bootstrap.draws()
    ]
    return percentile_estimate(value, np.concatenate(replicated), rows)


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, seed: int = 0) -> list[tuple[float, float, int, int]]:
    """(mean probability, share that converted, positives, rows) of each of the 20 bins, lowest probabilities first."""
    order = _Order(np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64), seed)
    ends = np.append(order.bins[1:], len(order.y))
    parts = [(order.y[first:last], order.p[first:last]) for first, last in zip(order.bins, ends, strict=True)]
    return [(float(p.mean()), float(y.mean()), int(y.sum()), len(y)) for y, p in reversed(parts)]


def _starts(rows: int, bins: int) -> npt.NDArray[np.int64]:
    """Where each of (at most) so many equal parts of the rows begins."""
    return np.unique(np.arange(bins) * rows // bins)


def _ece(value: float, replicates: Floats, rows: int) -> Estimate:
    high = np.quantile(replicates, 0.975)
    return Estimate(value, max(0.0, 2 * value - float(high)), max(value, float(high)), rows)


def _ece_if_calibrated(order: _Order, seed: int, draws: int = 2000) -> Estimate:
    """A bin's positives are nearly normal around the sum of its probabilities; independent rows."""
    deviation = np.sqrt(np.add.reduceat(order.p * (1 - order.p), order.bins))
    noise = np.abs(np.random.default_rng([seed, 2]).standard_normal((draws, len(deviation))) * deviation).sum(axis=1) / len(order.y)
    low, high = np.quantile(noise, (0.025, 0.975))
    return Estimate(float(noise.mean()), float(low), float(high), len(order.y))
