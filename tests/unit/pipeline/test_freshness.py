"""What a run would do that the published snapshot lacks: a promoted model scores, a changed setting of learning trains."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml.models.propensity.score import ScoreReport
from tests.unit.pipeline.test_registry import STORE
from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import Connection, connect
from waymark.ingestion import owed_checks
from waymark.pipeline import learning, publish
from waymark.pipeline.freshness import what_is_new

SETTINGS = "name: tiny\nsources: {shop: {mapping: shop.yml, files: ['data/*']}}\n"
MAPPING = "source: shop\nformat: csv\ncolumns: {occurred_at: at, event_type: what, anonymous_id: visitor}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose store of models has a champion, version 2, and another version."""
    (tmp_path / "waymark.yml").write_text(SETTINGS)
    (tmp_path / "shop.yml").write_text(MAPPING)
    home = load_project(tmp_path).home
    home.mlflow.mkdir(parents=True)
    with closing(sqlite3.connect(home.mlflow / "mlflow.db")) as store:
        store.executescript(STORE)
    return tmp_path


def reasons(folder: Path, scored_by: str | None, learning_as: Project | None = None) -> list[str]:
    """Those that have to do with models. learning_as: the project as its settings of learning stood at the publication."""
    project = load_project(folder)
    published = {"scored_by": scored_by, "learning": (learning_as or project).settings.learning.model_dump(mode="json")}
    return [reason for reason in what_is_new(project, published) if "champion" in reason or "learning" in reason]


def champion_is(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(load_project(folder).home.mlflow / "mlflow.db")) as store:
        store.execute(statement)
        store.commit()


def test_another_champion_than_the_one_that_scored_is_news(folder: Path) -> None:
    assert reasons(folder, "2") == []
    assert reasons(folder, None) == ["the champion is version 2, and the scores are not by any"]
    champion_is(folder, "update registered_model_aliases set version = 1")
    assert reasons(folder, "2") == ["the champion is version 1, and the scores are by version 2"]
    champion_is(folder, "delete from registered_model_aliases")
    assert reasons(folder, "2") == ["there is no champion any more, and the scores are by version 2"]
    assert reasons(folder, None) == []
    (load_project(folder).home.mlflow / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="MLflow's store cannot be read"):
        reasons(folder, None)


def test_a_changed_setting_of_learning_is_news(folder: Path) -> None:
    before = load_project(folder)
    (folder / "waymark.yml").write_text(SETTINGS + "learning: {min_positives: 50}\n")
    assert reasons(folder, "2", before) == ["the settings of learning changed"]
    assert load_project(folder).refresh_digest == before.refresh_digest


@pytest.mark.parametrize("version", ["2", None])
def test_the_manifest_says_who_scored_even_where_nobody_could_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    project: Any = SimpleNamespace(home=Home(tmp_path), refresh_digest="s", settings=load_project_settings(tmp_path))
    monkeypatch.setattr("ml.registry.champion", lambda *_: SimpleNamespace(version=version, folder=tmp_path) if version else None)
    monkeypatch.setattr(learning, "_champion_model", lambda _: None)
    monkeypatch.setattr("ml.models.propensity.score.score_customers", lambda _, model, by: ScoreReport(0, by))
    with connect() as connection:
        connection.execute("""
            create schema raw;
            create table raw.run_clock as select timestamp '2026-03-01' as data_now;
            create table raw.build_state as select 'b' as build_digest
        """)

        @contextmanager
        def opened() -> Iterator[Connection]:
            yield connection

        run: Any = SimpleNamespace(project=project, mappings={}, secret=SimpleNamespace(fingerprint="f"), open_warehouse=opened, mark_unpublished=lambda: None)
        assert publish._manifest(connection, run)["scored_by"] is None  # nothing has ever been scored
        learning.score(run)
        assert publish._manifest(connection, run)["scored_by"] == version
        assert owed_checks(connection) == {"scores"}


def load_project_settings(folder: Path) -> Any:
    (folder / "waymark.yml").write_text(SETTINGS)
    (folder / "shop.yml").write_text(MAPPING)
    return load_project(folder).settings
