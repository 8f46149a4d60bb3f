"""The report of what was proven: whole files replace their own lines, what failed at a commit stays failed at it, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

from tests.proof.report import FAILS, REPORT, ProofReport, read_report, rows_of, write_report


def _row(test: str, run: str, result: str = "holds") -> list[str]:
    return [f"a claim | of {test}", "1 case", "-", "exact", result, "3", run, f"`{test}`"]


def test_a_run_of_some_files_replaces_its_own_lines_and_no_others(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks" / "PROOF.md"
    write_report(report, [_row("a.py::one", "2026-01-01 aaaaaaa"), _row("b.py::two", "2026-01-01 aaaaaaa")])
    write_report(report, [_row("b.py::two", "2026-01-02 bbbbbbb")])
    assert read_report(report) == [_row("a.py::one", "2026-01-01 aaaaaaa"), _row("b.py::two", "2026-01-02 bbbbbbb")]
    write_report(report, [_row("b.py::two", "2026-01-03 ccccccc")], is_whole=True)
    assert read_report(report) == [_row("b.py::two", "2026-01-03 ccccccc")], "a whole run leaves no line of a test that is no more"


def test_what_failed_at_a_commit_is_not_tried_again_at_it(tmp_path: Path) -> None:
    report = tmp_path / "PROOF.md"
    write_report(report, [_row("a.py::one", "2026-01-01 aaaaaaa", FAILS)])
    write_report(report, [_row("a.py::one", "2026-01-02 aaaaaaa")], is_whole=True)
    assert read_report(report)[0][4] == FAILS
    write_report(report, [_row("a.py::one", "2026-01-02 bbbbbbb")])
    assert read_report(report)[0][4] == "holds"


def test_cases_without_a_claim_share_a_row_that_counts_them() -> None:
    lines = {f"a.py::test_it_holds[{case}]": ["", "", "-", "exact", "holds" if case else FAILS] for case in range(3)}
    seconds = dict.fromkeys(lines, 2.0)
    assert rows_of(lines, seconds, "2026-01-01 aaaaaaa") == [
        ["it holds", "3 cases", "-", "exact", f"1 {FAILS}, 2 holds", "6", "2026-01-01 aaaaaaa", "`a.py::test_it_holds`"]
    ]


def test_the_report_that_stands_can_be_read_and_names_a_run_on_each_line() -> None:
    rows = read_report(REPORT)
    assert len(rows) > 100
    assert all(len(row) == 8 and row[6].startswith("20") for row in rows)


def test_tests_chosen_one_by_one_leave_the_report_alone(tmp_path: Path) -> None:
    reporter = ProofReport(tmp_path / "PROOF.md")
    reporter.lines, reporter.seconds = {"a.py::test_one": ["", "", "-", "exact", "holds"]}, {"a.py::test_one": 1.0}
    reporter.write(is_whole=True)
    assert not (tmp_path / "PROOF.md").exists(), "without a run of whole files there is nothing to say"
    reporter.run = "2026-01-01 aaaaaaa"
    reporter.write()
    assert read_report(tmp_path / "PROOF.md")[0][-1] == "`a.py::test_one`"
