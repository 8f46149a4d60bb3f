"""Training: candidates, calibration, evaluation. Nothing is written and nobody is told but through the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.datasets import SPLITS, Dataset, Matrix, Split
from ml.evaluation import compare, curves, evaluate, stability
from ml.models.propensity import spec
from ml.models.propensity.calibration import Calibrator
from ml.models.propensity.candidates import Fitted, fit_base_rate, fit_linear, fit_xgboost, refit_on_draws
from ml.models.propensity.leaks import univariate_leaks
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import CHAMPION, CandidateResult, ChampionRows, DatasetInfo, SplitInfo, TestSplit, TrainingResult

_REPLICATES = 100
_EXPLAINED_ROWS = 1_500
Progress = Callable[[str], None]


def train_on(dataset: Dataset, *, champion: PropensityModel | None = None, progress: Progress | None = None) -> TrainingResult:
    """Trains and evaluates the candidates on a dataset (`ml.datasets.load_for`). champion: compared on those test rows that it has not learnt from."""
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
    model = PropensityModel(trees.booster, _with_spread(dataset, matrices, trees, truths, calibrators["xgboost"]), dataset.encoder, _learnt_until(dataset))
    chosen = predictions["xgboost"]
    low, high = model.calibrator.interval(trees.margins["test"])
    candidates = tuple(_evaluated(item, predictions[item.name], test, dataset.seed) for item in fitted)
    differences = {
        name: compare(test.labels, chosen, other, test.customers, replicates=_REPLICATES, seed=dataset.seed)
        for name, other in predictions.items()
        if name != "xgboost"
    }
    met = None
    if champion is not None and set(champion.fields) <= names:
        unseen = np.ones(len(test.labels), dtype=np.bool_) if champion.learnt_until is None else test.points >= np.datetime64(champion.learnt_until)
        met = ChampionRows(int(unseen.sum()), int(test.labels[unseen].sum()), test.positives, champion.learnt_until)
        if 0 < met.positives < met.rows:
            other = champion.predict(test.table.filter(pa.array(unseen))).score
            differences[CHAMPION] = compare(
                test.labels[unseen], chosen[unseen], other, test.customers[unseen], replicates=_REPLICATES, seed=dataset.seed
            )  # fmt: skip
    week, segments = test.points.astype("datetime64[D]"), _segments(test)
    return TrainingResult(
        candidates=candidates, chosen="xgboost", model=model,
        test=TestSplit(test.table.select(["customer_id", "as_of_at"]), test.labels, chosen, low, high, week, segments),
        dataset=_info(dataset), differences=differences, stability=stability(test.labels, chosen, {"week": week, **segments}, test.customers),
        curves=curves(test.labels, chosen, test.customers, seed=dataset.seed), champion=met, leaks=univariate_leaks(dataset),
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
        found["activity"] = np.select([hours < 7 * 24, hours < 28 * 24], ["seen within 7 days", "seen 7 to 28 days ago"], "seen longer ago").astype(np.str_)
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


def _learnt_until(dataset: Dataset) -> datetime:
    """The end of the last label of the training and calibration splits."""
    last = max(dataset.splits[name].points.max() for name in ("train", "calibration"))
    return _datetime(last) + timedelta(days=dataset.horizon_days)


def _datetime(point: np.datetime64) -> datetime:
    moment: datetime = point.astype("datetime64[us]").item()
    return moment
