"""Trainings that looked at an erased person's data go from MLflow's store with their files, also where a kill came between the two."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ml import registry
from ml.registry import artifacts_of, forget_trainings
from waymark.core.errors import StorageError
from waymark.core.home import Home

EARLY, LATE, TRIAL = "a" * 32, "b" * 32, "c" * 32
# Of MLflow's store what a deletion looks at.
STORE = f"""
    create table experiments (experiment_id integer, name text);
    create table runs (run_uuid text, experiment_id integer);
    create table tags (key text, value text, run_uuid text);
    create table model_versions (name text, version integer, current_stage text, description text, source text, run_id text, run_link text,
        storage_location text);
    create table model_version_tags (name text, version integer, key text, value text);
    create table registered_model_aliases (name text, alias text, version integer);
    create table datasets (dataset_uuid text);
    create table inputs (source_id text, destination_id text);
    insert into experiments values (1, 'propensity');
    insert into runs values ('{EARLY}', 1), ('{LATE}', 1), ('{TRIAL}', 1);
    insert into tags values ('waymark.data_now', '2026-03-01 00:00:00', '{EARLY}'), ('waymark.data_now', '2026-03-09 00:00:00', '{LATE}'),
        ('mlflow.parentRunId', '{LATE}', '{TRIAL}');
    insert into model_versions (name, version, run_id) values ('propensity', 1, '{EARLY}'), ('propensity', 2, '{LATE}');
    insert into registered_model_aliases values ('propensity', 'champion', 2);
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    for run in (EARLY, LATE, TRIAL, "not-a-run"):
        artifacts_of(home, run).mkdir(parents=True)
        (artifacts_of(home, run) / "model.json").write_text("{}")
    with closing(sqlite3.connect(home.mlflow / "mlflow.db")) as store:
        store.executescript(STORE)
    return home


def left(home: Home) -> set[str]:
    return {path.name for path in (home.mlflow / "artifacts").iterdir()}


def test_versions_are_told_before_they_go_and_files_go_with_them(home: Home) -> None:
    told: list[list[str]] = []

    def note(versions: list[str]) -> None:
        with closing(sqlite3.connect(home.mlflow / "mlflow.db")) as store:
            assert store.execute("select count(*) from runs").fetchone() == (3,)
        told.append(versions)

    assert forget_trainings(home, "propensity", "2026-03-02 00:00:00", told=note) == ["2"]
    assert told == [["2"]] and left(home) == {EARLY, "not-a-run"}
    assert forget_trainings(home, "propensity", "0001-01-01 00:00:00") == ["1"] and left(home) == {"not-a-run"}


def test_files_that_a_kill_left_go_at_the_next_attempt(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(registry, "_remove_artifacts", killed)
        forget_trainings(home, "propensity", "2026-03-02 00:00:00")
    assert LATE in left(home)
    assert forget_trainings(home, "propensity", "2026-03-02 00:00:00") == [] and left(home) == {EARLY, "not-a-run"}


def test_files_that_cannot_be_removed_and_a_store_that_is_in_use_are_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched, pytest.raises(StorageError, match="cannot be removed"):
        patched.setattr(shutil, "rmtree", refused)
        forget_trainings(home, "propensity", "2026-03-02 00:00:00")
    assert LATE in left(home)
    with closing(sqlite3.connect(home.mlflow / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(path, **{**options, "timeout": 0}))
        with pytest.raises(StorageError, match="cannot be written"):
            forget_trainings(home, "propensity", "0001-01-01 00:00:00")
