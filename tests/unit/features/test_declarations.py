"""What the feature views say of themselves in three places (declarations, the models' yml, the daily measures) is one and the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml.features import DTYPES, VIEWS, FeatureView, Field, model_fields
from tests.conftest import REPOSITORY

MODELS = REPOSITORY / "dbt" / "models"
KEY_COLUMNS = ["customer_point_id", "customer_id", "as_of_at"]
DATA_TYPES = {"integer": {"integer"}, "number": {"double", "decimal(18,4)"}, "category": {"varchar"}, "boolean": {"boolean"}}
WINDOW = re.compile(r"_(\d+)d$")
FIELDS = [pytest.param(field, id=field.name) for field in model_fields(VIEWS)]


def model(path: Path) -> dict[str, Any]:
    (found,) = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    return dict(found)


def columns(view: FeatureView) -> list[dict[str, Any]]:
    """The view's columns by its yml, those of the key aside."""
    found = model(MODELS / "features" / f"{view.name}.yml")["columns"]
    assert [column["name"] for column in found[:3]] == KEY_COLUMNS
    return list(found[3:])


def measures() -> set[str]:
    found = model(MODELS / "intermediate" / "activity" / "int_node_days.yml")["columns"]
    return {column["name"] for column in found} - {"node_id", "usable_from", "day_at"}


def test_every_feature_model_is_declared_and_the_reverse() -> None:
    assert list(VIEWS) == sorted(path.stem for path in (MODELS / "features").glob("feat_*.sql"))
    assert [view.name for view in VIEWS.values()] == list(VIEWS)
    assert [view.table for view in VIEWS.values()] == [f"features.{name}" for name in VIEWS]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_columns_are_the_declared_fields_in_their_order(view: FeatureView) -> None:
    assert [column["name"] for column in columns(view)] == [field.name for field in view.fields]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_data_types_are_those_of_the_declared_kinds(view: FeatureView) -> None:
    for column, field in zip(columns(view), view.fields, strict=True):
        assert column["data_type"] in DATA_TYPES[field.dtype], field.name


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_described_owned_and_consented_to_alike(view: FeatureView) -> None:
    found = model(MODELS / "features" / f"{view.name}.yml")
    assert (view.owner, view.consent_scope) == (found["config"]["meta"]["owner"], found["config"]["meta"]["consent_scope"])
    assert view.entity == "customer"
    assert view.description in found["description"]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_descriptions_are_the_declared_meanings(view: FeatureView) -> None:
    for column, field in zip(columns(view), view.fields, strict=True):
        assert column["description"].removesuffix(".").lower() == field.meaning.lower(), field.name


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_says_everything(field: Field) -> None:
    assert field.dtype in DTYPES
    assert field.meaning
    assert field.meaning[0] not in " ." and not field.meaning.endswith(".")
    assert field.table in {view.table for view in VIEWS.values()}
    # An identifier is no measure of activity; everything else is made from some.
    assert bool(field.measures) != (field.name == "identifier_count")
    assert set(field.measures) <= measures()
    named = WINDOW.search(field.name)
    assert field.window_days == (int(named.group(1)) if named else 90 if field.name == "session_recency_weight" else None)
    if named:
        assert re.search(rf"\b{field.window_days}\b|\b1 to 5\b", field.meaning)


def test_names_are_unique_over_all_views_and_in_one_order() -> None:
    names = [field.name for field in model_fields(VIEWS)]
    assert len(set(names)) == len(names)
    assert names == [field.name for view in VIEWS.values() for field in view.fields]


def test_every_measure_is_used_by_some_field() -> None:
    assert measures() == {measure for field in model_fields(VIEWS) for measure in field.measures}
