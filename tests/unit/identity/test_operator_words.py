"""Words are numbered by all that were ever said, and told before they are said."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import project_of
from reference import Event, Said, minutes, node_customer_id
from typer.testing import CliRunner, Result
from warehouse_double import WarehouseDouble

from waymark.cli.main import app
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.settings import Project
from waymark.pipeline.operator_words import announce, say
from waymark.privacy.audit import AuditLog
from waymark.privacy.subjects import SubjectReferences

DEVICE, ANN = ("anonymous_id", "web:a"), ("user_id", "shop:1")
PAIR = ("anonymous_id:web:a", "user_id:shop:1")
CUSTOMER, APART = node_customer_id(*DEVICE), node_customer_id(*ANN)


def test_a_word_whose_file_is_gone_is_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = WarehouseDouble()
    double.run([Event(f"{1:032x}", minutes(0), 1, (DEVICE, ANN))])
    project = project_of(double, tmp_path, monkeypatch)
    first = announce(project, "operator_split", *PAIR)
    path = say(project, first, because="a test")
    assert announce(project, "operator_merge", *PAIR).word.ordinal == 2, "it waits"
    double.say(Said(first.word.event_id, first.word.occurred_at, first.word.ordinal, False, (DEVICE, ANN)))
    double.run([])
    assert announce(project, "operator_merge", *PAIR).word.ordinal == 2, "it was taken in"
    path.unlink()
    taken_back = announce(project, "operator_merge", *PAIR)
    assert taken_back.word.ordinal == 2 and taken_back.word.event_id != first.word.event_id
    assert [(change.identifiers, change.why) for change in taken_back.changes] == [(1, "operator_merge")]
    assert say(project, taken_back, because="a test").name == "000002.ndjson"


def called(project: Project, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["identity", *arguments, "--project", str(project.directory)])


def test_who_asks_about_whom_is_logged_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = WarehouseDouble()
    double.run([Event(f"{1:032x}", minutes(0), 1, (DEVICE, ANN)), Event(f"{2:032x}", minutes(9), 2, (("anonymous_id", "web:b"),))])
    project = project_of(double, tmp_path, monkeypatch)
    log = AuditLog(project.home)
    blank = called(project, "split", *PAIR, "--because", " ")
    assert isinstance(blank.exception, WaymarkError) and "needs a reason" in str(blank.exception) and not log.path.exists()

    for arguments, told in (
        (["explain", *PAIR], "One person"), (["explain", PAIR[0], "anonymous_id:web:b"], "Two persons"),
        (["split", *PAIR, "--because", "x", "--dry-run"], CUSTOMER), (["split", *PAIR, "--because", "x"], "Said in 000001.ndjson"),
    ):  # fmt: skip
        done = called(project, *arguments)
        assert done.exit_code == 0 and told in done.output, done.output
    entries = [entry for _, entry in log.lines() if entry]
    assert [entry.action for entry in entries] == ["identity_explain", "identity_explain", "preview", "override"]
    stranger = node_customer_id("anonymous_id", "web:b")
    known = SubjectReferences(project.home)
    assert [entry.subjects for entry in entries] == [
        sorted(known.of(customers)) for customers in ([CUSTOMER], [CUSTOMER, stranger], [CUSTOMER, APART], [CUSTOMER, APART])
    ]

    with (tmp_path / "waymark.yml").open("a") as settings:
        settings.write("access: {refuse_unlogged: true}\n")
    log.path.unlink()
    log.path.mkdir()
    for arguments in (["explain", *PAIR], ["merge", *PAIR, "--because", "x", "--dry-run"], ["merge", *PAIR, "--because", "x"]):
        done = called(project, *arguments)
        assert isinstance(done.exception, StorageError) and done.output == "", "what cannot be logged is not told"
