"""Acts of consent that were taken in stand in the audit log: once, in numbers, whatever a kill comes between."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, MakeSource, Source
from waymark.ingestion.acts import log_acts
from waymark.ingestion.quarantine import quarantine_replay
from waymark.privacy.audit import AuditLog, Entry

AT = "2026-03-01T10:00:00Z"
CONSENT = """
consent:
  scopes: {column: cookie, optional: true}
  statements: acts
  declared: [email, sms]
  events:
    types: {consent_granted: grant, consent_lapsed: expire, preferences_saved: stated, consent_withdrawn: withdraw}
    scopes: {json: "$.scopes", from: details}
"""
ACTS = [
    ("1", "consent_granted", ["email", "sms"]), ("2", "consent_granted", ["email"]), ("3", "consent_withdrawn", ["c_9e2ab34a65a7f7dc950e5be0"]),
    ("4", "page_viewed", ["email"]), ("5", "preferences_saved", {"email": False, "push": True}), ("6", "consent_lapsed", ["loyalty"]),
]  # fmt: skip
TOLD = {"email": {"grant": 2, "withdraw": 1}, "sms": {"grant": 1}, "other": {"grant": 1, "withdraw": 1}, "loyalty": {"expire": 1}}


def put(source: Source, file: str, *acts: tuple[str, str, object]) -> None:
    lines = [f'{number},{AT},{what},v{number},"{json.dumps({"scopes": said}).replace(chr(34), chr(34) * 2)}",email\n' for number, what, said in acts]
    source.put(file, "id,at,what,visitor,details,cookie\n" + "".join(lines))


@pytest.fixture
def letters(make_source: MakeSource) -> Source:
    source = make_source(CSV_MAPPING + CONSENT, extra="consent: {scopes: [loyalty]}\n")
    put(source, "a.csv", *ACTS)
    source.ingest()
    return source


def entries(source: Source) -> list[Entry]:
    return [entry for _, entry in AuditLog(source.home).lines() if entry]


def acts_of(source: Source) -> list[object]:
    return [entry.details["acts"] for entry in entries(source)]


def test_an_entry_counts_what_was_taken_in_since_the_one_before_and_names_nobody(letters: Source) -> None:
    assert acts_of(letters) == [], "until it is to be published"
    log_acts(letters.connection, letters.home, "run-1")
    log_acts(letters.connection, letters.home, "run-2")
    (entry,) = entries(letters)
    assert (entry.action, entry.subjects, entry.details) == ("consent_changed", [], {"run_id": "run-1", "through_batch": 1, "acts": {"shop": TOLD}})
    put(letters, "b.csv", ACTS[0], ("7", "consent_withdrawn", ["sms"]))
    letters.ingest()
    put(letters, "c.csv", ("8", "consent_withdrawn", ["sms"]), ("9", "page_viewed", []))
    letters.ingest()
    put(letters, "d.csv", ("10", "page_viewed", []))
    letters.ingest()
    log_acts(letters.connection, letters.home, "run-3")
    assert acts_of(letters)[1:] == [{"shop": {"sms": {"withdraw": 2}}}], "what was there already is a duplicate, and no new act"
    assert AuditLog(letters.home).verify().problems == ()


def test_acts_out_of_quarantine_are_told_when_they_are_taken_in(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + CONSENT.replace("consent_granted", "odd"))
    put(source, "a.csv", ("1", "odd", []))
    source.ingest()
    log_acts(source.connection, source.home)
    assert acts_of(source) == [] and source.value("select count(*) from raw.quarantine") == 1
    source.remap(CSV_MAPPING + CONSENT.replace('scopes: {json: "$.scopes", from: details}', "scopes: cookie").replace("consent_granted", "odd"))
    assert quarantine_replay(source.project, "shop", source.connection, SECRET).rows_accepted == 1
    log_acts(source.connection, source.home)
    assert acts_of(source) == [{"shop": {"email": {"grant": 1}}}]


def before(_: Callable[..., Entry]) -> Callable[..., Entry]:
    def killed(*_: Any, **__: Any) -> Entry:
        raise KeyboardInterrupt

    return killed


def after(append: Callable[..., Entry]) -> Callable[..., Entry]:
    def killed(*given: Any, **named: Any) -> Entry:
        append(*given, **named)
        raise KeyboardInterrupt

    return killed


@pytest.mark.parametrize("kill", [before, after])
@pytest.mark.parametrize("more", [False, True])
def test_a_kill_before_or_behind_the_entry_neither_loses_nor_doubles_it(
    letters: Source, monkeypatch: pytest.MonkeyPatch, kill: Callable[..., Any], more: bool
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", kill(AuditLog.append))
        for _ in range(2 if kill is before else 1):
            with pytest.raises(KeyboardInterrupt):
                log_acts(letters.connection, letters.home)
    if more:
        put(letters, "b.csv", ("7", "consent_lapsed", ["sms"]))
        letters.ingest()
    for _ in range(2):
        log_acts(letters.connection, letters.home)
    counted: dict[tuple[str, str], int] = {}
    for acts in acts_of(letters):
        for scope, actions in acts["shop"].items():  # type: ignore[index]
            for action, count in actions.items():
                counted[scope, action] = counted.get((scope, action), 0) + count
    expected = {(scope, action): count for scope, actions in TOLD.items() for action, count in actions.items()}
    assert counted == expected | ({("sms", "expire"): 1} if more else {})
    assert len(entries(letters)) == (2 if more and kill is after else 1)
