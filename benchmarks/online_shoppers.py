"""The estimator on a public table of 12,330 shop sessions, beside a plain tuned XGBoost script, and what resampling before the split does to the figures.

`OMP_WAIT_POLICY=passive python -m benchmarks.online_shoppers [--data FILE]`. The table is UCI's Online Shoppers Purchasing Intention (Sakar et al. 2018): a
feature view whose entity is a session. Five folds, stratified, three times; within each fold nothing of its test rows is seen. Intervals of means over folds
are the corrected resampled t's (Nadeau & Bengio 2003), because training sets overlap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import xgboost as xgb
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import NearestNeighbors

from ml.datasets import Encoder, assemble
from ml.features import Field
from ml.models.propensity.calibration import VennAbers, merged_score
from ml.models.propensity.candidates import fit_xgboost

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "online_shoppers" / "online_shoppers_intention.csv"
CATEGORIES = ("Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType")
FOLDS, REPEATS, SEED = 5, 3, 7
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def read(path: Path) -> tuple[pa.Table, tuple[Field, ...]]:
    """The sessions as rows of a feature view. A table without time gets points in the order of a seeded shuffle."""
    table = pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(delimiter=";"))
    names = [name for name in table.column_names if name != "Revenue"]
    fields = tuple(Field(name, "category" if name in CATEGORIES else "boolean" if name == "Weekend" else "number", None, "", ()) for name in names)
    columns: dict[str, object] = {name: table.column(name).cast(pa.string()) if name in CATEGORIES else table.column(name) for name in names}
    order = np.random.default_rng(SEED).permutation(table.num_rows)
    columns |= {"customer_id": [f"{row:05d}" for row in range(table.num_rows)], "as_of_at": pa.array(order.astype("datetime64[us]"))}
    return pa.table({**columns, "is_converted": table.column("Revenue")}), fields


def folds(labels: npt.NDArray[np.int8]) -> Iterator[tuple[Ints, Ints]]:
    for repeat in range(REPEATS):
        yield from StratifiedKFold(FOLDS, shuffle=True, random_state=SEED + repeat).split(labels, labels)


def estimator(table: pa.Table, fields: tuple[Field, ...], train: Ints, test: Ints) -> Floats:
    """Calibrated probabilities of the test rows by the project's own trials, early stopping and Venn-Abers. The training rows take turns at calibration."""
    labels = table.column("is_converted").to_numpy()
    pairs = []
    for fitted, calibration in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(labels[train], labels[train]):
        tables = {name: table.take(pa.array(rows)) for name, rows in (("train", train[fitted]), ("calibration", train[calibration]), ("test", test))}
        dataset = assemble(tables, fields, horizon_days=1, seed=SEED)
        trees = fit_xgboost(dataset, {name: dataset.encoder.encode(split.table) for name, split in dataset.splits.items()})
        venn_abers = VennAbers.fit(trees.margins["calibration"], dataset.splits["calibration"].labels)
        pairs.append(venn_abers.predict(trees.margins["test"]))
    return merged_score(pairs)


GRID = [
    {"max_depth": depth, "learning_rate": 0.05, "min_child_weight": weight, "subsample": 0.8, "colsample_bytree": 0.6}
    for depth in (3, 4, 6)
    for weight in (1, 10)
]


def plain(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8], test: npt.NDArray[np.float32]) -> Floats:
    """What a careful script does: a grid, early stopping on a fifth of the training rows, then all of them for as many rounds."""
    fit, stop = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=SEED)
    fixed = {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1, "seed": SEED}
    learning, stopping, whole = (xgb.DMatrix(x[rows], label=y[rows]) for rows in (fit, stop, np.arange(len(y))))
    found = []
    for params in GRID:
        booster = xgb.train({**fixed, **params}, learning, 600, evals=[(stopping, "stop")], early_stopping_rounds=25, verbose_eval=False)
        found.append((booster.best_score, booster.best_iteration + 1, params))
    _, rounds, params = min(found, key=lambda trial: trial[0])
    return np.asarray(xgb.train({**fixed, **params}, whole, rounds).predict(xgb.DMatrix(test)), dtype=np.float64)


