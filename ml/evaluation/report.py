"""The whole of an evaluation: metrics of probabilities, differences between two of them, stability over parts of the rows, curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import beta

from ml.evaluation.auc import auc, auc_difference
from ml.evaluation.bootstrap import REPLICATES, ClusterBootstrap, percentile_estimate
from ml.evaluation.estimate import NOTHING, Z95, Estimate
from ml.evaluation.ranked import average_precision_difference, ranked, reliability
from ml.evaluation.recalibration import CLIP, calibration_slope_and_intercept

Floats = npt.NDArray[np.float64]

METRICS = (
    "auc", "average_precision", "log_loss", "brier", "calibration_slope", "calibration_intercept", "calibration_in_the_large",
    "ece", "ece_if_calibrated", "lift_top_decile", "gain_top_decile",
)  # fmt: skip
COMPARED = ("auc", "average_precision", "log_loss", "brier")


def log_losses(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
    """Each row's -log of the probability given to what happened, in nats; probabilities are kept within [1e-9, 1 - 1e-9]."""
    y, p = np.asarray(labels, dtype=np.float64), np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(-np.where(y > 0.5, np.log(p), np.log1p(-p)))


def squared_errors(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
    """Each row's (probability - outcome) squared; their mean is the Brier score."""
    return np.asarray((np.asarray(probabilities, dtype=np.float64) - np.asarray(labels, dtype=np.float64)) ** 2)


def evaluate(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, clusters: npt.ArrayLike | None = None, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Estimate]:
    """Every metric of METRICS with its 95 % interval, from rows of which several may be one customer's.

    labels: 0 or 1, (n,). probabilities: in [0, 1], (n,). clusters: each row's customer, (n,), or None for independent rows.
    AUC's interval is DeLong's for clustered rows, slope's and intercepts' the cluster-robust sandwich's, the others' the cluster bootstrap's, seeded.
    Raises ValueError where the arrays differ in length or are empty.
    """
    rows = _length(labels, probabilities, clusters)
    by_rank = ranked(labels, probabilities, clusters, replicates=replicates, seed=seed)
    slope, intercept, large = calibration_slope_and_intercept(labels, probabilities, clusters)
    losses, errors = log_losses(labels, probabilities), squared_errors(labels, probabilities)
    replicated = ClusterBootstrap(clusters, rows, replicates=replicates, seed=seed).means(losses, errors)
    return {
        "auc": auc(labels, probabilities, clusters),
        "average_precision": by_rank.average_precision,
        "log_loss": percentile_estimate(float(losses.mean()), replicated[0], rows),
        "brier": percentile_estimate(float(errors.mean()), replicated[1], rows),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "calibration_in_the_large": large,
        "ece": by_rank.ece,
        "ece_if_calibrated": by_rank.ece_if_calibrated,
        "lift_top_decile": by_rank.lift[0],
        "gain_top_decile": by_rank.gain[0],
    }


def compare(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, clusters: npt.ArrayLike | None = None, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Estimate]:
    """The metrics of COMPARED, `first` minus `second`, paired row by row: `difference.excludes(0)` says whether it is beyond noise.

    Arguments as in `evaluate`. A log-loss or Brier difference under 0 speaks for `first`, an AUC or average precision difference over 0 does.
    """
    rows = _length(labels, first, second, clusters)
    losses = log_losses(labels, first) - log_losses(labels, second)
    errors = squared_errors(labels, first) - squared_errors(labels, second)
    replicated = ClusterBootstrap(clusters, rows, replicates=replicates, seed=seed).means(losses, errors)
    return {
        "auc": auc_difference(labels, first, second, clusters),
        "average_precision": average_precision_difference(labels, first, second, clusters, replicates=replicates, seed=seed),
        "log_loss": percentile_estimate(float(losses.mean()), replicated[0], rows),
        "brier": percentile_estimate(float(errors.mean()), replicated[1], rows),
    }


def stability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, parts: Mapping[str, npt.ArrayLike], clusters: npt.ArrayLike | None = None
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """For each named partition of the rows (week, a segment) and each of its values: auc, log_loss, conversion_rate, mean_score, calibration_gap.

    calibration_gap: the share that converted minus the mean probability; 0 is perfect. Intervals are analytic and robust to repeated customers, because
    parts are many. Values are in ascending order of their text.
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    codes = np.arange(len(y)) if clusters is None else np.asarray(clusters)
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for name, values in parts.items():
        texts = np.asarray(values).astype(str)
        found[name] = {}
        for value in np.unique(texts):
            at = texts == value
            found[name][str(value)] = {
                "auc": auc(y[at], p[at], codes[at]),
                "log_loss": mean_estimate(log_losses(y[at], p[at]), codes[at]),
                "conversion_rate": mean_estimate(y[at], codes[at]),
                "mean_score": mean_estimate(p[at], codes[at]),
                "calibration_gap": mean_estimate(y[at] - p[at], codes[at]),
            }
    return found


def mean_estimate(values: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Estimate:
    """The mean with its cluster-robust 95 % interval; NaN bounds for a single cluster."""
    x = np.asarray(values, dtype=np.float64)
    rows = len(x)
    if not rows:
        return Estimate(*NOTHING, n=0)
    codes = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    count, mean = int(codes.max()) + 1, float(x.mean())
    if count < 2:
        return Estimate(mean, *NOTHING[1:], n=rows)
    sums = np.bincount(codes, x - mean, count)
    half = Z95 * float(np.sqrt(sums @ sums * count / (count - 1))) / rows
    return Estimate(mean, mean - half, mean + half, rows)


def curves(labels: npt.ArrayLike, probabilities: npt.ArrayLike, clusters: npt.ArrayLike | None = None, *, seed: int = 0) -> dict[str, pa.Table]:
    """reliability: probability, observed, low, high, n of 20 equal-mass bins (Clopper-Pearson 95 %). gain: decile (1 = top), lift and gain with low, high."""
    bins = reliability(labels, probabilities, seed=seed)
    by_rank = ranked(labels, probabilities, clusters, seed=seed)
    exact = [clopper_pearson(positives, rows) for _, _, positives, rows in bins]
    gain: dict[str, list[float]] = {"decile": list(range(1, len(by_rank.lift) + 1))}
    for name, estimates in (("lift", by_rank.lift), ("gain", by_rank.gain)):
        gain[name] = [estimate.value for estimate in estimates]
        gain[f"{name}_low"] = [estimate.low for estimate in estimates]
        gain[f"{name}_high"] = [estimate.high for estimate in estimates]
    columns = list(zip(*bins, strict=True))
    return {
        "reliability": pa.table({
            "probability": columns[0], "observed": columns[1], "low": [low for low, _ in exact], "high": [high for _, high in exact], "n": columns[3],
        }),
        "gain": pa.table(gain),
    }  # fmt: skip


def clopper_pearson(positives: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if positives == 0 else float(beta.ppf(tail, positives, rows - positives + 1))
    high = 1.0 if positives == rows else float(beta.ppf(1 - tail, positives + 1, rows - positives))
    return low, high


def _length(*arrays: npt.ArrayLike | None) -> int:
    lengths = {len(np.asarray(array)) for array in arrays if array is not None}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"labels, probabilities and clusters need one length above 0, not {sorted(lengths)}")
    return lengths.pop()
