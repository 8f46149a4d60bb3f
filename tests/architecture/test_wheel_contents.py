"""What goes into the wheel: all that the product is, and nothing else. tests/proof/test_wheel.py builds one and runs it."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from waymark.core.shipped import shipped
from waymark.pipeline.code import shipped_files

PACKAGES = ("waymark", "dagster_project", "ml", "expectations")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout of git")
    return [Path(line) for line in done.stdout.splitlines() if (REPOSITORY / line).is_file()]


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Every file that the build would write, relative to where packages are installed."""
    from setuptools import Distribution

    monkeypatch.chdir(REPOSITORY)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["pyproject.toml"])
    step = distribution.get_command_obj("build_py")
    step.ensure_finalized()
    return {Path(output).relative_to(step.build_lib) for output in step.get_outputs(include_bytecode=False)}


def expected(tracked: list[Path]) -> set[Path]:
    """The packages' code and templates, the dbt project and the examples inside the first of them, and Dagster's settings."""
    code = {path for path in tracked if path.parts[0] in PACKAGES and path.suffix != ".md"}
    return code | {Path("dagster_project", "dg.toml")} | {Path("waymark", "_shipped", path) for path in tracked if path.parts[0] in ("dbt", "examples")}


def test_every_file_of_the_product_is_in_the_wheel_and_nothing_else(outputs: set[Path], tracked: list[Path]) -> None:
    assert outputs - expected(tracked) == set()
    assert expected(tracked) - outputs == set()
    assert len(outputs) > 200


def test_what_dbt_is_run_from_is_shipped(outputs: set[Path]) -> None:
    assert {Path("waymark", "_shipped", "dbt", path.relative_to(shipped("dbt"))) for path in shipped_files()} <= outputs
    assert not [path for path in outputs if path.parts[0] == "dbt" or (path.parts[-1] == "__init__.py" and "_shipped" in path.parts)]


def test_what_a_run_leaves_in_a_checkout_stays_there(tmp_path: Path) -> None:
    from waymark.core.wheel import files_to_ship

    keep = ["dbt/dbt_project.yml", "dbt/models/marts/a.sql", "examples/demo/waymark.yml", "examples/demo/rates.csv"]
    stay = [
        "dbt/target/manifest.yml", "dbt/logs/a.md", "dbt/.user.yml", "dbt/models/.hidden.sql", "dbt/x.py", "examples/demo/.waymark/landing/a.csv",
        "examples/demo/truth/a.csv", "examples/demo/big.parquet", "tests/a.sql",
    ]  # fmt: skip
    for name in keep + stay:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_to_ship(tmp_path) == sorted(map(Path, keep))


def test_dagster_reads_the_same_settings_from_a_wheel() -> None:
    from waymark.core.wheel import dagster_settings

    written = tomllib.loads(dagster_settings(REPOSITORY / "pyproject.toml"))
    assert written == tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["dg"] and written["project"]["root_module"] == "dagster_project"


def test_an_editable_installation_copies_nothing(outputs: set[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from setuptools import Distribution

    monkeypatch.chdir(REPOSITORY)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["pyproject.toml"])
    step = distribution.get_command_obj("build_py")
    step.editable_mode = True
    step.ensure_finalized()
    assert not [path for path in step.get_outputs(include_bytecode=False) if "_shipped" in path]
    assert [path for path in outputs if "_shipped" in path.parts]


def test_the_metadata_names_no_registry_and_the_versions_that_are_proven() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "://" not in (REPOSITORY / "pyproject.toml").read_text()
    said = [text.rsplit(" ", 1)[-1] for text in project["classifiers"] if text.startswith("Programming Language :: Python :: 3.")]
    from tests.proof.test_wheel import VERSIONS

    assert tuple(said) == VERSIONS
    lower, upper = project["requires-python"].split(",")
    assert lower == f">={VERSIONS[0]}" and upper == f"<3.{int(VERSIONS[-1].split('.')[1]) + 1}"
