"""Requests of erasure: kept, taken up again, certified; a certificate that was altered does not hold."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from waymark.core.errors import StorageError, WaymarkError
from waymark.core.home import Home
from waymark.privacy.requests import (
    Working,
    certificate,
    forget_other_working,
    forget_working,
    load_working,
    new_request,
    problems,
    requests,
    save,
    save_working,
    unfinished,
    working_path,
)
from waymark.privacy.tombstones import erasure_key, first_erasure_key, tombstone


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_request_is_open_until_it_is_done_and_what_it_needs_goes_last(home: Home) -> None:
    assert requests(home) == [] and unfinished(home) is None
    request, working = new_request(2, "they asked"), Working(texts=["c_1"], nodes=[-5], keys=[2**100], found={"events": {"web": 3}})
    save_working(home, request, working)
    save(home, request)
    assert unfinished(home) == request and load_working(home, request) == working
    assert "c_1" not in (home.privacy / "requests" / f"{request.request_id}.json").read_text()
    assert working_path(home, request).stat().st_mode & 0o777 == 0o600 and home.privacy.stat().st_mode & 0o777 == 0o700
    request.completed_at = "2026-03-01T10:00:00"
    save(home, request)
    forget_working(home, request)
    assert unfinished(home) is None and requests(home) == [request] and not working_path(home, request).exists()
    forget_working(home, request)


@pytest.mark.parametrize("left", [None, "", '{"unknown": 1}', '{"texts": ["ann'])
def test_a_working_file_that_is_gone_or_damaged_is_told(home: Home, left: str | None) -> None:
    request = new_request(1, "asked")
    save(home, request)
    save_working(home, request, Working())
    working_path(home, request).unlink()
    if left is not None:
        working_path(home, request).write_text(left)
    with pytest.raises(WaymarkError, match="cannot be read") as told:
        load_working(home, request)
    assert f"{request.request_id}.json" in str(told.value.remedy)


def test_what_kills_left_of_other_working_files_goes_and_this_requests_stays(home: Home) -> None:
    kept, other = new_request(1, "asked"), new_request(1, "never written down")
    for request in (kept, other):
        save_working(home, request, Working(texts=["ann@example.org"]))
    halves = [home.privacy / f".{working_path(home, request).name}.4711.tmp" for request in (kept, other)]
    for half in halves:
        half.write_text('{"texts": ["ann@exam')
    forget_other_working(home, kept)
    assert [path for path in home.privacy.iterdir() if path.is_file()] == [working_path(home, kept)]
    forget_other_working(home)
    assert [path for path in home.privacy.iterdir() if path.is_file()] == []


def test_what_a_kill_left_while_the_key_was_made_goes_and_the_key_stays(home: Home) -> None:
    key = first_erasure_key(home, buried=False)
    os.link(home.privacy / "erasure_key", home.privacy / ".erasure_key.abc_1.tmp")
    forget_other_working(home)
    assert [path.name for path in home.privacy.iterdir()] == ["erasure_key"]
    assert erasure_key(home).hmac("x") == key.hmac("x")


def test_a_working_file_is_overwritten_on_the_disk_before_it_goes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    request, done = new_request(1, "asked"), list[str]()
    save_working(home, request, Working(texts=["ann@example.org"]))
    path = working_path(home, request)

    def synced(handle: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name} {set(path.read_bytes()) if path.exists() else ''}")

    monkeypatch.setattr(os, "fsync", synced)
    forget_working(home, request)
    assert done == [f"sync {path.name} {{0}}", "sync privacy "]


def test_a_certificate_holds_as_it_was_signed_and_logged_and_in_no_other_form(home: Home, tmp_path: Path) -> None:
    first_erasure_key(home, buried=False)
    request = new_request(1, "asked")
    request.certificate = certificate(home, request, {"events": {"web": 3}})
    digest = str(request.certificate["digest"])
    read_again = replace(request, certificate=json.loads(json.dumps(request.certificate)))
    assert problems(home, read_again, digest) == []
    assert problems(home, request, None) == ["the audit log knows no such certificate"]
    assert problems(home, request, "0" * 64) == ["the audit log knows another certificate of this request"]
    altered = replace(request, certificate={**request.certificate, "persons": 2})
    assert problems(home, altered, digest) == ["the certificate was altered"]
    other = Home(tmp_path / "other")
    other.root.mkdir()
    first_erasure_key(other, buried=False)
    assert problems(other, request, digest) == ["the certificate was not signed with this home's key"]


def test_the_key_of_tombstones_is_the_homes_own_and_needed(home: Home, tmp_path: Path) -> None:
    key, other = first_erasure_key(home, buried=False), first_erasure_key(Home(tmp_path / "other"), buried=False)
    assert tombstone(key, "email", "a") == tombstone(erasure_key(home), "email", "a") != tombstone(other, "email", "a")
    assert tombstone(first_erasure_key(home, buried=True), "email", "a") == tombstone(key, "email", "a") != tombstone(key, "phone", "a")
    path = home.privacy / "erasure_key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("cut")
    with pytest.raises(StorageError, match="not whole"):
        erasure_key(home)


def test_a_key_that_is_gone_is_told_and_not_replaced(home: Home) -> None:
    with pytest.raises(StorageError, match="gone"):
        erasure_key(home)
    with pytest.raises(StorageError, match="gone"):
        first_erasure_key(home, buried=True)
    first_erasure_key(home, buried=False)
    save(home, new_request(1, "asked"))
    (home.privacy / "erasure_key").unlink()
    with pytest.raises(StorageError, match="gone"):
        first_erasure_key(home, buried=False)
    assert not (home.privacy / "erasure_key").exists()
