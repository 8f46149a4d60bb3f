"""One warehouse and one training, shared: nothing here writes to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml.datasets import Dataset, load_for
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from tests.unit.propensity.synthetic import FIELDS, fill, population
from waymark.core.settings import LearningSettings
from waymark.core.warehouse import Connection, connect


@pytest.fixture(scope="session")
def warehouse() -> Iterator[Connection]:
    with connect() as connection:
        fill(connection, population(900, 16))
        yield connection


@pytest.fixture(scope="session")
def dataset(warehouse: Connection) -> Dataset:
    return load_for(warehouse, LearningSettings(min_positives=50), FIELDS)


@pytest.fixture(scope="session")
def trained(dataset: Dataset) -> TrainingResult:
    return train_on(dataset)
