"""Training, whole: data, candidates, calibration, evaluation. Nothing is written and nobody is told but through the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from ml.datasets import SPLITS, Dataset, Matrix, NotEnoughHistoryError, Split, load_for
from ml.evaluation import compare, curves, evaluate, stability
from ml.features import Field
from ml.models.propensity import spec
from ml.models.propensity.calibration import Calibrator
from ml.models.propensity.candidates import Fitted, fit_base_rate, fit_linear, fit_xgboost, refit_on_draws
from ml.models.propensity.leaks import univariate_leaks
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import CHAMPION, CandidateResult, DatasetInfo, SplitInfo, TestSplit, TrainingResult, TrainingSkipped
from waymark.core.settings import LearningSettings
from waymark.core.warehouse import Connection

_REPLICATES = 100
_EXPLAINED_ROWS = 1_500
Progress = Callable[[str], None]


def train_propensity(
    connection: Connection, settings: LearningSettings, fields: Sequence[Field], *, champion: PropensityModel | None = None, progress: Progress | None = None
) -> TrainingResult | TrainingSkipped:
    """Trains on the feature views and the label of a warehouse; TrainingSkipped says what is missing. champion: compared on the same test rows."""
    tell = progress or (lambda _: None)
    tell("training: data")
    try:
        dataset = load_for(connection, settings, fields)
    except NotEnoughHistoryError as error:
        return TrainingSkipped(error.reasons)
    return train_on(dataset, champion=champion, progress=tell)


def train_on(dataset: Dataset, *, champion: PropensityModel | None = None, progress: Progress | None = None) -> TrainingResult:
    """Trains and evaluates the candidates on a dataset that is split already."""
    tell = progress or (lambda _: None)
    matrices = {name: dataset.encoder.encode(split.table) for name, split in dataset.splits.items()}
    names = {field.name for field in dataset.encoder.fields}
    tell("training: baselines")
    fitted = [fit_base_rate(dataset)]
    if names & set(spec.RFM):
        fitted.append(fit_linear(dataset, matrices, only=spec.RFM, name="rfm"))
    fitted.append(fit_linear(dataset, matrices, only=None, name="logistic"))
    tell("training: trees")
    trees = fit_xgboost(dataset, matrices)
    fitted.append(trees)
    tell("training: calibration and evaluation")
    calibration, test = dataset.splits["calibration"], dataset.splits["test"]
    calibrators = {item.name: Calibrator.fit(item.margins["calibration"], calibration.labels, calibration.customers) for item in fitted}
    predictions = {item.name: calibrators[item.name].score(item.margins["test"]) for item in fitted}
    assert trees.booster is not None
    tell("training: intervals")
    truths = [(item, calibrators[item.name]) for item in fitted if item.name in spec.TRUTHS]
    model = PropensityModel(trees.booster, _with_spread(dataset, matrices, trees, truths, calibrators["xgboost"]), dataset.encoder)
    chosen = predictions["xgboost"]
    low, high = model.calibrator.interval(trees.margins["test"])
    candidates = tuple(_evaluated(item, predictions[item.name], test, dataset.seed) for item in fitted)
    differences = {
        name: compare(test.labels, chosen, other, test.customers, replicates=_REPLICATES, seed=dataset.seed)
        for name, other in predictions.items()
        if name != "xgboost"
    }
    if champion is not None and set(champion.fields) <= names:
        other = champion.predict(test.table).score
        differences[CHAMPION] = compare(test.labels, chosen, other, test.customers, replicates=_REPLICATES, seed=dataset.seed)
    week, segments = test.points.astype("datetime64[D]"), _segments(test)
    return TrainingResult(
        candidates=candidates, chosen="xgboost", model=model,
        test=TestSplit(test.table.select(["customer_id", "as_of_at"]), test.labels, chosen, low, high, week, segments),
        dataset=_info(dataset), differences=differences, stability=stability(test.labels, chosen, {"week": week, **segments}, test.customers),
        curves=curves(test.labels, chosen, test.customers, seed=dataset.seed), leaks=univariate_leaks(dataset),
        sample=test.table.take(np.sort(np.random.default_rng(dataset.seed).permutation(test.table.num_rows)[:_EXPLAINED_ROWS])),
    )  # fmt: skip


def _with_spread(
    dataset: Dataset, matrices: dict[str, Matrix], trees: Fitted, truths: Sequence[tuple[Fitted, Calibrator]], calibrator: Calibrator
) -> Calibrator:
    """The trees' calibrator with intervals of a row's own probability: how far they come from truths that are known, those of candidates after calibration."""
    refits = []
    for place, (item, own) in enumerate(truths):
        drawn = refit_on_draws(dataset, matrices, trees, own.band.curve(item.margins["train"]), draws=spec.REFITS // len(truths), seed=place)
        refits += [(own.band.curve(item.margins["calibration"]), learnt) for learnt in drawn]
    return calibrator.with_spread(trees.margins["calibration"], dataset.splits["calibration"].labels, refits)


def _evaluated(item: Fitted, predictions: npt.NDArray[np.float64], test: Split, seed: int) -> CandidateResult:
    metrics = evaluate(test.labels, predictions, test.customers, replicates=_REPLICATES, seed=seed)
    return CandidateResult(item.name, item.params, metrics, predictions, item.trials)


def _segments(test: Split) -> dict[str, npt.NDArray[np.str_]]:
    """activity: when the customer was last seen. channel: the latest channel group."""
    found: dict[str, npt.NDArray[np.str_]] = {}
    names = set(test.table.column_names)
    if "hours_since_last_event" in names:
        hours = test.table.column("hours_since_last_event").to_numpy()
        found["activity"] = np.select([hours < 7 * 24, hours < 28 * 24], ["seen within 7 days", "within 28 days"], "longer ago").astype(np.str_)
    if "last_channel" in names:
        channel = np.asarray(test.table.column("last_channel").to_numpy(zero_copy_only=False), dtype=object)
        found["channel"] = np.asarray(["none" if value is None else value for value in channel], dtype=np.str_)
    return found


def _info(dataset: Dataset) -> DatasetInfo:
    splits = {}
    for name in SPLITS:
        split = dataset.splits[name]
        first, last = (_datetime(point) for point in (split.points.min(), split.points.max()))
        splits[name] = SplitInfo(len(split.labels), split.positives, len(np.unique(split.customers)), first, last)
    names = tuple(field.name for field in dataset.encoder.fields)
    return DatasetInfo(dataset.fingerprint, splits, names, dataset.horizon_days, dataset.seed, dataset.sampled)


def _datetime(point: np.datetime64) -> datetime:
    moment: datetime = point.astype("datetime64[us]").item()
    return moment
