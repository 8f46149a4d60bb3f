"""What needs consent says for what, once, in its model's yml; a table of features, labels, scores or exports that names no scope fails here."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml.features import VIEWS
from ml.labels import LABEL
from tests.conftest import REPOSITORY
from waymark.core.people_settings import CONSENT_SCOPES

MODELS = REPOSITORY / "dbt" / "models"
# Whatever is made of persons for a use stands in one of these folders, or is a table of groups, agg_*; the tables of which features and labels are views
# stand apart.
STORED = [MODELS / "intermediate" / "activity" / f"{name}.sql" for name in ("int_customer_activity", "int_customer_labels")]
USES = sorted([*(MODELS / "features").rglob("*.sql"), *(MODELS / "exports").rglob("*.sql"), *MODELS.rglob("agg_*.sql"), *STORED])
SCORERS = sorted((REPOSITORY / "ml" / "models").glob("*/score.py"))


def meta(path: Path) -> dict[str, Any]:
    (model,) = yaml.safe_load(path.with_suffix(".yml").read_text(encoding="utf-8"))["models"]
    return dict(model["config"]["meta"])


def lacks(path: Path) -> str | None:
    """What is wrong with a model that needs consent."""
    scope = meta(path).get("consent_scope")
    if not scope:
        return "its yml names no meta.consent_scope"
    if scope not in CONSENT_SCOPES:
        return f"'{scope}' is no scope that every project knows"
    sql = re.sub(r"\{#.*?#\}|--[^\n]*", " ", path.read_text(encoding="utf-8"), flags=re.S)
    if not re.search(r"\{\{ (consented(_today)?|denied_by_any_name)\(", sql):
        return "its SQL asks nobody: it lacks consented(), consented_today() or denied_by_any_name()"
    return None if scope not in sql else "its SQL repeats the scope that the yml names"


@pytest.mark.parametrize("path", USES, ids=lambda path: path.stem)
def test_a_model_that_needs_consent_names_its_scope_in_its_yml_and_masks_its_rows(path: Path) -> None:
    assert lacks(path) is None


def test_tables_of_groups_are_asked_too() -> None:
    assert {"agg_weekly_visits", "feat_customer_behavior", "int_customer_activity"} <= {path.stem for path in USES}


def test_a_model_without_a_scope_or_without_a_mask_is_found(tmp_path: Path) -> None:
    config = "models: [{{name: m, config: {{meta: {{kind: pure{}}}}}}}]\n"
    (tmp_path / "m.sql").write_text("select * from points where {{ consented('points') }}")
    (tmp_path / "m.yml").write_text(config.format(""))
    assert "names no" in str(lacks(tmp_path / "m.sql"))
    (tmp_path / "m.yml").write_text(config.format(", consent_scope: anything"))
    assert "no scope" in str(lacks(tmp_path / "m.sql"))
    (tmp_path / "m.yml").write_text(config.format(", consent_scope: profiling"))
    assert lacks(tmp_path / "m.sql") is None
    (tmp_path / "m.sql").write_text("-- {{ consented('points') }}\nselect * from points")
    assert "asks nobody" in str(lacks(tmp_path / "m.sql"))
    (tmp_path / "m.sql").write_text("select * from points where {{ consented('points') }} and scope = 'profiling'")
    assert "repeats" in str(lacks(tmp_path / "m.sql"))


def test_scores_and_training_read_their_persons_from_a_model_that_names_the_scope_of_the_features() -> None:
    by_table = {f"features.{path.stem}": meta(path) for path in USES if path.parent.name == "features"}
    scopes = {view.consent_scope for view in VIEWS.values()}
    assert {by_table[view.table]["consent_scope"] for view in VIEWS.values()} == scopes
    assert by_table[LABEL.training_table]["consent_scope"] in scopes
    assert SCORERS
    for path in SCORERS:
        module = import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
        found = by_table[module.POINTS]
        assert found["consent_scope"] in scopes and module.TABLE in found["scored"], path
        assert "{POINTS}" in path.read_text(encoding="utf-8")
    for table in (LABEL.training_table, *(import_module("ml.models.propensity.score").POINTS,)):
        assert "consented_today(" in (MODELS / f"{table.replace('.', '/')}.sql").read_text(encoding="utf-8")
