"""What cannot be logged is not put out: the entry of the audit log comes before the first file that a reader sees is another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.core.people_settings import AccessSettings
from waymark.core.settings import EngineSettings
from waymark.core.warehouse import OUTPUTS_FILE, WAREHOUSE_FILE, connect
from waymark.pipeline import publish
from waymark.pipeline.progress import Stage
from waymark.privacy import Secret
from waymark.privacy.audit import AuditLog


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run with outputs, of which nothing is looked at but the files that come of them."""
    home = Home(tmp_path)
    home.ensure()
    connect(home.root / OUTPUTS_FILE).close()
    for name, made in (("_complete", {}), ("_manifest", {}), ("_thresholds", {}), ("newest_removal", 0)):
        monkeypatch.setattr(publish, name, lambda *_, made=made: made)
    access = AccessSettings(roles=["analyst"], file_mode="0400")
    project = SimpleNamespace(home=home, settings=SimpleNamespace(access=access, engine=EngineSettings(), retention_as_published={}))
    old = os.umask(0o022)
    yield SimpleNamespace(project=project, secret=Secret(b"a secret for tests, long enough"), warehouse=home.root / WAREHOUSE_FILE)
    os.umask(old)


def put_out(run: Any, before: str = "") -> None:
    with connect() as connection, Stage("publish", quiet=True) as stage:
        connection.execute(before)
        publish._swap_in(connection, run, "", {}, stage)


def published(home: Home) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.published_dir.rglob("*") if path.is_file() and not path.name.startswith(".building-")}


def test_where_the_log_cannot_be_written_every_reader_keeps_what_it_had(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = run.project.home
    put_out(run)
    before, modified = published(home), home.role_file("analyst").stat().st_ino
    assert {"waymark.duckdb", "manifest.json", "reads.jsonl"} == before.keys()
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{handle}") == str(AuditLog(home).path):
            raise OSError(28, "No space left on device")
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="audit log cannot be written"):
            put_out(run)
    assert published(home) == before and home.role_file("analyst").stat().st_ino == modified
    put_out(run)
    publish.remove_unfinished(home)
    assert home.role_file("analyst").stat().st_ino != modified
    assert list(home.published_dir.rglob(".building-*")) == [], "what was not put out goes with the next publication"
    assert [entry.action for _, entry in AuditLog(home).lines() if entry] == ["publish", "publish"]


def test_the_log_knows_of_a_publication_before_any_reader(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rename that a reader sees finds the entry there."""
    seen: list[tuple[str, int]] = []
    replace = os.replace

    def telling(source: Path, target: Path) -> None:
        seen.append((str(target.relative_to(run.project.home.published_dir)), AuditLog(run.project.home).head().entries))
        replace(source, target)

    monkeypatch.setattr(os, "replace", telling)
    put_out(run)
    assert seen == [("analyst/waymark.duckdb", 1), ("waymark.duckdb", 1), ("manifest.json", 1)]


def test_acts_of_consent_are_told_before_what_they_changed_is_put_out(run: Any) -> None:
    noted = "create schema raw; create table raw.unlogged_acts as select 'web' as source, 4 as batch_id, 'email' as scope, 'grant' as action, 2 as acts"
    put_out(run, f"{noted}, null::integer as entry")
    (told, put) = (entry for _, entry in AuditLog(run.project.home).lines() if entry)
    assert (told.action, put.action) == ("consent_changed", "publish")
    assert told.details == {"run_id": "", "through_batch": 4, "acts": {"web": {"email": {"grant": 2}}}}
