"""A world in which every person can be seen whole, to grade a propensity on: made here, run through the pipeline by who asks, graded against its oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import stats
from sklearn.metrics import roc_auc_score

from ml.simulator import WorldSpec, generate_world
from ml.simulator.oracle import write_propensity

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KEY = ("person_id", "as_of_at")
BINS = 20
LEAST, MOST = 1e-9, 1 - 1e-9


@dataclass(frozen=True)
class PropensityWorld:
    """landing: source files for a project; truth: the tables to grade by, truth_propensity among them."""

    spec: WorldSpec
    landing: Path
    truth: Path

    def oracle(self) -> pa.Table:
        return pq.read_table(self.truth / "truth_propensity.parquet")

    def persons_of_devices(self) -> dict[str, str]:
        """anonymous_id -> person_id."""
        devices = pq.read_table(self.truth / "truth_devices.parquet", columns=["anonymous_id", "person_id"])
        return dict(zip(devices["anonymous_id"].to_pylist(), devices["person_id"].to_pylist(), strict=True))

    def persons_of_accounts(self) -> dict[str, str]:
        """user_id -> person_id. In an identified world everybody has an account, and each row names it."""
        persons = pq.read_table(self.truth / "truth_persons.parquet", columns=["user_id", "person_id"])
        return dict(zip(persons["user_id"].to_pylist(), persons["person_id"].to_pylist(), strict=True))


def make_propensity_world(
    folder: Path, customers: int, *, seed: int, horizon_days: int = 7, mechanisms: Mapping[str, float] | None = None, landing: Path | None = None
) -> PropensityWorld:
    """An identified world of `customers` persons under `folder`, clean unless `mechanisms` says otherwise, with its oracle on the grid of Mondays.

    landing: where the source files go (default: folder / "landing"), such as the landing folder of a project's source.
    """
    spec = WorldSpec(customers=customers, seed=seed, mechanisms=dict(mechanisms or {}), is_identified=True)
    world = PropensityWorld(spec, landing or folder / "landing", folder / "truth")
    generate_world(world.landing, world.truth, spec)
    write_propensity(world.truth, spec, horizon_days=horizon_days)
    return world


@dataclass(frozen=True)
class Measure:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Grade:
    """How scores do against what happened and against the oracle, on the rows that both have. Intervals are for persons as the units, whose rows hang
    together: sums over a person for means and for the regression (Liang and Zeger 1986), placements for areas (DeLong 1988, by clusters Obuchowski 1997).

    auc_gap: the observable oracle's AUC less the scores'. slope, intercept: logistic regression of what happened on the scores' log-odds (1 and 0 are perfect).
    ece: mean distance between score and share of orders over 20 bins of equal size; ece_noise: what a perfectly calibrated score would have there in the mean.
    log_loss_gap: the scores' log-loss less the oracle's (a mean of differences); gain_over_base: log-loss of the rows' own base rate less the scores'.
    coverage: share of rows whose interval holds p_observable, each row weighing the same (None without intervals).
    """

    rows: int
    persons: int
    orders: int
    auc: float
    auc_oracle: float
    auc_latent: float
    auc_gap: Measure
    slope: Measure
    intercept: Measure
    ece: float
    ece_noise: float
    log_loss: float
    log_loss_gap: Measure
    gain_over_base: Measure
    coverage: Measure | None


def grade(scores: pa.Table, truth: pa.Table) -> Grade:
    """scores: person_id, as_of_at, score, and score_low and score_high if there are intervals; truth: as truth_propensity has it.

    Only (person, instant) pairs of both count. Raises ValueError where a pair of `scores` repeats, is not in the truth, or nothing was bought.
    """
    joined = _joined(scores, truth)
    person = np.unique(joined["person_id"].to_pylist(), return_inverse=True)[1].astype(np.int64)
    happened, chance = _numbers(joined, "is_converted"), np.clip(_numbers(joined, "score"), LEAST, MOST)
    oracle, latent = np.clip(_numbers(joined, "p_observable"), LEAST, MOST), _numbers(joined, "p_latent")
    if not 0 < happened.sum() < len(happened):
        raise ValueError(f"of {len(happened)} rows {int(happened.sum())} were followed by an order: nothing can be told apart")
    losses, best = _losses(chance, happened), _losses(oracle, happened)
    plain = _losses(np.full(len(happened), happened.mean()), happened)
    coverage = None
    if "score_low" in joined.column_names:
        coverage = _mean((_numbers(joined, "score_low") <= oracle) & (oracle <= _numbers(joined, "score_high")), person)
    intercept, slope = _calibration(chance, happened, person)
    ece, noise = _calibration_error(chance, happened)
    return Grade(
        rows=len(happened), persons=int(person.max()) + 1, orders=int(happened.sum()), auc=float(roc_auc_score(happened, chance)),
        auc_oracle=float(roc_auc_score(happened, oracle)), auc_latent=float(roc_auc_score(happened, latent)),
        auc_gap=_area_gap(oracle, chance, happened, person), slope=slope, intercept=intercept, ece=ece, ece_noise=noise, log_loss=float(losses.mean()),
        log_loss_gap=_mean(losses - best, person), gain_over_base=_mean(plain - losses, person), coverage=coverage,
    )  # fmt: skip


def _joined(scores: pa.Table, truth: pa.Table) -> pa.Table:
    given = scores.set_column(scores.schema.get_field_index("as_of_at"), "as_of_at", pc.cast(scores["as_of_at"], pa.timestamp("us")))
    if given.group_by(list(KEY)).aggregate([]).num_rows != given.num_rows:
        raise ValueError("a person is scored twice at one instant")
    joined = given.join(truth, keys=list(KEY), join_type="inner")
    if joined.num_rows != given.num_rows:
        raise ValueError(f"{given.num_rows - joined.num_rows} of {given.num_rows} scores are of persons or instants that the truth does not know")
    return joined.sort_by([(name, "ascending") for name in KEY])


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _losses(chance: Floats, happened: Floats) -> Floats:
    return np.asarray(-np.where(happened > 0, np.log(chance), np.log1p(-chance)), dtype=np.float64)


def _measure(value: float, variance: float) -> Measure:
    by = float(stats.norm.ppf(0.975) * np.sqrt(variance))
    return Measure(float(value), float(value) - by, float(value) + by)


def _mean(values: npt.NDArray[np.bool_] | Floats, person: Ints) -> Measure:
    excess = np.bincount(person, values - values.mean())
    return _measure(values.mean(), (excess**2).sum() / len(values) ** 2)


def _area_gap(one: Floats, other: Floats, happened: Floats, person: Ints) -> Measure:
    """AUC of `one` less that of `other`."""
    bought = happened > 0
    above, below = (_placements(one, bought)[side] - _placements(other, bought)[side] for side in (0, 1))
    gap = above.mean()
    excess = np.bincount(person[bought], above - gap, minlength=person.max() + 1) / len(above)
    excess += np.bincount(person[~bought], below - gap, minlength=person.max() + 1) / len(below)
    return _measure(gap, (excess**2).sum())


def _placements(chance: Floats, bought: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Of each buyer, the share of the others that score lower; of each of the others, the share of buyers that score higher. Ties count half."""
    buyers, others = chance[bought], chance[~bought]
    high, low = np.sort(buyers), np.sort(others)
    above = (np.searchsorted(low, buyers, side="left") + np.searchsorted(low, buyers, side="right")) / (2 * len(low))
    below = 1 - (np.searchsorted(high, others, side="left") + np.searchsorted(high, others, side="right")) / (2 * len(high))
    return above, below


