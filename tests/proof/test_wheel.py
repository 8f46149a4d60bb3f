"""The wheel alone, outside the checkout: a project is made, run and queried, on each version of Python that the metadata names."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.architecture.test_wheel_contents import expected
from tests.conftest import REPOSITORY

VERSIONS = ("3.11", "3.12", "3.13")
PRESENT = f"{sys.version_info[0]}.{sys.version_info[1]}"
OF_THE_CHECKOUT = ("PYTHON", "VIRTUAL_ENV", "WAYMARK_", "DAGSTER_", "DBT_", "MLFLOW_", "PYTEST_", "COVERAGE_", "PYENV_")


def command(*arguments: object, directory: Path, seconds: int = 600) -> str:
    """What a command says, in a folder and an environment that know nothing of the checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_CHECKOUT)} | {"DO_NOT_TRACK": "true"}
    done = subprocess.run(list(map(str, arguments)), cwd=directory, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has, as a clean clone gives it, and what an older build left."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, folder / "clone" / name)
    (folder / "clone" / "build" / "lib" / "waymark").mkdir(parents=True)
    (folder / "clone" / "build" / "lib" / "waymark" / "gone.py").write_text("# of an older build\n")
    return folder / "clone"


def built(source: Path, folder: Path) -> Path:
    """The wheel of a checkout or of a source distribution."""
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--no-index")
    command(sys.executable, "-m", "pip", "wheel", source, *options, "-w", folder, directory=folder.parent)
    (made,) = folder.glob("waymark-*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    return built(clone, clone.parent / "made")


def held(wheel: Path) -> set[Path]:
    with zipfile.ZipFile(wheel) as archive:
        return {Path(name) for name in archive.namelist() if ".dist-info/" not in name}


@pytest.mark.prove
def test_the_wheel_holds_what_git_has_of_the_product(wheel: Path, record_property: Callable[[str, object], None]) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    assert held(wheel) == expected([Path(name) for name in listed])
    record_property("n", f"{len(held(wheel))} files")


@pytest.mark.prove
def test_a_source_distribution_gives_the_same_wheel(clone: Path, wheel: Path, tmp_path: Path) -> None:
    command(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})", directory=clone)
    (archive,) = tmp_path.glob("waymark-*.tar.gz")
    assert held(built(archive, tmp_path / "made")) == held(wheel)


def locked_environment(version: str, folder: Path) -> Path:
    """The Python of an environment with the locked packages and without Waymark. Skips where the interpreter or the packages are out of reach."""
    if version == PRESENT:
        # The present environment's packages by reference; its .pth files, and so an installation in place, are not followed.
        command(sys.executable, "-m", "venv", folder, directory=folder.parent)
        (packages,) = folder.glob("lib/python*/site-packages")
        (present,) = {str(Path(path)) for path in sys.path if Path(path).name == "site-packages" and Path(path).is_relative_to(sys.prefix)}
        (packages / "present.pth").write_text(present + "\n")
        return folder / "bin" / "python"
    # pyenv's own names on the PATH start nothing unless a version is chosen.
    found = next(iter(sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))), None) or shutil.which(f"python{version}")
    if not found:
        pytest.skip(f"no Python {version} here")
    installer = Path(sys.executable).with_name("uv")
    command(installer, "venv", "--quiet", "--python", found, folder, directory=folder.parent)
    options = ("--quiet", "--require-hashes", "-r", REPOSITORY / "requirements.lock", "--python", folder / "bin" / "python")
    try:
        command(installer, "pip", "install", "--dry-run", *options, directory=folder.parent)
    except AssertionError as error:
        if "onnect" in str(error) or "dns" in str(error).lower():
            pytest.skip("no package index is in reach")
        raise
    command(installer, "pip", "install", *options, directory=folder.parent)
    return folder / "bin" / "python"


def write_events(file: Path) -> dict[str, int]:
    """Two months of a tiny shop: twelve visitors, each of two visits a week, every third visit with an order. Returns what must come out."""
    start, events, orders, sessions = datetime(2026, 3, 2, 9), [], 0, 0
    for visitor in range(12):
        for visit in range(16):
            at = start + timedelta(days=visit * 3.5, minutes=visitor)
            sessions += 1
            names = ["page_viewed", "product_added_to_cart"] + (["checkout_completed"] if visit % 3 == 2 else [])
            orders += len(names) - 2
            for step, name in enumerate(names):
                data = f'{{"transaction_id": "o{visitor}-{visit}", "revenue": 20}}' if name == "checkout_completed" else "{}"
                events.append([f"v{visitor}", "https://shop.example/p", "", (at + timedelta(minutes=step)).isoformat(), name, data, "Mozilla/5.0"])
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["client_id", "page_url", "referrer", "timestamp", "event_name", "event_data", "user_agent"])
        writer.writerows(events)
    return {"fct_events": len(events), "fct_sessions": sessions, "fct_conversions": orders, "dim_customers": 12}


@pytest.mark.prove
@pytest.mark.parametrize("version", VERSIONS)
def test_a_project_is_made_and_run_from_the_wheel_alone(
    version: str, wheel: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    python = locked_environment(version, tmp_path / "venv")
    installer = [sys.executable, "-m", "pip", "--python", python] if version == PRESENT else [Path(sys.executable).with_name("uv"), "pip"]
    chosen = ["--disable-pip-version-check", "--no-index"] if version == PRESENT else ["--python", python]
    command(*installer, "install", "--quiet", "--no-deps", *chosen, wheel, directory=tmp_path)
    place = command(python, "-c", "import sys, waymark; print(sys.version_info[:2], waymark.__file__)", directory=tmp_path)
    assert place.startswith(f"({version.replace('.', ', ')})") and str(tmp_path / "venv") in place
    waymark, project = tmp_path / "venv" / "bin" / "waymark", tmp_path / "shop"
    counts = write_events(tmp_path / "events.csv")
    command(waymark, "init", project, "--source", "shop_events", "--files", tmp_path / "events.csv", directory=tmp_path)
    command(waymark, "run", "--project", project, directory=tmp_path)
    query = " union all ".join(f"select '{table}', count(*) from marts.{table}" for table in counts)
    said = command(waymark, "sql", "--project", project, "--format", "csv", query, directory=tmp_path)
    assert dict(line.split(",") for line in said.splitlines()[1:]) == {table: str(count) for table, count in counts.items()}
    assert "Nothing new" in command(waymark, "run", "--project", project, directory=tmp_path)
    if version == PRESENT:  # once is enough for what no version changes
        assert "equal what raw gives" in command(waymark, "verify", "--project", project, directory=tmp_path)
        assert Path(command(waymark, "docs", "--project", project, directory=tmp_path).split()[-1]).stat().st_size > 100_000
    command(waymark, "init", tmp_path / "demo", "--demo", directory=tmp_path)
    assert "A world of 50 persons" in command(waymark, "world", "--project", tmp_path / "demo", "--customers", 50, directory=tmp_path)
    shutil.rmtree(tmp_path / "venv")  # a gigabyte
    record_property("claim", f"from the wheel alone, outside the checkout, Python {version} makes, runs and queries a project")
    record_property("n", "1 project")
