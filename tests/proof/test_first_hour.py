"""docs/first-hour.md is a transcript: its commands are typed again, in their order, and must say again what stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import REPOSITORY, SHARED_DATA

PAGE = REPOSITORY / "docs" / "first-hour.md"
MINUTES = 10


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks, in order: ("console", commands and what they said) or (name of a file, its content)."""
    found = []
    for name, kind, body in re.findall(r"(?:^<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```", text, flags=re.M | re.S):
        if name or kind == "console":
            found.append((name or kind, body))
    return found


def typed(body: str) -> list[tuple[str, str]]:
    """(command, what it said) of a console block; a command goes on after a backslash."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", body, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def figures(said: str) -> list[str]:
    """Lines without what differs from run to run and from machine to machine: durations, sizes, names of snapshots, and metrics in their last digits."""
    said = re.sub(r"\b[0-9a-f]{12}\b", "#", said)
    said = re.sub(r"\b\d+\.\d s\b|\bin \d+ s\b|\b\d+ MB\b|\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?\b", "#", said)
    said = re.sub(r"^On its test split.*$", lambda found: re.sub(r"\d+(\.\d+)?", "#", found.group(0)), said, flags=re.M)
    lines = [re.sub(r"\s+", " ", re.sub(r"\s\d+\.\d$", " #", line.rstrip())).strip() for line in said.splitlines()]
    return [line for line in lines if line]


@pytest.mark.prove
def test_the_first_hour_is_as_the_page_tells_it(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    data = SHARED_DATA / "shop_events"
    if not data.is_dir():
        pytest.skip("the public data set shop_events is not beside the checkout")
    shutil.copytree(data, tmp_path / "exports")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME", "DBT_"))}
    environment = {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    started, commands = monotonic(), 0
    for name, body in blocks(PAGE.read_text(encoding="utf-8")):
        if name != "console":
            (tmp_path / name).write_text(body, encoding="utf-8")
            continue
        for command, said in typed(body):
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
            )  # fmt: skip
            there, here = figures(said), figures(done.stdout.replace(str(tmp_path), "~"))
            # A page may leave lines out; what it shows must be said, and in this order.
            rest = iter(here)
            missing = [line for line in there if line != "…" and line not in rest]
            assert missing == [], f"$ {command}\n{done.stdout}"
            commands += 1
    minutes = (monotonic() - started) / 60
    assert commands >= 12 and minutes < MINUTES
    record_property("claim", f"docs/first-hour.md is what its {commands} commands say, in under {MINUTES} minutes")
    record_property("n", f"{commands} commands")


def test_the_page_is_read_as_it_is_meant() -> None:
    text = "<!-- file: a.yml -->\n```yaml\nx: 1\n```\n```sql\nselect 1\n```\n```console\n$ one \\\n  two\nsaid 1.5 s 17 rows\n$ three\n```\n"
    assert blocks(text) == [("a.yml", "x: 1\n"), ("console", "$ one \\\n  two\nsaid 1.5 s 17 rows\n$ three\n")]
    assert typed(blocks(text)[1][1]) == [("one \\\n  two", "said 1.5 s 17 rows\n"), ("three", "")]
    assert figures("said 1.5 s 17 rows") == figures("said 2.7 s 17 rows") != figures("said 2.7 s 18 rows")
    assert figures("checks: raw   10   4.8") == figures("checks: raw 10  5.1") != figures("checks: raw 11  5.1")
