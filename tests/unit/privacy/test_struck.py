"""What a reader of a role's file wrote into its log stops no erasure: the line is struck, and the log holds as before."""

from __future__ import annotations

import fcntl
import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.pipeline.anchors import anchored, known_anchors, logs
from waymark.privacy import audit
from waymark.privacy import struck as striking
from waymark.privacy.audit import AuditLog, line_of
from waymark.privacy.needles import Needles
from waymark.privacy.scanner import finder, scan
from waymark.privacy.struck import strike, struck

WHO = "c_9e2ab34a65a7f7dc950e5be0"
NEEDLES = Needles(made=frozenset([WHO]), given=frozenset(["web:cookie-of-ann"]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose manifest knows a log of reads, three entries long."""
    home = Home(tmp_path)
    for what in ("from t", "from marts.fct_sessions", "from t limit ?"):
        AuditLog(home, "analyst").append("sql", role="analyst", details={"query": what})
    publish(home)
    return home


def publish(home: Home) -> dict[str, object]:
    home.published_dir.mkdir(exist_ok=True)
    manifest = anchored(home, {})
    home.manifest.write_text(json.dumps({"snapshot_id": "s", **manifest}))
    return manifest


def problems(home: Home) -> list[str]:
    return [problem for role, log in logs(home).items() for problem in log.verify(known_anchors(home, role), struck(home, role)).problems]


def struck_from(home: Home) -> int:
    return strike(home, "analyst", finder(NEEDLES), request_id="e_1")


def write(home: Home, data: bytes) -> None:
    with AuditLog(home, "analyst").path.open("ab") as log:
        log.write(data)


def in_the_chain(home: Home) -> None:
    AuditLog(home, "analyst").append("sql", role="analyst", details={"query": f"where customer_id = {WHO}"})


def first_of_all(home: Home) -> None:
    path = AuditLog(home, "analyst").path
    path.write_bytes(gzip.compress(f"{WHO}\n".encode()) + b"\n" + path.read_bytes())


def with_another_between(home: Home) -> None:
    in_the_chain(home)
    AuditLog(home, "analyst").append("sql", role="analyst")
    in_the_chain(home)


WRITTEN: dict[str, Callable[[Home], None]] = {
    "an entry": in_the_chain, "an entry and others": with_another_between,
    "a line": lambda home: write(home, f"{WHO} was here\n".encode()), "half a line": lambda home: write(home, b'{"query": "web:cookie-of-ann"'),
    "a longer line than there can be": lambda home: write(home, b"x" * 2_000 + WHO.encode() + b"x" * 2_000 + b"\n"),
    "another kind of file": first_of_all,
    "an entry that was altered": lambda home: write(home, line_of(replace(AuditLog(home).append("sql"), actor=WHO, sequence=4)) + b"\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRITTEN)
@pytest.mark.parametrize("is_published", [False, True])
def test_a_line_that_names_the_person_is_struck_and_the_others_hold(home: Home, monkeypatch: pytest.MonkeyPatch, what: str, is_published: bool) -> None:
    monkeypatch.setattr(audit, "LONGEST_LINE", 1_500)
    monkeypatch.setattr(striking, "LONGEST_LINE", 1_500)
    WRITTEN[what](home)
    if is_published:
        publish(home)
    assert scan(home, NEEDLES).total > 0
    log = AuditLog(home, "analyst")
    size, kept = log.path.stat().st_size, [line for line, entry in log.lines() if WHO.encode() not in line and entry]
    count = struck_from(home)
    assert count == (2 if what == "an entry and others" else 1) and scan(home, NEEDLES).found == {}
    assert [line for line, entry in log.lines() if entry][: len(kept)] == kept and log.path.stat().st_size > size, "nothing else moved; an entry tells of it"
    assert struck_from(home) == 0
    log.append("sql", role="analyst")
    manifest = publish(home)
    is_forged = what in ("another kind of file", "an entry that was altered")
    assert (problems(home) == [] and manifest["audit_lost"] == []) != is_forged, "what somebody did to others' entries is told as before"
    (told,) = [entry for _, entry in AuditLog(home).lines() if entry and entry.action == "lines_struck"]
    assert (told.details["request_id"], told.details["of_role"], len(told.details["lines"])) == ("e_1", "analyst", count)  # type: ignore[arg-type]


def test_nobody_can_strike_a_line_who_cannot_write_to_the_homes_log(home: Home) -> None:
    log = AuditLog(home, "analyst")
    (first, *_), data = log.lines(), log.path.read_bytes()
    log.path.write_bytes(data.replace(first[0].rstrip(b"\n"), b"-" * (len(first[0]) - 1)))
    log.append("lines_struck", role="analyst", details={"request_id": "e_1", "of_role": "analyst", "lines": [1], "entries": []})
    assert any("line 1 is no entry" in problem or "missing" in problem for problem in problems(home))


@pytest.mark.parametrize("place", ["_overwrite", "AuditLog"])
def test_what_was_cut_short_is_struck_the_next_time(home: Home, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    in_the_chain(home)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(striking, "_overwrite", killed) if place == "_overwrite" else patched.setattr(AuditLog, "locked", killed)
        with pytest.raises(KeyboardInterrupt):
            struck_from(home)
    assert struck_from(home) == 1 and scan(home, NEEDLES).found == {} and problems(home) == []


def test_a_log_that_somebody_holds_is_told_and_can_be_struck_later(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PATIENCE_SECONDS", 0.05)
    in_the_chain(home)
    with AuditLog(home, "analyst").path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process holds it"):
            struck_from(home)
    assert struck_from(home) == 1 and problems(home) == []
    assert asdict(AuditLog(home, "analyst").head())["entries"] == 5
