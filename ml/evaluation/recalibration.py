"""Calibration slope and intercept: logistic regression of the outcome on the logit of the probability (Cox 1958), with cluster-robust intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml.evaluation.estimate import NOTHING, Z95, Estimate

Floats = npt.NDArray[np.float64]
CLIP = 1e-9
_STEPS = 50


def logit(probabilities: npt.ArrayLike) -> Floats:
    """log(p / (1 - p)), with p kept within [1e-9, 1 - 1e-9]."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(margins: npt.ArrayLike) -> Floats:
    """1 / (1 + exp(-m)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(margins, dtype=np.float64))))


def calibration_slope_and_intercept(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, clusters: npt.ArrayLike | None = None
) -> tuple[Estimate, Estimate, Estimate]:
    """Slope, intercept, and calibration in the large (the intercept while the slope is held at 1).

    logit P(y) = intercept + slope * logit(p), by maximum likelihood (Newton). 1 and 0 are perfect; a slope under 1 means that the probabilities are too
    extreme. The intervals are the sandwich's, summed by customer. The slope is NaN where all probabilities are equal; all are NaN where one class is absent.
    """
    y, x = np.asarray(labels, dtype=np.float64), logit(probabilities)
    rows = len(y)
    codes = np.arange(rows) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    nothing = Estimate(*NOTHING, n=rows)
    if rows == 0 or y.min() == y.max():
        return nothing, nothing, nothing
    large = _fit(np.ones((rows, 1)), y, x, codes)
    if float(x.max() - x.min()) < 1e-9:
        return nothing, large[0], large[0]
    intercept, slope = _fit(np.column_stack((np.ones(rows), x)), y, np.zeros(rows), codes)
    return slope, intercept, large[0]


def _fit(design: Floats, y: Floats, offset: Floats, codes: npt.NDArray[np.int64]) -> list[Estimate]:
    """Coefficients of an unpenalised logistic regression. Steps are halved while they make the likelihood worse."""
    rows, columns = design.shape
    beta = np.zeros(columns)
    loss = _loss(design @ beta + offset, y)
    for _ in range(_STEPS):
        p = sigmoid(design @ beta + offset)
        gradient = design.T @ (y - p)
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return [Estimate(*NOTHING, n=rows)] * columns
        while (new := _loss(design @ (beta + step) + offset, y)) > loss * (1 + 1e-12) and np.abs(step).max() > 1e-10:
            step = step / 2
        beta, loss = beta + step, new
        if np.abs(step).max() < 1e-10:
            break
    p = sigmoid(design @ beta + offset)
    bread = np.linalg.pinv(design.T @ (design * (p * (1 - p))[:, None]))
    count = int(codes.max()) + 1
    scores = np.column_stack([np.bincount(codes, design[:, column] * (y - p), count) for column in range(columns)])
    covariance = bread @ (scores.T @ scores) @ bread * (count / max(count - 1, 1))
    halves = Z95 * np.sqrt(np.diag(covariance))
    return [Estimate(float(value), float(value - half), float(value + half), rows) for value, half in zip(beta, halves, strict=True)]


def _loss(margins: Floats, y: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, margins) - y * margins))
