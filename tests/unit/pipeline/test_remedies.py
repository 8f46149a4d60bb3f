"""What doctor tells people to type is what a shell takes for the files that it means, whatever the folder is called."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from waymark.core.quoting import project_option
from waymark.pipeline.doctor import runs, settings, storage
from waymark.pipeline.doctor.examination import Check
from waymark.pipeline.doctor.patient import Patient


def _left_over(patient: Patient) -> list[str]:
    left = [patient.home.scratch / name for name in ("a", "b")]
    for path in left:
        path.write_text("")
    return ["rm", "-r", *map(str, left)]


def _damaged(patient: Patient) -> list[str]:
    patient.home.published.write_bytes(b"no database" * 500)
    return ["rm", "-f", str(patient.home.published), "then:", "waymark", "run", "--project", str(patient.directory)]


def _open_quarantine(patient: Patient) -> list[str]:
    patient.home.quarantine.chmod(0o755)
    return ["chmod", "-R", "go=", str(patient.home.quarantine)]


def _open_secret(patient: Patient) -> list[str]:
    patient.home.secret_file.write_text("a" * 64)
    patient.home.secret_file.chmod(0o644)
    return ["chmod", "600", str(patient.home.secret_file)]


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (_left_over, storage.left_over_files),
        (_damaged, runs.published_snapshot),
        (_open_quarantine, storage.quarantine),
        (_open_secret, settings.secret),
    ],
)
def test_a_path_stays_one_word(plant: Callable[[Patient], list[str]], check: Check, tmp_path: Path) -> None:
    folder = tmp_path / "it's a shop"
    folder.mkdir()
    (folder / "waymark.yml").write_text("name: shop\nsources:\n  shop: {mapping: shop.yml, files: ['data/*.csv']}\n")
    patient = Patient(folder)
    patient.home.ensure()
    wanted = plant(patient)
    (finding,) = (finding for finding in check(patient) if finding.verdict != "ok")
    command = finding.remedy[finding.remedy.index(f"{wanted[0]} {wanted[1]}") :].split(";")[0]
    assert [word.rstrip(",") for word in shlex.split(command)] == wanted


def test_a_project_is_named_by_the_shorter_path_and_not_at_all_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "it's a shop"
    folder.mkdir()
    for here, words in ((folder, []), (tmp_path, ["--project", folder.name]), (Path(os.sep), ["--project", str(folder.relative_to(os.sep))])):
        monkeypatch.chdir(here)
        assert shlex.split(project_option(folder)) == words
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    assert shlex.split(project_option(folder)) == ["--project", str(folder)]
