"""Collects a line from every test marked `prove`, wherever it stands, and keeps them in benchmarks/PROOF.md, each with its date and commit.

A test says more by `record_property`: claim (a sentence; else its name), n (how many were tried), seed, interval (or "exact"), pictures (a folder).
Whole files may be run apart: they replace their own lines and no others. Tests chosen one by one leave the report alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REPORT = REPOSITORY / "benchmarks" / "PROOF.md"
FAILS = "**FAILS**"
HEAD = """# What was proven

Written by `make prove`. One line a test marked `prove`, with the day and the commit of its last run; a failure is never retried: its line stays until another
commit is tried. A tree that differs from its commit proves nothing and writes nothing. Seconds are of that machine, beside whatever else ran on it.
"exact" means that every case tried must hold; an interval is a binomial band at 1e-4, that is, a true claim fails it once in ten thousand runs.

| claim | n | seed | interval | result | seconds | run | test |
|---|---|---|---|---|---|---|---|
"""
SECONDS_BETWEEN_WRITES = 30.0  # what is lost of a run that is killed


class ProofReport:
    """A plugin; under pytest-xdist it belongs to the process that deals out the tests, for the others see a part of them."""

    def __init__(self, path: Path = REPORT) -> None:
        self.path = path
        self.lines: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self.pictures: dict[str, None] = {}
        self.run = ""
        self.written = time.monotonic()

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        asked = session.config
        chosen = asked.option.keyword or asked.option.deselect or getattr(asked.option, "lf", False) or any("::" in part for part in asked.args)
        commit = "" if chosen or asked.option.collectonly else _commit()
        self.run = f"{datetime.now(UTC).date().isoformat()} {commit}" if commit else ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "prove" not in report.keywords:
            return
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.when == "teardown" and time.monotonic() - self.written > SECONDS_BETWEEN_WRITES:
            self.write()
        if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
            return
        said = {str(name): str(value) for name, value in report.user_properties}
        if "pictures" in said:
            self.pictures[said["pictures"]] = None
        result = {"passed": "holds", "failed": FAILS, "skipped": "skipped"}[report.outcome]
        self.lines[report.nodeid] = [said.get("claim", ""), said.get("n", ""), said.get("seed", "-"), said.get("interval", "exact"), result]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for folder in self.pictures:
            terminalreporter.write_line(f"Pictures of what the browser saw: {folder}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldstop and not session.shouldfail
        self.write(is_whole=ended and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS)

    def write(self, *, is_whole: bool = False) -> None:
        """is_whole: every proof ran, so a line of a test that did not is of a test that is no more."""
        self.written = time.monotonic()
        if self.lines and self.run:
            write_report(self.path, rows_of(self.lines, self.seconds, self.run), is_whole=is_whole)


def rows_of(lines: dict[str, list[str]], seconds: dict[str, float], run: str) -> list[list[str]]:
    """lines: claim, n, seed, interval and result by test id. Cases of one test that state no claim of their own share a row."""
    grouped: dict[str, list[str]] = {}
    for test, line in lines.items():
        grouped.setdefault(test if line[0] else test.split("[", 1)[0], []).append(test)
    rows = []
    for name, tests in grouped.items():
        claim, said_n, seed, interval, _ = lines[tests[0]]
        results = [lines[test][4] for test in tests]
        claim = claim or name.rsplit("::", 1)[-1].removeprefix("test_").replace("_", " ")
        counts = ", ".join(f"{results.count(result)} {result}" for result in sorted(set(results)))
        row = [claim, said_n or f"{len(tests)} cases", seed, interval, results[0] if len(set(results)) == 1 else counts]
        rows.append([*row, f"{sum(seconds[test] for test in tests):.0f}", run, f"`{name}`"])
    return rows


def write_report(path: Path, rows: list[list[str]], *, is_whole: bool = False) -> None:
    """Puts rows (claim, n, seed, interval, result, seconds, run, test) in the place of those of the same tests; two runs at once wait for each other."""
    path.parent.mkdir(exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = {row[-1]: row for row in read_report(path)}
        now = {row[-1]: row for row in rows}
        for test, old in before.items():
            if test in now and FAILS in old[4] and _commit_of(old) == _commit_of(now[test]):
                now[test] = old  # no second try of what failed
        merged = sorted((now if is_whole else before | now).values())
        table = "".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |\n" for row in merged)
        written = path.with_suffix(".new")
        written.write_text(HEAD + table, encoding="utf-8")
        written.replace(path)
    finally:
        os.close(folder)


def read_report(path: Path) -> list[list[str]]:
    """The rows of the report, their test last."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and line.endswith("` |")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _commit_of(row: list[str]) -> str:
    return row[-2].rpartition(" ")[2]


def _commit() -> str:
    """The commit that the files are of; "" where any but the report itself differs from it, and outside git."""
    git = ["git", "-C", str(REPOSITORY)]
    found = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "--", ".", ":!benchmarks/PROOF.md"], capture_output=True, text=True, check=False)
    return "" if found.returncode or changed.returncode or changed.stdout.strip() else found.stdout.strip()
