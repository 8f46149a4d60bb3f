"""Which Python will do stands in pyproject.toml alone: pip, `make setup` and `waymark doctor` go by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import packaging.specifiers  # noqa: F401  # the check imports it late, and then it must find the true version
import pytest

from tests.conftest import REPOSITORY
from waymark.pipeline.doctor import installation
from waymark.pipeline.doctor.patient import Patient

# A Python of another version: what make asks it, it answers; to make an environment it refuses.
PRETENDING = """#!{python}
import sys
sys.version_info = {version}
if sys.argv[1] != "-c":
    sys.exit("it will do")
code, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
exec(code)
"""


@pytest.mark.parametrize(("minor", "will_do"), [(10, False), (11, True), (13, True), (14, False)])
def test_make_and_doctor_agree_on_which_python_will_do(minor: int, will_do: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = (3, minor, 1, "final", 0)
    for file in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copyfile(REPOSITORY / file, tmp_path / file)
    pretending = tmp_path / "python"
    pretending.write_text(PRETENDING.format(python=sys.executable, version=version))
    pretending.chmod(0o755)
    environment = {**os.environ, "MAKEFLAGS": ""}
    made = subprocess.run(["make", "setup", f"PYTHON={pretending}"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode and ("it will do" in made.stderr) is will_do
    assert ("A Python >=3.11,<3.14 is needed" in made.stdout) is not will_do
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", version)
        (finding,) = installation.python(Patient(tmp_path))
    assert (finding.verdict == "ok") is will_do and ("<3.14" in finding.remedy) is not will_do
