"""What can go wrong around a run, and what the user is then told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from tests.integration.conftest import run_project, waymark
from waymark.core.home import Home

MAPPING = """
source: shop
format: csv
columns:
  event_id: id
  occurred_at: at
  event_type: what
  anonymous_id: visitor
  value: {column: value, optional: true}
  order_id: {column: order, optional: true}
currency: USD
events: {bought: order_completed}
"""
ROWS = [
    "id,at,what,visitor,value,order",
    *(f"e{i},2026-03-0{1 + i % 7}T10:{i:02d}:00Z,page_viewed,v{i % 5},," for i in range(40)),
    "b1,2026-03-05T11:00:00Z,bought,v1,19.90,o1",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small shop with one good file."""
    directory = tmp_path / "project"
    (directory / "data").mkdir(parents=True)
    (directory / "shop.yml").write_text(MAPPING)
    (directory / "waymark.yml").write_text("name: small\nsources:\n  shop: {mapping: shop.yml, files: ['data/*']}\nengine: {memory_limit: 1GB}\n")
    (directory / "data" / "good.csv").write_text("\n".join(ROWS) + "\n")
    return directory


@pytest.mark.prove
def test_unreadable_files_are_refused_by_name_the_rest_is_published_and_the_exit_code_says_so(project: Path) -> None:
    import gzip

    data = project / "data"
    (data / "cut.csv.gz").write_bytes(gzip.compress(("\n".join(ROWS) * 50).encode())[:-300])
    (data / "empty.csv").write_bytes(b"")
    (data / "folder.csv").mkdir()
    (data / "header_only.csv").write_text(ROWS[0] + "\n")
    (data / "other_columns.csv").write_text("a,b\n1,2\n")
    (data / "broken_rows.csv").write_bytes(
        (ROWS[0] + "\n").encode()
        + b'q1,2026-03-01T10:00:00Z,page_viewed,"v1,,\n'
        + b"q2,not a time,page_viewed,v1,,\n"
        + b"q3,2026-03-01T10:00:00Z,page_viewed,v\xff\xfe,,\n"
        + b"q4,2026-03-01T10:00:00Z,page_viewed,v\x00,,\n"
        + b"q5,2026-03-01T10:00:00Z,page_viewed,v1,lots,\n"
        + b"q6,2026-03-01T10:00:00Z\n"
        + b"ok1,2026-03-01T10:00:00Z,page_viewed,v9,,\n"
    )
    ran = run_project(project)
    assert ran.code == 3, ran.errors
    for name in ("cut.csv.gz", "empty.csv", "folder.csv", "other_columns.csv"):
        assert name in ran.errors, name
    assert "header_only.csv" not in ran.errors and "Traceback" not in ran.errors
    assert ran.rows("select parse_filename(file) from raw.ingestion_log where status = 'refused' order by 1") == [
        ("cut.csv.gz",), ("empty.csv",), ("folder.csv",), ("other_columns.csv",),
    ]  # fmt: skip
    assert ran.rows("select rows_read, rows_accepted, rows_quarantined from raw.ingestion_log where file like '%broken_rows.csv'") == [(7, 1, 6)]
    assert ran.value("select count(*) from marts.fct_events") == 42
    listed = waymark("quarantine", "list", "--project", project)
    assert listed.returncode == 0 and "bad_occurred_at" in listed.stdout and "bad_value" in listed.stdout


@pytest.mark.prove
def test_a_mended_mapping_takes_in_what_was_refused_and_quarantined(project: Path) -> None:
    (project / "data" / "german.csv").write_text("nr,at,what,visitor,value,order\ng1,2026-03-01T10:00:00Z,page_viewed,v7,,\n")
    (project / "data" / "shifted.csv").write_text("id,at,what,visitor,value,order\ns1,2026-03-01T10:00:00Z,bought,v7,EUR 5,o9\n")
    first = run_project(project)
    assert first.code == 3 and "german.csv" in first.errors and "nr" in first.errors
    assert waymark("quarantine", "show", "shop", "--project", project).stdout.count("EUR 5") == 1
    mended = MAPPING.replace("event_id: id", "event_id: [id, nr]").replace("{column: value, optional: true}", "{expr: \"replace(value, 'EUR ', '')\"}")
    (project / "shop.yml").write_text(mended)
    replayed = waymark("quarantine", "replay", "shop", "--project", project)
    assert replayed.returncode == 0, replayed.stderr
    second = run_project(project)
    assert second.code == 0 and second.value("select count(*) from marts.fct_events where anonymous_id = 'v7'") == 2, second.errors
    assert second.rows("select rows_read, rows_accepted, rows_quarantined from raw.ingestion_log where file like '%shifted.csv'") == [(1, 1, 0)]


