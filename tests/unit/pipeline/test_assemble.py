"""The dbt folder of a home: what it holds, and that a second run leaves it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from waymark.core import warehouse
from waymark.core.settings import load_project
from waymark.pipeline import dbt_project
from waymark.pipeline.dbt_project import DbtProject


@pytest.fixture
def dbt(tmp_path: Path) -> DbtProject:
    (tmp_path / "waymark.yml").write_text("name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\n")
    return DbtProject(load_project(tmp_path), tmp_path / "warehouse.duckdb", tmp_path / "dbt")


def test_the_folder_declares_the_sources_of_the_project(dbt: DbtProject) -> None:
    dbt.assemble()
    declared = yaml.safe_load((dbt.folder / "models" / "staging" / "_sources.yml").read_text())
    assert {"shop_events", "shop_pending"} <= {table["name"] for table in declared["sources"][0]["tables"]}
    assert (dbt.folder / "models" / "staging" / "stg_events.sql").is_file()
    profile = yaml.safe_load((dbt.folder / "profiles.yml").read_text())["waymark"]["outputs"]["home"]
    assert sum(2**attempt for attempt in range(profile["retries"]["connect_attempts"])) >= warehouse._PATIENCE_SECONDS, "dbt waits for a reader, too"


def test_a_second_assembly_writes_nothing_and_an_update_what_differs(dbt: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    dbt.assemble()
    before = {path: path.stat().st_mtime_ns for path in dbt.folder.rglob("*") if path.is_file()}
    written: list[Path] = []
    copy, write = dbt_project.shutil.copyfile, dbt_project.write_atomically
    monkeypatch.setattr(dbt_project.shutil, "copyfile", lambda source, target: (written.append(Path(target)), copy(source, target)))
    monkeypatch.setattr(dbt_project, "write_atomically", lambda path, text: (written.append(path), write(path, text)))
    dbt.assemble()
    assert written == [] and before == {path: path.stat().st_mtime_ns for path in dbt.folder.rglob("*") if path.is_file()}
    changed, stale = dbt.folder / "models" / "staging" / "stg_events.sql", dbt.folder / "models" / "marts" / "gone.sql"
    changed.write_text("select 1")
    stale.write_text("select 1")
    dbt.assemble()
    assert written == [changed] and not stale.exists()
