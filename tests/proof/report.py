"""Collects a line from every test marked `prove`, wherever it stands, and writes benchmarks/PROOF.md when all of them were asked for.

A test says more by `record_property`: claim (a sentence; else its name), n (how many were tried), seed, interval (or "exact"), pictures (a folder).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parents[2] / "benchmarks" / "PROOF.md"
HEAD = """# What was proven

Written by `make prove`, which ran on {date}. One line a test marked `prove`; a failure is never retried. Seconds are of that machine.
"exact" means that every case tried must hold; an interval is a binomial band at 1e-4, that is, a true claim fails it once in ten thousand runs.

| claim | n | seed | interval | result | seconds | test |
|---|---|---|---|---|---|---|
"""


class ProofReport:
    """A plugin; under pytest-xdist it belongs to the process that deals out the tests, for the others see a part of them."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self.pictures: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "prove" not in report.keywords:
            return
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
            return
        said = {str(name): str(value) for name, value in report.user_properties}
        if "pictures" in said:
            self.pictures[said["pictures"]] = None
        result = {"passed": "holds", "failed": "**FAILS**", "skipped": "skipped"}[report.outcome]
        self.lines[report.nodeid] = [said.get("claim", ""), said.get("n", ""), said.get("seed", "-"), said.get("interval", "exact"), result]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for folder in self.pictures:
            terminalreporter.write_line(f"Pictures of what the browser saw: {folder}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        # A run of chosen files, or one that stopped early, must not pass for the whole.
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        asked = session.config
        is_whole = ended and asked.args_source is pytest.Config.ArgsSource.TESTPATHS and not (asked.option.keyword or asked.option.deselect)
        if self.lines and is_whole and not session.shouldstop and not session.shouldfail:
            write_report(REPORT, self.lines, self.seconds)


def write_report(path: Path, lines: dict[str, list[str]], seconds: dict[str, float]) -> None:
    """lines: claim, n, seed, interval and result by test id. Cases of one test that state no claim of their own share a line."""
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
        rows.append([*row, f"{sum(seconds[test] for test in tests):.0f}", f"`{name}`"])
    rows.sort()
    path.parent.mkdir(exist_ok=True)
    table = "".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |\n" for row in rows)
    path.write_text(HEAD.format(date=datetime.now(UTC).date().isoformat()) + table)