def _calibration(chance: Floats, happened: Floats, person: Ints) -> tuple[Measure, Measure]:
    """Intercept and slope (Cox 1958), by Newton's method."""
    design = np.stack([np.ones_like(chance), np.log(chance) - np.log1p(-chance)], axis=1)
    weights = np.array([0.0, 1.0])
    for _ in range(100):
        share = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        information = design.T @ (design * (share * (1 - share))[:, None])
        step = np.linalg.solve(information, design.T @ (happened - share))
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    pulls = design * (happened - share)[:, None]
    by_person = np.stack([np.bincount(person, pull) for pull in pulls.T])
    inverse = np.linalg.inv(information)
    variance = np.diag(inverse @ (by_person @ by_person.T) @ inverse)
    return _measure(weights[0], variance[0]), _measure(weights[1], variance[1])


def _calibration_error(chance: Floats, happened: Floats) -> tuple[float, float]:
    """ECE over bins of equal size, and its mean for outcomes that are drawn from the scores themselves (half-normal in each bin)."""
    error = noise = 0.0
    for place in np.array_split(np.argsort(chance, kind="stable"), BINS):
        if len(place):
            error += abs(happened[place].mean() - chance[place].mean()) * len(place)
            noise += np.sqrt((chance[place] * (1 - chance[place])).sum() * 2 / np.pi)
    return float(error / len(chance)), float(noise / len(chance))
