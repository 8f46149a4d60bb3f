"""Many worlds: every leak that is dated back is named and nothing else, and the tests behind it are as often wrong as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ml.features import VIEWS, model_fields
from ml.models.propensity.backdating import Excess, backdated_leaks, excesses
from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator.mechanisms.leaks import BLATANT, SUBTLE
from tests.unit.propensity.received_world import fill
from waymark.core.warehouse import connect

SEEDS = range(101, 113)
FIELDS = model_fields(VIEWS)


def found(folder: Path, seed: int, **rates: float) -> tuple[list[str], tuple[Excess, ...]]:
    spec = WorldSpec(customers=1_200, seed=seed, is_identified=True, mechanisms={**DEFAULT_MECHANISMS, **rates})
    with connect() as connection:
        fill(connection, folder / "-".join(map(str, (seed, *rates.values()))), spec)
        return [leak.feature for leak in backdated_leaks(connection, FIELDS)], excesses(connection)


@pytest.mark.prove
@pytest.mark.parametrize("rate", [SUBTLE, BLATANT])
def test_a_leak_that_is_dated_back_is_named_in_every_world(rate: float, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    named = [found(tmp_path, seed, leaks=rate)[0] for seed in SEEDS]
    record_property("claim", f"rows dated back for {rate:.0%} of the orders are named, by event type, and no other")
    record_property("n", f"{len(SEEDS)} worlds of 1,200 persons")
    record_property("seed", f"{SEEDS[0]} to {SEEDS[-1]}")
    assert named == [["newsletter_subscribed"]] * len(SEEDS)


@pytest.mark.prove
def test_honest_lateness_is_named_in_no_world_and_its_tests_are_normal(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    worlds = [found(tmp_path, seed, late=late) for seed in SEEDS for late in (DEFAULT_MECHANISMS["late"], 0.3, 0.6)]
    # Of kinds with enough late rows for a sum to be normal; the tests of one world's kinds are nearly independent.
    scores = [z for _, measured in worlds for excess in measured if excess.late >= 20 for z in excess.z]
    beyond = int((np.abs(scores) > stats.norm.isf(0.025)).sum())
    interval = stats.binomtest(beyond, len(scores)).proportion_ci(1 - 1e-4)
    record_property("claim", "honest lateness (2, 30 and 60 % of rows) is never named; |z| > 1.96 as often as the tests say (5 %)")
    record_property("n", f"{len(worlds)} worlds of 1,200 persons; {len(scores)} tests, {beyond} beyond 1.96")
    record_property("seed", f"{SEEDS[0]} to {SEEDS[-1]}")
    record_property("interval", f"[{interval.low:.3f}, {interval.high:.3f}]")
    assert [names for names, _ in worlds if names] == []
    assert interval.low < 0.05
