"""The propensity on twenty worlds whose truth is known: each goes through the pipeline, trains, and is graded on its test split against the exact oracle.

What is claimed is a mean over worlds with its 95 % t interval: worlds are independent, rows of one are not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy import stats

from ml.datasets import load_for
from ml.features import VIEWS, model_fields
from ml.models.propensity.calibration import LEVEL
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from tests.proof.propensity_world import Grade, PropensityWorld, grade, make_propensity_world
from tests.proof.world_project import world_project
from waymark.core.warehouse import rows
from waymark.pipeline.steps import Run

Floats = npt.NDArray[np.float64]
SEEDS = range(1, 21)
CUSTOMERS = 4_000


@dataclass(frozen=True)
class Graded:
    """A world's scores against its oracle. gain_over_logistic: log-loss of logistic regression less that of the scores. coverage: of all rows;
    busy_coverage: of the half of the rows with the higher scores."""

    grade: Grade
    gain_over_logistic: float
    coverage: float
    busy_coverage: float


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> list[Graded]:
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"world{seed}")
        found.append(_graded(folder, seed))
        shutil.rmtree(folder)
    return found


def _graded(folder: Path, seed: int) -> Graded:
    project = world_project(folder / "project", min_positives=50)
    world = make_propensity_world(folder, CUSTOMERS, seed=seed, landing=project.directory / "in" / "waymark_world")
    run = project.run(stop_before="finish", checks=False)
    with run.open_warehouse() as connection:
        dataset = load_for(connection, run.project.settings.learning, model_fields(VIEWS))
    return grade_training(train_on(dataset), persons_of_customers(run, world), world)


def persons_of_customers(run: Run, world: PropensityWorld) -> dict[str, str]:
    """customer_id, today's or an earlier one -> person_id, by the account that each event names."""
    accounts = world.persons_of_accounts()
    with run.open_warehouse() as connection:
        named = rows(connection, """
            with named as (select distinct customer_id, user_id from marts.fct_events where customer_id is not null and user_id is not null)
            select alias_customer_id, user_id from named join marts.dim_customer_aliases using (customer_id) union from named
        """)  # fmt: skip
    found = {str(customer): accounts[str(user)] for customer, user in named}
    assert len(found) == len(named), "a customer of an identified world is one person"
    return found


