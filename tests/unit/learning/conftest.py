"""What several tests of learning share: nothing here writes to it."""

from __future__ import annotations

import pytest

from ml.datasets import Dataset, assemble
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.learning import population as plain


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """Three splits of independent rows."""
    tables = {
        "train": plain.population(4000, seed=1, first_week=0, weeks=10)[0],
        "calibration": plain.population(2500, seed=2, first_week=11, weeks=3)[0],
        "test": plain.population(2500, seed=3, first_week=15, weeks=3)[0],
    }
    return assemble(tables, plain.FIELDS, horizon_days=7, seed=7)


@pytest.fixture(scope="session")
def result(dataset: Dataset) -> TrainingResult:
    return train_on(dataset)
