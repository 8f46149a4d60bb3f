"""`waymark privacy erase --continue` goes on with what was asked, and takes nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from waymark.cli.main import app
from waymark.core.errors import WaymarkError


@pytest.mark.parametrize("beside", [["email:ann@example.org"], ["--from", "list.txt"], ["--because", "request 18"]])
def test_whom_and_why_are_not_asked_again(tmp_path: Path, beside: list[str]) -> None:
    done = CliRunner().invoke(app, ["privacy", "erase", "--continue", *beside, "--project", str(tmp_path)])
    assert isinstance(done.exception, WaymarkError) and "knows whom" in str(done.exception)