def grade_training(result: TrainingResult, persons: dict[str, str], world: PropensityWorld) -> Graded:
    test, truth = result.test, world.oracle()
    scores = pa.table({
        "person_id": [persons[customer] for customer in test.keys["customer_id"].to_pylist()], "as_of_at": test.keys["as_of_at"],
        "score": test.probabilities, "score_low": test.low, "score_high": test.high, "place": np.arange(len(test.labels)),
    })  # fmt: skip
    joined = scores.join(truth, keys=["person_id", "as_of_at"], join_type="inner").sort_by("place")
    oracle, happened = (np.asarray(joined[name].to_numpy(zero_copy_only=False), dtype=np.float64) for name in ("p_observable", "is_converted"))
    assert len(oracle) == len(test.labels) and (happened == test.labels).all(), "the pipeline's labels are what happened"
    covered = (test.low <= oracle) & (oracle <= test.high)
    busy = np.argsort(test.probabilities, kind="stable")[len(oracle) // 2 :]
    gain = -result.differences["logistic"]["log_loss"].value
    return Graded(grade(scores.drop_columns("place"), truth), gain, float(covered.mean()), float(covered[busy].mean()))


Say = Callable[[str, list[Graded], Callable[[Graded], float]], tuple[float, float, float]]


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Records a claim about a number of each world; returns its mean and 95 % t interval."""

    def said(claim: str, worlds: list[Graded], number: Callable[[Graded], float]) -> tuple[float, float, float]:
        values: Floats = np.array([number(world) for world in worlds])
        mean, half = float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        record_property("claim", f"Propensity, worlds of {CUSTOMERS:,} persons: {claim}")
        graded_rows, orders = (sum(getattr(world.grade, name) for world in worlds) for name in ("rows", "orders"))
        record_property("n", f"{len(values)} worlds, {graded_rows:,} test rows, {orders:,} orders")
        record_property("seed", f"{SEEDS[0]}-{SEEDS[-1]}")
        record_property("interval", f"{mean:.4g} [{mean - half:.4g}, {mean + half:.4g}] (95 %, over worlds)")
        return mean, mean - half, mean + half

    return said


@pytest.mark.prove
def test_ranking_is_within_two_hundredths_of_the_oracles(graded: list[Graded], say: Say) -> None:
    """No score made of the same rows ranks better than the oracle in the mean; one that did would see the future."""
    _, low, high = say("the observable oracle's AUC less the score's is above 0 and under 0.02", graded, lambda world: world.grade.auc_gap.value)
    assert low > 0 and high < 0.02


@pytest.mark.prove
def test_the_calibration_slope_is_one(graded: list[Graded], say: Say) -> None:
    _, low, high = say("calibration slope's interval holds 1 and lies in 0.85 to 1.15", graded, lambda world: world.grade.slope.value)
    assert 0.85 <= low <= 1 <= high <= 1.15


@pytest.mark.prove
def test_the_calibration_intercept_is_zero(graded: list[Graded], say: Say) -> None:
    _, low, high = say("calibration intercept's interval holds 0 and lies in -0.15 to 0.15", graded, lambda world: world.grade.intercept.value)
    assert -0.15 <= low <= 0 <= high <= 0.15


@pytest.mark.prove
def test_the_calibration_error_is_small_beside_the_base_rate(graded: list[Graded], say: Say) -> None:
    """Over 20 bins of equal size; what a perfectly calibrated score would have there by chance is taken off."""
    claim = "calibration error (ECE, 20 bins) less its own sampling error, as a share of the base rate, is at most 15 %"
    _, _, high = say(claim, graded, lambda world: (world.grade.ece - world.grade.ece_noise) * world.grade.rows / world.grade.orders)
    assert high <= 0.15


@pytest.mark.prove
def test_log_loss_is_below_the_base_rates(graded: list[Graded], say: Say) -> None:
    _, low, _ = say("log-loss of the base rate less the score's is above 0 beyond noise", graded, lambda world: world.grade.gain_over_base.value)
    assert low > 0


@pytest.mark.prove
def test_log_loss_is_below_logistic_regressions(graded: list[Graded], say: Say) -> None:
    _, low, _ = say("log-loss of logistic regression less the score's is above 0 beyond noise", graded, lambda world: world.gain_over_logistic)
    assert low > 0


@pytest.mark.prove
def test_intervals_of_the_busier_half_hold_the_oracle_as_often_as_they_say(graded: list[Graded], say: Say) -> None:
    """The other half hardly ever converts; a mean over all rows may hide what happens among those that matter."""
    claim = f"of the half of the rows with the higher scores, the share whose interval holds the oracle's own probability is within 2 points of {LEVEL:.0%}"
    mean, _, _ = say(claim, graded, lambda world: world.busy_coverage)
    assert abs(mean - LEVEL) <= 0.02


@pytest.mark.prove
def test_intervals_hold_the_oracle_as_often_as_they_say(graded: list[Graded], say: Say) -> None:
    """A row's own probability, that is, not the mean of those with its score."""
    claim = f"the share of rows whose interval holds the oracle's own probability is within 2 points of {LEVEL:.0%}"
    mean, low, high = say(claim, graded, lambda world: world.coverage)
    assert abs(mean - LEVEL) <= 0.02 and low <= LEVEL + 0.02 and high >= LEVEL - 0.02


@pytest.mark.prove
def test_no_person_is_scored_who_is_not_in_the_truth(graded: list[Graded]) -> None:
    assert len(graded) == len(SEEDS)
    assert all(world.grade.rows > 10_000 and world.grade.orders > 150 for world in graded)
