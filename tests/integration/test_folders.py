"""A whole project in folders named as people name them: taken in, stated, trained, published, looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml.registry import trainings_page
from tests.integration.conftest import demo_project, run_project, waymark
from waymark.core.home import Home

ODD = "it's a shop 100% {a}"
ODDER = "it's a shop [2024] * #1 %41?"  # no home can be in here, a project can


@pytest.mark.prove
@pytest.mark.parametrize("folder", [ODD, ODDER])
def test_a_project_in_an_oddly_named_folder_runs_as_any_other(folder: str, tmp_path: Path) -> None:
    directory, elsewhere = demo_project(tmp_path / folder / "project"), {"WAYMARK_HOME": str(tmp_path / "home")} if folder == ODDER else {}
    home, settings = Home(tmp_path / "home" if elsewhere else directory / ".waymark"), directory / "waymark.yml"
    settings.write_text(settings.read_text().replace("min_positives: 200 ", "min_positives: 30 ").replace("{landing}/", ""))
    made = waymark("world", "--project", directory, "--customers", "1000", **elsewhere)
    assert made.returncode == 0, made.stderr
    for file in (home.landing / "waymark_world").iterdir():
        file.rename(directory / file.name)
    ran = run_project(directory, **elsewhere)
    assert ran.code == 0, ran.errors
    assert "telemetry" not in ran.errors, "Dagster has found its settings"
    assert trainings_page(home, "propensity")
    found = json.loads(waymark("doctor", "--project", directory, "--json", **elsewhere).stdout)["checks"]
    assert [finding for finding in found if finding["verdict"] == "problem"] == []
    asked = waymark("sql", "--project", directory, "--format", "json", "select min(session_id) as least from marts.fct_sessions", **elsewhere)
    least = json.loads(asked.stdout)[0]["least"]
    traced = json.loads(waymark("trace", "fct_sessions", least, "--project", directory, "--format", "json", **elsewhere).stdout)
    assert traced and all((directory / event["file"]).is_file() and event["line"] for event in traced)
    verified = waymark("verify", "--project", directory, **elsewhere)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert {path.name for path in (tmp_path / folder).iterdir()} == {"project", "sources"}
    assert {path.name for path in tmp_path.iterdir()} == {folder, *(["home"] if elsewhere else [])}
