"""Each rule broken on purpose, in a copy of the repository, is caught by the quick test that is named for it; unbroken, all of those tests pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.proof.mutations import MUTATIONS, RULES, Mutation

pytestmark = pytest.mark.prove

COPIED = ("dbt", "waymark", "dagster_project", "ml", "tests", "examples")
LEFT_OUT = shutil.ignore_patterns(".waymark", "__pycache__", "target", "logs", ".user.yml")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    for part in COPIED:
        shutil.copytree(REPOSITORY / part, directory / part, ignore=LEFT_OUT)
    shutil.copyfile(REPOSITORY / "pyproject.toml", directory / "pyproject.toml")
    return directory


def run_tests(directory: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """pytest in the copy, which must import the copy's own packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME", "PYTEST_"))}
    check = f"import waymark; assert waymark.__file__.startswith({str(directory)!r}), waymark.__file__; import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", check, "-q", "-p", "no:cacheprovider", f"--basetemp={directory.parent / 'tests'}", *(RULES + test for test in tests)]
    return subprocess.run(command, cwd=directory, env={**clean, "PYTHONPATH": str(directory)}, capture_output=True, text=True, check=False, timeout=600)


def apply(mutation: Mutation, directory: Path) -> None:
    path = directory / mutation.file
    text = path.read_text()
    for old, new in mutation.changes:
        assert text.count(old) == 1, f"'{old}' stands {text.count(old)} times in {mutation.file}: adapt the mutation"
        text = text.replace(old, new)
    path.write_text(text)


def test_every_rule_s_test_passes_unmutated(copied: Path) -> None:
    done = run_tests(copied, sorted({mutation.test for mutation in MUTATIONS}))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_broken_rule_is_caught(mutation: Mutation, copied: Path, record_property: Callable[[str, object], None]) -> None:
    apply(mutation, copied)
    done = run_tests(copied, [mutation.test])
    # 1: a test failed. Any other code, or an error outside the test's own assertion, would be no catch.
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"FAILED {RULES}{mutation.test}" in done.stdout, done.stdout[-3000:]
    record_property("claim", f"Broken on purpose: {mutation.name}")
    record_property("n", f"`{mutation.file}`, caught by `{mutation.test}`")
