"""`waymark sql` leaves an entry, `waymark audit` lists and verifies it, and a log that cannot be written is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from waymark.cli.main import app
from waymark.core.errors import AuditError, StorageError, WaymarkError
from waymark.core.home import Home
from waymark.core.warehouse import connect
from waymark.pipeline import subjects
from waymark.privacy.audit import AuditLog
from waymark.privacy.needles import Needles
from waymark.privacy.scanner import scan
from waymark.privacy.subjects import SubjectReferences

RUN = CliRunner()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose snapshot is an empty file."""
    (tmp_path / "waymark.yml").write_text("name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\n")
    (tmp_path / ".waymark" / "published").mkdir(parents=True)
    connect(tmp_path / ".waymark" / "published" / "waymark.duckdb").close()
    return tmp_path


def called(project: Path, *arguments: str) -> str:
    done = RUN.invoke(app, [*arguments, "--project", str(project)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_query_is_listed_without_its_literals_and_the_log_verifies(project: Path) -> None:
    called(project, "sql", "select 'anna@example.org' as who, 41791234567 as phone")
    with pytest.raises(WaymarkError):  # also one that fails was asked
        called(project, "sql", "select nothing from nowhere where mail = 'anna@example.org'")
    listed = called(project, "audit", "list", "--action", "sql")
    assert "select ? as ?, ? as ?" in listed and "select nothing from ? where ? = ?" in listed
    assert "anna" not in listed and "4179" not in listed
    assert "2 entries" in called(project, "audit", "verify")
    assert "no such entry" in called(project, "audit", "list", "--since", "2200-01-01")
    with pytest.raises(WaymarkError, match="no action"):
        called(project, "audit", "list", "--action", "peek")


@pytest.mark.parametrize("named", ["{}", '"{}"', "'{}'", "marts.{}", "shop:{}"])
def test_whoever_a_query_names_however_it_is_quoted_no_scan_finds_in_the_log(project: Path, named: str) -> None:
    """Else nothing could ever erase that person: the log is not altered."""
    sought = {"c_9e2ab34a65a7f7dc950e5be0", "jane_doe_berlin", "Smith-Hansen"}
    for who in sorted(sought):
        with pytest.raises(WaymarkError):
            called(project, "sql", f"select count(*) from marts.dim_customers where customer_id = {named.format(who)}")
    home = Home(project / ".waymark")
    assert scan(home, Needles(frozenset(sought), frozenset(sought))).found == {}
    assert AuditLog(home).head().entries == 3 and "select count(*)" in AuditLog(home).path.read_text()


def test_a_log_that_was_altered_fails_verification(project: Path) -> None:
    called(project, "sql", "select 1")
    path = AuditLog(Home(project / ".waymark")).path
    path.write_text(path.read_text().replace("select", "delete"))
    with pytest.raises(AuditError, match="entry 1 was altered"):
        called(project, "audit", "verify")


def test_a_read_that_cannot_be_logged_is_told_or_refused_as_the_settings_say(project: Path) -> None:
    (project / ".waymark" / "audit").write_text("a file where the folder should be")
    done = RUN.invoke(app, ["sql", "select 42 as answer", "--project", str(project)])
    assert done.exit_code == 0 and "42" in done.output and "not in the audit log" in done.output
    with (project / "waymark.yml").open("a") as settings:
        settings.write("access: {refuse_unlogged: true}\n")
    with pytest.raises(StorageError, match="audit log cannot be written"):
        called(project, "sql", "select 42 as answer")


def test_who_would_be_erased_is_told_after_it_is_logged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(project / ".waymark")
    found = subjects.Subject("email:ann@example.org", (("email", "8c1f"),), customers=("c_now", "c_before"), events={"shop": 3})
    monkeypatch.setattr(subjects, "subjects_of", lambda *_, **__: [found])
    monkeypatch.setattr(subjects, "named_by_others", lambda *_: (0, 0))
    assert called(project, "privacy", "erase", found.named, "--dry-run").startswith("c_now: 1 email; 3 events of shop")
    ((_, entry),) = AuditLog(home).lines()
    assert entry and entry.action == "preview" and entry.details == {"erasure_of": 1}
    assert entry.subjects == sorted(SubjectReferences(home).of(["c_now", "c_before"]))
    with (project / "waymark.yml").open("a") as settings:
        settings.write("access: {refuse_unlogged: true}\n")
    AuditLog(home).path.unlink()
    AuditLog(home).path.mkdir()
    done = RUN.invoke(app, ["privacy", "erase", found.named, "--dry-run", "--project", str(project)])
    assert isinstance(done.exception, StorageError) and "c_now" not in done.output