@pytest.mark.prove
def test_another_secret_and_settings_that_bind_built_tables_are_refused_before_anything_is_read(project: Path) -> None:
    first = run_project(project)
    assert first.code == 0 and "note: Made a secret" in first.errors, first.errors
    (project / "data" / "more.csv").write_text(ROWS[0] + "\nm1,2026-03-07T10:00:00Z,page_viewed,v1,,\n")
    wrong = run_project(project, WAYMARK_SECRET="quite another secret, also long")
    assert wrong.code == 1 and "secret" in wrong.errors.lower()
    settings = project / "waymark.yml"
    settings.write_text(settings.read_text() + "time: {session_gap_minutes: 5}\n")
    refused = run_project(project)
    assert refused.code == 1 and "--full-refresh" in refused.errors
    assert refused.value("select count(*) from marts.fct_events") == 41
    rebuilt = run_project(project, "--full-refresh")
    assert rebuilt.code == 0, rebuilt.errors
    assert rebuilt.value("select count(*) from marts.fct_events where source_event_id = 'm1'") == 1


def test_a_home_that_cannot_be_written_is_refused_before_anything_is_read(project: Path) -> None:
    (project / ".waymark").write_text("a file where the home should be")
    refused = run_project(project)
    assert refused.code == 1 and ".waymark" in refused.errors and "Traceback" not in refused.errors


@pytest.mark.prove
def test_a_full_disk_is_named_and_leaves_the_last_snapshot(project: Path) -> None:
    small = project / "small"
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)], check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        good = run_project(project, WAYMARK_HOME=str(small))
        assert good.code == 0, good.errors
        published = (small / "published" / "waymark.duckdb").read_bytes()
        rows = [f"x{i},2026-03-0{1 + i % 7}T10:00:00.{i:06d}Z,page_viewed,{os.urandom(40).hex()},," for i in range(150_000)]
        (project / "data" / "large.csv").write_text("\n".join([ROWS[0], *rows]))
        full = run_project(project, WAYMARK_HOME=str(small))
        assert full.code == 1 and "disk is full" in full.errors, full.errors
        assert (small / "published" / "waymark.duckdb").read_bytes() == published
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


@pytest.mark.prove
def test_the_second_run_at_once_waits_or_says_who_holds_the_lock(project: Path) -> None:
    settings = project / "waymark.yml"
    settings.write_text(settings.read_text() + "ingestion: {lock_timeout_seconds: 0}\n")
    with Home(project / ".waymark").writer_lock():
        second = run_project(project)
    assert second.code == 1 and f"process {os.getpid()}" in second.errors


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} was never made"
        time.sleep(0.02)


@pytest.mark.prove
def test_a_killed_run_is_taken_up_by_the_next(project: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME"))}
    command = [str(Path(sys.executable).parent / "waymark"), "run", "--project", str(project)]
    started = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(project / ".waymark" / "warehouse.duckdb")
    started.send_signal(signal.SIGKILL)
    started.wait()
    ran = run_project(project)
    assert ran.code == 0, ran.errors
    assert ran.value("select count(*) from marts.fct_events") == 41
    assert ran.value("select sum(value) from marts.fct_conversions") == Decimal("19.90")


@pytest.mark.prove
def test_a_file_that_is_still_refused_is_told_again_and_the_rest_verifies(project: Path) -> None:
    (project / "data" / "other_columns.csv").write_text("a,b\n1,2\n")
    first, second = run_project(project), run_project(project)
    for ran in (first, second):
        assert ran.code == 3 and ran.errors.count("waymark: refused:") == 1 and "other_columns.csv" in ran.errors, ran.errors
    assert second.value("select count(*) from marts.fct_events") == 41
    verified = waymark("verify", "--project", project)
    assert verified.returncode == 0 and "pure tables equal what raw gives" in verified.stdout and "DIFFERENT" not in verified.stdout, verified.stderr


@pytest.mark.prove
def test_no_new_rows_and_no_files_at_all_still_publish_empty_tables(tmp_path: Path) -> None:
    directory = tmp_path / "bare"
    (directory / "data").mkdir(parents=True)
    (directory / "shop.yml").write_text(MAPPING)
    (directory / "waymark.yml").write_text("name: bare\nsources:\n  shop: {mapping: shop.yml, files: ['data/*']}\n")
    ran = run_project(directory)
    assert ran.code == 0, ran.errors
    assert ran.value("select count(*) from marts.fct_events") == 0