def duplicated(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Converting rows drawn again until both classes are equal."""
    hits = np.flatnonzero(y)
    more = np.random.default_rng(SEED).choice(hits, len(y) - 2 * len(hits))
    return np.concatenate((x, x[more])), np.concatenate((y, y[more]))


def interpolated(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """SMOTE (Chawla et al. 2002): points between a converting row and one of its five nearest converting rows, until both classes are equal."""
    draw, hits = np.random.default_rng(SEED), x[y == 1]
    scale = x.std(axis=0) + 1e-9
    near = NearestNeighbors(n_neighbors=6).fit(hits / scale).kneighbors(hits / scale, return_distance=False)[:, 1:]
    count = len(y) - 2 * len(hits)
    base = draw.integers(0, len(hits), count)
    other = near[base, draw.integers(0, 5, count)]
    made = hits[base] + draw.random((count, 1)).astype(np.float32) * (hits[other] - hits[base])
    return np.concatenate((x, made)), np.concatenate((y, np.ones(count, np.int8)))


def mean(values: list[float]) -> str:
    """The mean over folds with its 95 % interval."""
    array = np.asarray(values)
    half = student.ppf(0.975, len(array) - 1) * np.sqrt((1 / len(array) + 1 / (FOLDS - 1)) * array.var(ddof=1))
    return f"{array.mean():.4f} [{array.mean() - half:.4f}, {array.mean() + half:.4f}]"


Resample = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]]


def resampled_before(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8], resample: Resample) -> tuple[Floats, Floats]:
    """AUC and AP of each fold where the whole table was balanced first: copies of test rows, or points beside them, stand in the training rows."""
    bigger, labels = resample(x, y)
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(labels, labels)
    found = [(labels[test], plain(bigger[train], labels[train], bigger[test])) for train, test in splits]
    return _figures(found)


def resampled_within(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8], resample: Resample) -> tuple[Floats, Floats]:
    """The same with only the training rows balanced, and test rows as they are."""
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(y, y)
    return _figures([(y[test], plain(*resample(x[train], y[train]), x[test])) for train, test in splits])


def _figures(found: list[tuple[npt.NDArray[np.int8], Floats]]) -> tuple[Floats, Floats]:
    return np.array([roc_auc_score(*pair) for pair in found]), np.array([average_precision_score(*pair) for pair in found])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The estimator on the online shoppers table, beside a plain script.")
    parser.add_argument("--data", type=Path, default=DATA)
    table, fields = read(parser.parse_args(arguments).data)
    labels = table.column("is_converted").to_numpy().astype(np.int8)
    categories = {field.name: tuple(sorted(table.column(field.name).unique().to_pylist())) for field in fields if field.dtype == "category"}
    matrix = Encoder(fields, categories).encode(table)
    measures = {"AUC": roc_auc_score, "AP": average_precision_score, "log-loss": log_loss}
    figures: dict[str, dict[str, list[float]]] = {who: {name: [] for name in measures} for who in ("waymark", "plain script")}
    seconds = dict.fromkeys(figures, 0.0)
    for train, test in folds(labels):
        for who in figures:
            began = process_time()
            p = estimator(table, fields, train, test) if who == "waymark" else plain(matrix[train], labels[train], matrix[test])
            seconds[who] += process_time() - began
            for name, measure in measures.items():
                figures[who][name].append(float(measure(labels[test], p)))
    print(f"{table.num_rows:,} sessions, {labels.mean():.1%} converting; {FOLDS} folds x {REPEATS}, mean over folds [95 %]\n")
    print("| | AUC | AP | log-loss | CPU s |\n|---|---|---|---|---|")
    for who, found in figures.items():
        print(f"| {who} | {' | '.join(mean(found[name]) for name in measures)} | {seconds[who]:.0f} |")
    gaps = {name: [a - b for a, b in zip(figures["waymark"][name], figures["plain script"][name], strict=True)] for name in measures}
    print(f"| difference, paired | {' | '.join(mean(gaps[name]) for name in measures)} | |\n")
    print("| plain script, 5 folds, classes balanced | AUC | AP | share converting in test rows |\n|---|---|---|---|")
    for name, resample in (("copies", duplicated), ("SMOTE", interpolated)):
        for when, run, share in (("before the split", resampled_before, 0.5), ("within training rows", resampled_within, float(labels.mean()))):
            auc, ap = run(matrix, labels, resample)
            print(f"| {name} {when} | {auc.mean():.4f} | {ap.mean():.4f} | {share:.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
