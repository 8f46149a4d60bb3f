"""Every column has a class, each by its name; none is forgotten, and none is classed that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from waymark.cli.reference import table_pages
from waymark.core.errors import AuditError, SettingsError
from waymark.pipeline import classification
from waymark.pipeline.classification import class_of, column_classes
from waymark.privacy.classes import CLASSES, MEANINGS

CLASSES_OF = column_classes()


def test_every_column_of_every_model_and_published_table_has_a_class() -> None:
    documented = {(page.name, column) for page in table_pages() for column, _, _ in page.columns if not page.name.startswith("raw.SOURCE")}
    classed = {(table, column) for table, columns in CLASSES_OF.items() for column in columns}
    assert sorted(documented - classed) == [], "name these columns in meta.classes of their model's yml (docs/access.md)"
    assert sorted(classed - documented) == [], "these are classed, and are no columns"
    assert len(documented) > 500


def test_a_column_has_one_class_wherever_it_stands() -> None:
    """What is personal in one table is so in the next that hands it on."""
    found: dict[str, set[str]] = {}
    for columns in CLASSES_OF.values():
        for column, kind in columns.items():
            found.setdefault(column, set()).add(kind)
    assert {column: kinds for column, kinds in found.items() if len(kinds) > 1} == {}


def test_what_must_not_be_plain_is_classed_so() -> None:
    events = CLASSES_OF["marts.fct_events"]
    assert {events[column] for column in ("anonymous_id", "user_id", "identifiers", "order_id", "click_id")} == {"personal"}
    assert {events[column] for column in ("text", "properties", "page_url", "referrer")} == {"sensitive"}
    assert all(kind == "pseudonymous" for columns in CLASSES_OF.values() for column, kind in columns.items() if column.endswith("customer_id"))
    assert list(MEANINGS) == list(CLASSES)


def test_a_column_without_a_class_is_refused() -> None:
    with pytest.raises(AuditError, match="has no class"):
        class_of(CLASSES_OF, "marts.fct_events", "mother_s_maiden_name")
    with pytest.raises(AuditError, match="has no class"):
        class_of(CLASSES_OF, "marts.fct_new", "event_id")


@pytest.mark.parametrize(("classes", "said"), [({"secret": ["a"]}, "is no class"), ({"personal": ["a"], "internal": ["a"]}, "stands in two")])
def test_a_wrong_declaration_is_refused(classes: dict[str, list[str]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "marts").mkdir(parents=True)
    model = {"name": "fct_new", "columns": [{"name": "a"}], "config": {"meta": {"classes": classes}}}
    (tmp_path / "models" / "marts" / "fct_new.yml").write_text(yaml.safe_dump({"models": [model]}))
    monkeypatch.setattr(classification, "shipped", lambda part: tmp_path)
    with pytest.raises(SettingsError, match=said):
        column_classes()


def test_the_page_tells_the_classes() -> None:
    text = (REPOSITORY / "docs" / "access.md").read_text(encoding="utf-8")
    assert [kind for kind in CLASSES if f"`{kind}`" not in text] == []
