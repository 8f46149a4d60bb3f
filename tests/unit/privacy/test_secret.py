"""Where the secret comes from, and what is refused before anything is read."""

from __future__ import annotations

import os
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from waymark.core.errors import SecretError
from waymark.core.home import Home
from waymark.core.settings import Project, load_project
from waymark.privacy import PUBLIC_DEMO_SECRET, Secret, load_secret
from waymark.privacy import secret as secret_module


def project_in(folder: Path, text: str = "name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\n") -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "waymark.yml").write_text(text)
    return load_project(folder)


def test_a_secret_is_made_once_for_its_owner_alone_and_said(tmp_path: Path) -> None:
    told: list[str] = []
    project = project_in(tmp_path)
    first = load_secret(project, told.append)
    assert len(told) == 1 and str(project.home.secret_file) in told[0]
    assert project.home.secret_file.stat().st_mode & 0o777 == 0o600
    assert project.home.secret_file.read_text().strip() not in told[0]
    assert load_secret(project, told.append).fingerprint == first.fingerprint
    assert len(told) == 1


def _load_at_once(folder: str, start: Barrier, found: Queue[str]) -> None:
    project = load_project(folder)
    start.wait()
    try:
        found.put(load_secret(project).fingerprint)
    except Exception as error:
        found.put(repr(error))


def test_first_runs_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    processes = get_context("fork")
    for attempt in range(10):
        project = project_in(tmp_path / str(attempt))
        start, found = processes.Barrier(3), processes.Queue()
        runs = [processes.Process(target=_load_at_once, args=(str(project.directory), start, found)) for _ in range(3)]
        for run in runs:
            run.start()
        said = [found.get(timeout=30) for _ in runs]
        for run in runs:
            run.join()
        assert said == [load_secret(project).fingerprint] * 3
        assert sorted(path.name for path in project.home.root.iterdir()) == ["secret", "secret_fingerprint"]


def test_a_secret_made_by_another_run_in_between_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_in(tmp_path)
    made = secret_module.secrets.token_hex

    def slowly(size: int) -> str:
        monkeypatch.setattr(secret_module.secrets, "token_hex", made)
        others.append(load_secret(project).fingerprint)
        return made(size)

    others: list[str] = []
    told: list[str] = []
    monkeypatch.setattr(secret_module.secrets, "token_hex", slowly)
    assert [load_secret(project, told.append).fingerprint] == others and told == []


def test_a_run_that_looked_for_the_secret_just_before_another_made_it_takes_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_in(tmp_path)
    refuse = secret_module._refuse_if_gone
    others: list[str] = []

    def after_another(home: Home) -> None:
        monkeypatch.setattr(secret_module, "_refuse_if_gone", refuse)
        others.append(load_secret(project).fingerprint)
        refuse(home)

    monkeypatch.setattr(secret_module, "_refuse_if_gone", after_another)
    assert [load_secret(project).fingerprint] == others


def test_the_environment_comes_first_and_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_SECRET", "out of the environment, long enough")
    project = project_in(tmp_path)
    assert load_secret(project).hmac("x") == Secret(b"out of the environment, long enough").hmac("x")
    assert not project.home.secret_file.exists()
    assert all(b"environment" not in path.read_bytes() for path in project.home.root.rglob("*") if path.is_file())


def test_another_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_in(tmp_path)
    load_secret(project)
    monkeypatch.setenv("WAYMARK_SECRET", "quite another secret, long enough")
    with pytest.raises(SecretError, match="not the secret that the home was made with"):
        load_secret(project)


def test_a_lost_or_short_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_in(tmp_path)
    load_secret(project)
    project.home.secret_file.unlink()
    with pytest.raises(SecretError, match="is gone"):
        load_secret(project)
    project.home.secret_file.write_text("\n")
    with pytest.raises(SecretError, match="too short"):
        load_secret(project)
    monkeypatch.setenv("WAYMARK_SECRET", "short")
    with pytest.raises(SecretError, match="fewer than"):
        load_secret(project)


def test_a_secret_that_others_can_read_is_closed(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    load_secret(project)
    os.chmod(project.home.secret_file, 0o644)
    load_secret(project)
    assert project.home.secret_file.stat().st_mode & 0o777 == 0o600


def test_the_demo_uses_the_public_secret_and_refuses_real_sources(tmp_path: Path) -> None:
    demo = project_in(tmp_path / "demo", "name: d\ndemo: true\nsources: {waymark_world: {mapping: m.yml, files: [f]}}\n")
    assert load_secret(demo).hmac("x") == Secret(PUBLIC_DEMO_SECRET.encode()).hmac("x")
    assert "public" in PUBLIC_DEMO_SECRET
    real = project_in(tmp_path / "real", "name: d\ndemo: true\nsources: {waymark_world: {mapping: m.yml, files: [f]}, shop: {mapping: m.yml, files: [f]}}\n")
    with pytest.raises(SecretError, match="shop"):
        load_secret(real)
    assert not real.home.root.exists()
