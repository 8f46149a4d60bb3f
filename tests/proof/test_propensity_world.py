"""The grade of a propensity, on scores whose worth is known; and that an identified world's customers are its persons."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.proof.propensity_world import PropensityWorld, grade, make_propensity_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> PropensityWorld:
    return make_propensity_world(tmp_path_factory.mktemp("propensity"), 2_500, seed=17)


def scores_from(truth: pa.Table, chance: np.ndarray, *, half_width: float | None = None) -> pa.Table:
    columns = {"person_id": truth["person_id"], "as_of_at": truth["as_of_at"], "score": chance}
    if half_width is not None:
        columns |= {"score_low": chance - half_width, "score_high": chance + half_width}
    return pa.table(columns)


def chances(truth: pa.Table) -> np.ndarray:
    return np.asarray(truth["p_observable"].to_numpy())


def shifted(chance: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """The probabilities for which the given calibration is the true one."""
    odds = np.log(chance) - np.log1p(-chance)
    return np.asarray(1 / (1 + np.exp(-(odds - intercept) / slope)))


def test_the_oracle_itself_has_no_gap_and_is_calibrated(world: PropensityWorld) -> None:
    truth = world.oracle()
    found = grade(scores_from(truth, chances(truth), half_width=1e-9), truth)
    assert found.rows == truth.num_rows > 20_000 and found.orders > 500 and found.persons > 2_300
    assert found.auc_gap.value == found.auc_gap.high == 0 and found.log_loss_gap.value == 0
    assert abs(found.slope.value - 1) < 2 * (found.slope.high - 1) and 0.8 < found.slope.low < found.slope.high < 1.2
    assert abs(found.intercept.value) < 2 * (found.intercept.high - found.intercept.value)
    assert found.ece < 2 * found.ece_noise
    assert found.coverage is not None and found.coverage.value == 1
    assert found.gain_over_base.low > 0
    assert found.auc_latent > found.auc + 0.03


def test_a_bend_is_found_as_bent_as_it_is(world: PropensityWorld) -> None:
    truth = world.oracle()
    plain = grade(scores_from(truth, chances(truth)), truth)
    bent = grade(scores_from(truth, shifted(chances(truth), 0.7, 0.4)), truth)
    assert bent.slope.value == pytest.approx(0.7 * plain.slope.value, rel=0.01)
    assert bent.intercept.value == pytest.approx(0.4 * plain.slope.value + plain.intercept.value, abs=0.02)
    assert 1 not in bent.slope and bent.log_loss_gap.low > 0 and bent.ece > 3 * plain.ece_noise
    assert bent.auc_gap.value == pytest.approx(0, abs=1e-6)
    assert plain.coverage is None


def test_noise_costs_area_and_log_loss_beyond_the_interval(world: PropensityWorld) -> None:
    truth = world.oracle()
    odds = np.log(chances(truth)) + np.random.default_rng(2).normal(0, 1.5, truth.num_rows)
    noisy = grade(scores_from(truth, np.clip(np.exp(odds), 1e-6, 0.99)), truth)
    assert noisy.auc_gap.low > 0.01 and noisy.log_loss_gap.low > 0
    assert noisy.auc_gap.value == pytest.approx(noisy.auc_oracle - noisy.auc)


@pytest.mark.prove
def test_intervals_are_as_wide_as_resampling_persons_makes_them(world: PropensityWorld, record_property: pytest.RecordProperty) -> None:
    record_property("claim", "the grade's intervals (area, calibration, log-loss, coverage) are as wide as those of resampled persons")
    record_property("n", 60)
    record_property("seed", 4)
    record_property("interval", "a factor of 1.45")
    truth = world.oracle()
    random = np.random.default_rng(4)
    chance = np.clip(np.exp(np.log(chances(truth)) + random.normal(0, 0.7, truth.num_rows)), 1e-6, 0.99)
    found = grade(scores_from(truth, chance, half_width=0.01), truth)
    person = np.unique(truth["person_id"].to_pylist(), return_inverse=True)[1]
    order = np.argsort(person, kind="stable")
    cuts = np.searchsorted(person[order], np.arange(person.max() + 2))
    drawn: dict[str, list[float]] = {name: [] for name in ("auc_gap", "slope", "intercept", "log_loss_gap", "coverage")}
    for _ in range(60):
        picked = random.integers(0, person.max() + 1, person.max() + 1)
        rows = np.concatenate([order[cuts[who] : cuts[who + 1]] for who in picked])
        ids = np.concatenate([np.full(cuts[who + 1] - cuts[who], place) for place, who in enumerate(picked)])
        again = truth.take(rows).set_column(0, "person_id", pa.array([f"q{number}" for number in ids]))
        resampled = grade(scores_from(again, chance[rows], half_width=0.01), again)
        for name, values in drawn.items():
            values.append(getattr(resampled, name).value)
    for name, values in drawn.items():
        stated = getattr(found, name)
        # sixty draws tell a spread to about 9 %: a factor of 1.4 is four of these
        assert 1 / 1.45 < (stated.high - stated.low) / (2 * 1.96 * np.std(values, ddof=1)) < 1.45, name


def test_coverage_is_the_share_of_intervals_that_hold_the_oracle(world: PropensityWorld) -> None:
    truth = world.oracle()
    random = np.random.default_rng(3)
    errors = random.normal(0, 0.01, truth.num_rows)
    found = grade(scores_from(truth, chances(truth) + errors, half_width=0.01 * 1.6449), truth)
    assert found.coverage is not None
    assert found.coverage.value == pytest.approx(0.90, abs=0.01) and 0.9 in found.coverage


def test_scores_of_some_rows_are_graded_on_those_and_unknown_or_repeated_ones_refused(world: PropensityWorld) -> None:
    truth = world.oracle()
    some = truth.filter(pa.array(np.arange(truth.num_rows) % 2 == 0))
    assert grade(scores_from(some, chances(some)), truth).rows == some.num_rows
    stranger = pa.table({"person_id": ["p9999999"], "as_of_at": pa.array([datetime(2026, 3, 2)], pa.timestamp("us")), "score": [0.1]})
    with pytest.raises(ValueError, match="1 of 1 scores"):
        grade(stranger, truth)
    with pytest.raises(ValueError, match="scored twice"):
        grade(pa.concat_tables([scores_from(some, chances(some))] * 2), truth)
    never = some.filter(pa.array(~np.asarray(some["is_converted"].to_numpy(zero_copy_only=False))))
    with pytest.raises(ValueError, match="0 were followed"):
        grade(scores_from(never, chances(never)), truth)


def test_each_row_of_an_identified_world_names_its_person_and_each_device_belongs_to_the_same_one(world: PropensityWorld) -> None:
    accounts, devices = world.persons_of_accounts(), world.persons_of_devices()
    assert len(accounts) == world.spec.customers
    rows = 0
    for path in sorted(Path(world.landing).glob("*.csv.gz")):
        with gzip.open(path, "rt") as handle:
            for row in csv.DictReader(handle):
                rows += 1
                person = accounts[row["user_id"]]
                assert not row["anonymous_id"] or devices[row["anonymous_id"]] == person
    assert rows > 40_000
