"""Projects that several tests look at: each is run once, by the real command line, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SHARED_DATA
from waymark.core.home import Home
from waymark.core.warehouse import connect


@dataclass(frozen=True)
class Ran:
    """A project that ran: what the command said, and how it ended."""

    directory: Path
    code: int
    output: str
    errors: str

    @property
    def home(self) -> Home:
        return Home(self.directory / ".waymark")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with connect(self.home.published, read_only=True) as connection:
            return connection.execute(query).fetchall()

    def value(self, query: str) -> object:
        return self.rows(query)[0][0]


def waymark(*arguments: object, directory: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user starts it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME", "DBT_"))}
    command = [str(Path(sys.executable).parent / "waymark"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory, env={**clean, "COLUMNS": "200", **environment}, timeout=300)


def run_project(directory: Path, *options: str, **environment: str) -> Ran:
    done = waymark("run", "--project", directory, *options, **environment)
    return Ran(directory, done.returncode, done.stdout, done.stderr)


def demo_project(directory: Path) -> Path:
    """A copy of the shipped demo project, home not included."""
    shutil.copytree(REPOSITORY / "examples" / "demo", directory, ignore=shutil.ignore_patterns(".waymark", "truth"))
    shutil.copytree(REPOSITORY / "examples" / "sources", directory.parent / "sources", dirs_exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo with 1,000 persons, whose few conversions are let train a model."""
    directory = demo_project(tmp_path_factory.mktemp("demo") / "project")
    settings = directory / "waymark.yml"
    settings.write_text(settings.read_text().replace("min_positives: 200 ", "min_positives: 30 "))
    made = waymark("world", "--project", directory, "--customers", "1000")
    assert made.returncode == 0, made.stderr
    ran = run_project(directory)
    assert ran.code == 0, ran.errors
    return ran


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The real shop's ten days, as `waymark init` sets them up."""
    return _real(tmp_path_factory, "shop_events")


@pytest.fixture(scope="session")
def rees46(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return _real(tmp_path_factory, "rees46")


def _real(factory: pytest.TempPathFactory, name: str) -> Ran:
    data = SHARED_DATA / name
    if not data.is_dir():
        pytest.skip(f"the public data set {name} is not beside the checkout")
    directory = factory.mktemp(name) / "project"
    made = waymark("init", directory, "--source", REPOSITORY / "examples" / "sources" / f"{name}.yml", "--files", data)
    assert made.returncode == 0, made.stderr
    ran = run_project(directory)
    assert ran.code == 0, ran.errors
    return ran


def sql_json(directory: Path, query: str) -> list[dict[str, object]]:
    done = waymark("sql", "--project", directory, "--format", "json", query)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found
