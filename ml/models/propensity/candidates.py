"""The candidates: what a propensity is worth has to be shown beside what is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from ml.datasets import Dataset, Matrix
from ml.evaluation import log_losses, logit, sigmoid
from ml.models.propensity import spec
from ml.models.propensity.result import Trial

Floats = npt.NDArray[np.float64]
_RIDGE = 1.0
_NEWTON_STEPS = 25


@dataclass(frozen=True)
class Fitted:
    """A candidate's margins on each split, and how it came about. stopping_loss: log-loss on the last part of the training split."""

    name: str
    params: dict[str, object]
    margins: dict[str, Floats]
    stopping_loss: float
    trials: tuple[Trial, ...] = ()
    booster: xgb.Booster | None = None


def stopping_rows(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """The latest points of the training split, about a fifth of its rows: there boosting stops and candidates are chosen."""
    points = dataset.splits["train"].points
    return np.asarray(points >= np.sort(points)[int(len(points) * (1 - spec.STOPPING_SHARE))])


def fit_base_rate(dataset: Dataset) -> Fitted:
    """Everybody gets the share of converting rows."""
    labels, late = dataset.splits["train"].labels, stopping_rows(dataset)
    rate = float(labels[~late].mean())
    loss = float(log_losses(labels[late], np.full(int(late.sum()), rate)).mean())
    margin = float(logit([labels.mean()])[0])
    return Fitted("base_rate", {"rate": float(labels.mean())}, {name: np.full(len(split.labels), margin) for name, split in dataset.splits.items()}, loss)


def fit_linear(dataset: Dataset, matrices: dict[str, Matrix], *, only: Sequence[str] | None, name: str) -> Fitted:
    """Logistic regression with a ridge on logs of magnitudes, standardised, missing values at the mean beside an indicator. only: the fields it may use."""
    columns = [place for place, (field, _) in enumerate(dataset.encoder.columns) if only is None or field in only]
    train = matrices["train"][:, columns]
    prepare = _Preparation.fit(train)
    labels, late = dataset.splits["train"].labels.astype(np.float64), stopping_rows(dataset)
    early_beta = _ridge_logistic(prepare(train[~late]), labels[~late])
    loss = float(log_losses(labels[late], sigmoid(prepare(train[late]) @ early_beta)).mean())
    beta = _ridge_logistic(prepare(train), labels)
    margins = {split: prepare(matrix[:, columns]) @ beta for split, matrix in matrices.items()}
    return Fitted(name, {"ridge": _RIDGE, "columns": len(columns)}, margins, loss)


@dataclass(frozen=True)
class _Preparation:
    mean: Floats
    scale: Floats
    gaps: npt.NDArray[np.bool_]

    @classmethod
    def fit(cls, matrix: Matrix) -> _Preparation:
        values = _log(matrix)
        with np.errstate(invalid="ignore"):
            known = np.isfinite(values)
            counts = np.maximum(known.sum(axis=0), 1)
            mean = np.where(known, values, 0).sum(axis=0) / counts
            scale = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / counts)
        return cls(mean, np.where(scale > 1e-9, scale, 1.0), np.asarray((~known).any(axis=0)))

    def __call__(self, matrix: Matrix) -> Floats:
        values = (_log(matrix) - self.mean) / self.scale
        missing = ~np.isfinite(values[:, self.gaps])
        return np.column_stack((np.ones(len(matrix)), np.nan_to_num(values, nan=0.0), missing.astype(np.float64)))


def _log(matrix: Matrix) -> Floats:
    values = matrix.astype(np.float64)
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def _ridge_logistic(design: Floats, labels: Floats) -> Floats:
    """Newton's method, steps halved while they make the penalised likelihood worse; the intercept, column 0, is not shrunk."""
    penalty = np.full(design.shape[1], _RIDGE)
    penalty[0] = 1e-9
    beta = np.zeros(design.shape[1])
    beta[0] = float(logit([labels.mean()])[0])

    def loss(coefficients: Floats) -> float:
        margins = design @ coefficients
        return float(np.sum(np.logaddexp(0.0, margins) - labels * margins) + 0.5 * np.sum(penalty * coefficients**2))

    current = loss(beta)
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, design.T @ (labels - p) - penalty * beta)
        while (new := loss(beta + step)) > current and np.abs(step).max() > 1e-9:
            step = step / 2
        beta, current = beta + step, new
        if np.abs(step).max() < 1e-6:
            break
    return beta


def fit_xgboost(dataset: Dataset, matrices: dict[str, Matrix]) -> Fitted:
    """Boosted trees: each trial stops on the latest training rows; the best is grown again on all training rows for as many rounds."""
    labels, late = dataset.splits["train"].labels, stopping_rows(dataset)
    early = xgb.QuantileDMatrix(matrices["train"][~late], label=labels[~late], max_bin=128, nthread=spec.THREADS)
    stopping = xgb.QuantileDMatrix(matrices["train"][late], label=labels[late], ref=early, max_bin=128, nthread=spec.THREADS)
    trials: list[Trial] = []
    for params in spec.TRIALS:
        settings = {**spec.FIXED, **params, "seed": dataset.seed}
        stop = {"evals": [(stopping, "stopping")], "early_stopping_rounds": spec.PATIENCE}
        booster = xgb.train(settings, early, spec.ROUNDS, verbose_eval=False, **stop)
        trials.append(Trial(params, float(booster.best_score), int(booster.best_iteration) + 1))
    best = min(trials, key=lambda trial: trial.loss)
    whole = xgb.QuantileDMatrix(matrices["train"], label=labels, max_bin=128, nthread=spec.THREADS)
    booster = xgb.train({**spec.FIXED, **best.params, "seed": dataset.seed}, whole, best.rounds, verbose_eval=False)
    margins = {name: np.asarray(booster.inplace_predict(matrix, predict_type="margin"), dtype=np.float64) for name, matrix in matrices.items()}
    return Fitted("xgboost", {**best.params, "rounds": best.rounds}, margins, best.loss, tuple(trials), booster)


def refit_on_draws(dataset: Dataset, matrices: dict[str, Matrix], fitted: Fitted, truth: Floats, *, draws: int, seed: int) -> list[Floats]:
    """What the same trees would have learnt had `truth` been true: margins of the calibration rows, once for each draw of outcomes.

    truth: log-odds of the training rows. Rounds and parameters are those of `fitted`.
    """
    generator = np.random.default_rng([dataset.seed, 3, seed])
    params = {name: value for name, value in fitted.params.items() if name != "rounds"}
    data = xgb.QuantileDMatrix(matrices["train"], label=np.zeros(len(truth)), max_bin=128, nthread=spec.THREADS)
    found = []
    for draw in range(draws):
        data.set_label((generator.random(len(truth)) < sigmoid(truth)).astype(np.float32))
        booster = xgb.train({**spec.FIXED, **params, "seed": dataset.seed + 1 + draw}, data, int(str(fitted.params["rounds"])), verbose_eval=False)
        found.append(np.asarray(booster.inplace_predict(matrices["calibration"], predict_type="margin"), dtype=np.float64))
    return found
