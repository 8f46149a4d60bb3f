"""What several tests of learning share."""

from __future__ import annotations

import pytest

from ml.datasets import Dataset, assemble
from tests.unit.learning.population import FIELDS, population


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    tables = {
        "train": population(4000, seed=1, first_week=0, weeks=10)[0],
        "calibration": population(2500, seed=2, first_week=11, weeks=3)[0],
        "test": population(2500, seed=3, first_week=15, weeks=3)[0],
    }
    return assemble(tables, FIELDS, horizon_days=7, seed=7)
