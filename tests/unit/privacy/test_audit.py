"""The audit log finds what was done to it, survives what cuts it short, and lets several processes write."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import cast

import pytest

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.pipeline.anchors import anchored, known_anchors, logs
from waymark.privacy import audit
from waymark.privacy.audit import NOTHING, Anchor, AuditLog, Head
from waymark.privacy.subjects import SubjectReferences

WRITER = """
import sys
from dataclasses import asdict
from pathlib import Path
from waymark.core.home import Home
from waymark.privacy.audit import AuditLog
log = AuditLog(Home(Path(sys.argv[1])))
for number in range(25):
    log.append("sql", details={"query": f"select ? -- {sys.argv[2]} {number}"})
"""


def filled(folder: Path, entries: int = 6) -> AuditLog:
    log = AuditLog(Home(folder))
    for number in range(entries):
        log.append("sql", details={"query": f"from marts.fct_sessions limit {number}"})
    return log


def test_entries_are_chained_owned_and_hold(tmp_path: Path) -> None:
    log = filled(tmp_path)
    verdict, head = log.verify(), log.head()
    assert (verdict.entries, verdict.problems, verdict.notes) == (6, (), ())
    assert (head.entries, head.digest, head.bytes) == (6, verdict.digest, log.path.stat().st_size) and log.holds(head)
    entries = [entry for _, entry in log.lines() if entry]
    assert [entry.previous for entry in entries] == [NOTHING, *(entry.digest for entry in entries[:-1])]
    assert log.path.stat().st_mode & 0o777 == 0o600 and log.folder.stat().st_mode & 0o777 == 0o700


def test_every_altered_byte_is_found(tmp_path: Path) -> None:
    """Each byte in turn, as another one; line ends too. The anchor is what a manifest would know."""
    log = filled(tmp_path, 3)
    anchor = Anchor(log.head(), "the manifest")
    content = log.path.read_bytes()
    assert log.verify([anchor]).problems == ()
    for position in range(len(content)):
        log.path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert log.verify([anchor]).problems, position


def test_a_removed_a_swapped_a_doubled_and_a_rewritten_entry_are_found(tmp_path: Path) -> None:
    log = filled(tmp_path)
    anchor = Anchor(log.head(), "the manifest")
    lines = log.path.read_bytes().splitlines(keepends=True)
    for gone in range(6):
        log.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        assert log.verify([anchor]).problems
        assert gone == 5 or any("missing" in problem for problem in log.verify().problems)
    log.path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    assert log.verify().problems
    log.path.write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))
    assert any("stands after" in problem for problem in log.verify().problems)
    # An entry that holds by itself, in the place of another: the next one does not follow from it.
    forged = AuditLog(Home(tmp_path / "forged"))
    for _ in range(3):
        forged.append("why")
    log.path.write_bytes(b"".join([*lines[:2], forged.path.read_bytes().splitlines(keepends=True)[2], *lines[3:]]))
    assert [problem for problem in log.verify().problems if "does not follow" in problem] != []
    # Somebody writes the whole log anew, with a chain that holds: only the manifest knows better.
    log.path.unlink()
    for _ in range(6):
        log.append("sql", details={"query": "from nothing"})
    assert log.verify().problems == () and "written anew" in log.verify([anchor]).problems[0]


def test_a_cut_tail_is_found_by_what_a_manifest_knows(tmp_path: Path) -> None:
    log = filled(tmp_path)
    head = log.head()
    lines = log.path.read_bytes().splitlines(keepends=True)
    for kept in range(6):
        log.path.write_bytes(b"".join(lines[:kept]))
        assert log.verify().problems == ()
        assert "its end was cut" in log.verify([Anchor(head, "the manifest")]).problems[0] and not log.holds(head)
    log.path.unlink()
    assert log.verify([Anchor(head, "the manifest")]).problems and not log.holds(head)


def test_a_line_that_a_crash_cut_is_told_and_what_follows_holds(tmp_path: Path) -> None:
    """Cut at every byte of the last line; then an entry is written, as the next command would."""
    log = filled(tmp_path, 3)
    content = log.path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    for end in range(last + 1, len(content)):
        log.path.write_bytes(content[:end])
        is_whole = end == len(content) - 1  # only the end of the line is lacking, and nothing of the entry
        assert bool(log.verify().problems) is not is_whole
        assert log.head().entries == 2 or is_whole
        log.append("why", subjects=["p_1"])
        verdict = log.verify()
        assert verdict.problems == () and verdict.entries == 4, (end, verdict)
        assert bool(verdict.notes) is not is_whole
        assert content[:end] in log.path.read_bytes(), "nothing is dropped"
    # A whole line that is no entry is no crash, and no later entry excuses it.
    log.path.write_bytes(content[:last] + b"nonsense\n")
    log.append("why")
    assert any("is no entry" in problem for problem in log.verify().problems)


def test_a_write_that_fails_leaves_the_log_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path, 2)
    before, write = log.path.read_bytes(), os.write

    def half(handle: int, data: bytes) -> int:
        write(handle, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(StorageError, match="audit log cannot be written"):
        log.append("sql")
    assert log.path.read_bytes() == before


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    log = AuditLog(Home(tmp_path))
    verdict = log.verify()
    assert (verdict.entries, verdict.problems) == (100, ())
    said = {str(entry.details["query"]) for _, entry in log.lines() if entry}
    assert said == {f"select ? -- {name} {number}" for name in "abcd" for number in range(25)}


def test_long_entries_are_found_from_the_end(tmp_path: Path) -> None:
    log = AuditLog(Home(tmp_path))
    for size in (10, 70_000, 200_000, 10):
        log.append("sql", details={"query": "x" * size})
    assert log.head().entries == 4 and log.verify().problems == ()


FALSE_LINES = {
    "nested lists": b"[" * 200_000 + b"\n",
    "nested details": b'{"sequence":9,"at":"","actor":"","role":"","action":"sql","subjects":[],"previous":"","digest":"","details":{"a":'
    + b"[" * 900 + b"]" * 900 + b"}}\n",
    "half a pair": b'{"sequence":9,"at":"","actor":"\\ud800","role":"","action":"sql","subjects":[],"previous":"","digest":"","details":{}}\n',
    "subjects that are none": b'{"sequence":9,"at":"","actor":"","role":"","action":"sql","subjects":[1],"previous":"","digest":"","details":{}}\n',
    "a line as long as a log": b"x" * 9_000_000 + b"\n",
    "no end of line": b"x" * 9_000_000,
    "many lines": b"{}\n" * 30_000,
    "what another wrote before": b"\xff\x00\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", FALSE_LINES)
def test_whatever_a_reader_writes_into_the_log_of_a_role_it_is_read_in_no_time_and_told(kind: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    log = AuditLog(home, "analyst")
    for _ in range(3):
        log.append("sql", role="analyst")
    head = log.head()
    with log.path.open("ab") as file:
        file.write(FALSE_LINES[kind])
    whole = 0 if kind == "no end of line" else len(FALSE_LINES[kind])
    assert log.holds(head) and log.head() == Head(3, head.digest, head.bytes + whole)
    assert log.verify([Anchor(head, "the manifest")]).problems
    assert [entry.sequence for _, entry in log.lines() if entry] == [1, 2, 3]
    anchored(home, {})
    log.append("sql", role="analyst")
    assert log.head().entries in (4, 5) and log.verify().entries in (4, 5) and log.verify().problems


def test_a_reader_who_holds_or_cuts_the_log_of_a_role_stops_no_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    log = AuditLog(home, "analyst")
    log.append("sql", role="analyst")
    monkeypatch.setattr(audit, "PATIENCE_SECONDS", 0.05)
    with log.path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        manifest = anchored(home, {})
        assert manifest["audit"] == [{"role": role, **asdict(AuditLog(home, role).head())} for role in ("", "analyst")]
        with pytest.raises(StorageError, match="another process holds it"):
            log.append("sql", role="analyst")
    home.manifest.write_text(json.dumps(manifest))

    read = AuditLog.head

    def cut(self: AuditLog) -> Head:
        if self.role:
            raise OSError(5, "the file is shorter than it was")
        return read(self)

    monkeypatch.setattr(AuditLog, "head", cut)
    assert [document["role"] for document in cast("list[dict[str, object]]", anchored(home, {})["audit"])] == ["", "analyst"], "what was known is handed on"


def test_an_entry_longer_than_a_line_can_be_says_how_long_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LONGEST_LINE", 1_000)
    log = AuditLog(Home(tmp_path))
    for size in (10, 5_000, 10):
        log.append("sql", details={"query": "x" * size})
    assert log.verify().problems == () and log.head().entries == 3
    assert [list(entry.details) for _, entry in log.lines() if entry] == [["query"], ["left_out_bytes"], ["query"]]


def test_an_unknown_action_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no action"):
        AuditLog(Home(tmp_path)).append("peek")


def test_a_reference_is_random_stable_and_forgotten_for_good(tmp_path: Path) -> None:
    subjects = SubjectReferences(Home(tmp_path))
    assert subjects.known("c_1") is None and subjects.forget(["c_1"]) == 0
    first, second = subjects.of(["c_1", "c_2"])
    assert first != second and subjects.of(["c_2", "c_1"]) == [second, first] and subjects.known("c_1") == first
    assert subjects.path.stat().st_mode & 0o777 == 0o600
    content = subjects.path.read_bytes()
    assert b"c_1" not in content and first.encode() in content
    assert subjects.forget(["c_1", "c_nobody"]) == 1
    assert first.encode() not in subjects.path.read_bytes(), "the row's bytes are overwritten"
    assert subjects.known("c_1") is None and subjects.known("c_2") == second
    assert subjects.of(["c_1"]) != [first]


def test_no_entry_holds_what_it_should_not(tmp_path: Path) -> None:
    log = AuditLog(Home(tmp_path))
    entry = log.append("why", role="analyst", subjects=SubjectReferences(Home(tmp_path)).of(["c_3fa"]))
    assert "c_3fa" not in log.path.read_text() and json.loads(log.path.read_text())["role"] == "analyst"
    assert entry.actor and entry.at.endswith("Z")


HEAD: dict[str, object] = {"role": "analyst", "entries": 1, "digest": "0" * 64, "bytes": 1}
ALTERED: dict[str, object] = {
    **{f"no {field}": {name: value for name, value in HEAD.items() if name != field} for field in HEAD},
    "a text for a number": {**HEAD, "entries": "three"}, "a share of a byte": {**HEAD, "bytes": 0.5}, "a number for a digest": {**HEAD, "digest": 7},
    "fewer than none": {**HEAD, "entries": -1}, "more than any file": {**HEAD, "bytes": 1 << 80}, "a role that there is not": {**HEAD, "role": ["analyst"]},
    "no object": "a head", "nothing": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", ALTERED)
@pytest.mark.parametrize("key", ["audit", "audit_lost"])
def test_a_head_that_was_altered_in_the_manifest_is_told_and_stops_no_publication(tmp_path: Path, kind: str, key: str) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    for role in ("", "analyst"):
        AuditLog(home, role).append("sql", role=role)
    manifest = anchored(home, {})
    assert _problems_of(home) == [], "no manifest yet"
    home.manifest.write_text(json.dumps({"snapshot_id": "s1", **manifest, key: [*cast("list[object]", manifest["audit"]), ALTERED[kind]]}))
    (told,) = _problems_of(home)
    assert "snapshot s1 does not tell any more how long the log was" in told
    second = anchored(home, {})
    assert second["audit"] == [{"role": role, **asdict(AuditLog(home, role).head())} for role in ("", "analyst")]
    for snapshot in ("s2", "s3"):  # the first manifest is gone; that it was altered is handed on
        home.manifest.write_text(json.dumps({"snapshot_id": snapshot, **second}))
        assert _problems_of(home) == [f"a manifest before that of snapshot {snapshot} does not tell any more how long the log was: it was altered or damaged"]
        second = anchored(home, {})


@pytest.mark.parametrize("text", ["{", "[]", '{"snapshot_id": "s1", "audit": 7}', '{"snapshot_id": "s1", "audit": {"": 1}}'])
def test_a_manifest_that_was_altered_as_a_whole_is_told_and_stops_no_publication(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    AuditLog(home).append("sql")
    home.manifest.write_text(text)
    assert len(_problems_of(home)) == 1
    assert anchored(home, {})["audit"] == [{"role": "", **asdict(AuditLog(home).head())}]


def _problems_of(home: Home) -> list[str]:
    return [problem for role, log in logs(home).items() for problem in log.verify(known_anchors(home, role)).problems]
