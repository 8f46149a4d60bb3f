"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("waymark", "dagster_project", "ml", "expectations")
SOURCES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))

WRITTEN = sorted(
    path
    for folder, pattern in (("dbt", "*.sql"), ("benchmarks", "*.sql"), ("benchmarks", "*.py"), ("tests", "*.py"))
    for path in (REPOSITORY / folder).rglob(pattern)
    if not {"target", "dbt_packages"} & set(path.parts)
)
LONGEST = 420  # "about 400"
LONG_FOR_A_REASON = {
    # One script by design: the hand-written counterpart of all models, to be read from top to bottom beside them.
    "benchmarks/floor.sql",
}


def _offenders(pattern: str, allowed: set[str]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in SOURCES if str(path.relative_to(REPOSITORY)) not in allowed and re.search(pattern, path.read_text())]


def test_only_the_warehouse_helper_opens_duckdb() -> None:
    assert _offenders(r"duckdb\.connect\(|\bimport duckdb\b|from duckdb\b", {"waymark/core/warehouse.py"}) == []


def test_only_settings_reads_the_environment() -> None:
    assert _offenders(r"os\.environ|os\.getenv|from os import .*environ", {"waymark/core/settings.py"}) == []


def test_only_the_clock_asks_the_time() -> None:
    assert _offenders(r"datetime\.(now|utcnow|today)\(|date\.today\(|time\.time\(", {"waymark/core/clock.py"}) == []


def test_no_model_asks_the_time() -> None:
    pattern = re.compile(r"\b(now|current_timestamp|current_date|today|get_current_timestamp)\s*(\(|\b)", re.IGNORECASE)
    found = []
    for path in sorted((REPOSITORY / "dbt").rglob("*.sql")):
        text = re.sub(r"--.*|\{#.*?#\}", "", path.read_text(), flags=re.DOTALL if "{#" in path.read_text() else 0)
        found += [path.name for word in pattern.finditer(text) if word.group(1).lower() != "now" or word.group(2) == "("]
    assert found == []


NAMES_FOR_NOTHING = {"utils", "util", "helpers", "helper", "misc", "common", "shared", "tools", "stuff", "lib_utils", "functions", "constants", "types"}


def test_no_module_and_no_folder_is_named_for_nothing() -> None:
    files = [path.relative_to(REPOSITORY) for path in [*SOURCES, *WRITTEN]]
    assert [str(path) for path in files if NAMES_FOR_NOTHING & {part.removesuffix(path.suffix).lower() for part in path.parts}] == []


def test_dbt_folder_does_not_shadow_dbt() -> None:
    assert list((REPOSITORY / "dbt").glob("*.py")) == []


def test_dagster_names_agree() -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    workspace = yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())
    assert pyproject["tool"]["dg"]["project"]["code_location_name"] == workspace["load_from"][0]["python_module"]["location_name"]
    assert workspace["load_from"][0]["python_module"]["module_name"] == "dagster_project.definitions"


def test_definitions_only_compose() -> None:
    assert len((REPOSITORY / "dagster_project" / "definitions.py").read_text().splitlines()) <= 15


def test_lock_files_name_no_registry_and_hash_everything() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (REPOSITORY / name).read_text()
        assert "://" not in text and "--index" not in text and "--find-links" not in text
        pinned = len(re.findall(r"^[A-Za-z0-9_.\-\[\]]+==", text, flags=re.MULTILINE))
        assert pinned > 50
        assert text.count(" \\\n    --hash") >= pinned


def test_every_make_target_has_a_line_of_help() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)[0].split())
    helped = set(re.findall(r"^([a-z]+):.*## \S", text, flags=re.MULTILINE))
    assert targets == helped | set()


def test_every_file_stays_readable_in_length() -> None:
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in [*SOURCES, *WRITTEN]}
    assert [f"{name}: {length} lines" for name, length in sorted(lengths.items()) if length > LONGEST and name not in LONG_FOR_A_REASON] == []
    assert [name for name in LONG_FOR_A_REASON if lengths.get(name, 0) <= LONGEST] == [], "this one is short again: take it off the list"


@pytest.mark.parametrize("arguments", [["--help"], ["sql", "--project", "PROJECT", "select 1"]])
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "waymark.yml").write_text("name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\n")
    published = tmp_path / ".waymark" / "published"
    published.mkdir(parents=True)
    make = f"from waymark.core.warehouse import connect; connect({str(published / 'waymark.duckdb')!r}).close()"
    subprocess.run([sys.executable, "-c", make], check=True)
    arguments = [str(tmp_path) if argument == "PROJECT" else argument for argument in arguments]
    code = (
        f"import sys; sys.argv = ['waymark', *{arguments!r}]\n"
        "from waymark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'dagster', 'mlflow', 'great_expectations', 'dbt', 'numpy', 'pandas', 'pyarrow', 'scipy', 'dagster_dbt'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_two_public_classes_of_waymark_share_a_name() -> None:
    texts = [path.read_text() for path in SOURCES if path.is_relative_to(REPOSITORY / "waymark")]
    named = [name for text in texts for name in re.findall(r"^class ([A-Z]\w*)", text, flags=re.MULTILINE)]
    assert sorted({name for name in named if named.count(name) > 1}) == []
