"""Requests of persons to be erased: what was asked, how far it is, and the certificate at its end.

A request's own file holds nothing of a person. What is needed on the way (identifiers, ids, what to look for) stands in a second file, for the home's owner
alone, which is the last thing to go; so a request that was cut short goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from waymark.core.clock import wall_now
from waymark.core.errors import WaymarkError
from waymark.core.home import Home, read_json, sync_folder, write_atomically
from waymark.privacy.audit import AuditLog
from waymark.privacy.tombstones import REQUESTS, erasure_key, is_half_of_key

_WORKING = ".working-"


@dataclass
class Request:
    """persons: how many; phase: the last that is done; certificate: its content once all is done. Times are UTC, as text."""

    request_id: str
    requested_at: str
    because: str
    persons: int
    phase: str = "asked"
    completed_at: str = ""
    certificate: dict[str, object] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return bool(self.completed_at)


@dataclass
class Working:
    """What a request needs until it is done.

    tombstones: of all that names the persons, each with its type; made, texts, nodes, keys: what the scan looks for (see `Needles`; texts: as sources gave
    them; nodes: of their identifiers, keys: of their events, both numbers); customers: ids of theirs, of now and before; words: ids of events by which an
    operator spoke of their identifiers, word_files: their files; since: their first event, or before it what models may have known of them, UTC, "" where
    they have none; until: their last event that goes, UTC; champion: data_now of a champion that has to go; compared: parts of their names were;
    landed_from: when the pass over landing began, UTC; names: of files that were called after them; counted: what was there before a store was changed, or
    was about to go from it; found: what was done so far, by store.
    """

    tombstones: list[list[str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    word_files: list[str] = field(default_factory=list)
    since: str = ""
    until: str = ""
    champion: str = ""
    compared: bool = False
    landed_from: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    found: dict[str, object] = field(default_factory=dict)


def new_request(persons: int, because: str) -> Request:
    return Request(f"e_{secrets.token_hex(6)}", wall_now().isoformat(timespec="microseconds"), because, persons)


def requests(home: Home) -> list[Request]:
    """All, the oldest first."""
    found = [_read(path) for path in (home.privacy / REQUESTS).glob("e_*.json")] if home.privacy.exists() else []
    return sorted(found, key=lambda request: (request.requested_at, request.request_id))


def unfinished(home: Home) -> Request | None:
    """The request that was cut short, if there is one."""
    return next((request for request in requests(home) if not request.is_done), None)


def save(home: Home, request: Request) -> None:
    _folder(home)
    write_atomically(_path(home, request.request_id), json.dumps(asdict(request), indent=2, sort_keys=True) + "\n", mode=0o600)


def working_path(home: Home, request: Request) -> Path:
    """The file that holds what is known of the persons until the request is done."""
    return home.privacy / f"{_WORKING}{request.request_id}.json"


def save_working(home: Home, request: Request, working: Working) -> None:
    _folder(home)
    write_atomically(working_path(home, request), json.dumps(asdict(working)) + "\n", mode=0o600)


def load_working(home: Home, request: Request) -> Working:
    """Raises WaymarkError where the file is gone or damaged."""
    path = working_path(home, request)
    document = read_json(path)
    try:
        if document is not None:
            return Working(**document)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise WaymarkError(
        "what the erasure needs to go on is gone, or cannot be read", where=str(path),
        remedy=f"Restore the file from your backup. Where there is none: remove {_path(home, request.request_id)}, then `waymark run`, then ask for the "
        "erasure again.",
    )  # fmt: skip


def forget_working(home: Home, request: Request) -> None:
    """Overwrites the file and removes it; durable when it returns."""
    _wipe(working_path(home, request))


def forget_other_working(home: Home, request: Request | None = None) -> None:
    """Removes such files of other requests, and halves of some: what a kill left of a request that was never written down, or of a file that was being
    written. Hold the writer lock."""
    kept = working_path(home, request) if request else None
    for path in sorted(home.privacy.iterdir()) if home.privacy.exists() else []:
        if path.name.startswith((_WORKING, f".{_WORKING}")) and path != kept:
            _wipe(path)
        elif is_half_of_key(path):
            path.unlink()


def _wipe(path: Path) -> None:
    if not path.exists():
        return
    with open(path, "r+b") as file:
        file.write(b"\0" * path.stat().st_size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)


def certificate(home: Home, request: Request, facts: Mapping[str, object]) -> dict[str, object]:
    """What was done, with a digest of it and an HMAC of that under the erasure key."""
    document = {"request_id": request.request_id, "requested_at": request.requested_at, "because": request.because, "persons": request.persons, **facts}
    digest = _digest(document)
    return {**document, "digest": digest, "signature": erasure_key(home).hmac(f"certificate|{digest}")}


def problems(home: Home, request: Request, audited: str | None) -> list[str]:
    """What does not hold of a certificate: altered, not signed by this home, or not the one that the audit log knows. audited: the digest that it knows."""
    said = dict(request.certificate)
    digest, signature = said.pop("digest", ""), said.pop("signature", "")
    found = []
    if digest != _digest(said):
        found.append("the certificate was altered")
    if signature != erasure_key(home).hmac(f"certificate|{digest}"):
        found.append("the certificate was not signed with this home's key")
    if audited != digest:
        found.append("the audit log knows no such certificate" if audited is None else "the audit log knows another certificate of this request")
    return found


def audited_digest(home: Home, request_id: str) -> str | None:
    """The digest of a request's certificate that the audit log knows; None where it knows none."""
    return audited_digests(home).get(request_id)


def audited_digests(home: Home) -> dict[str, str]:
    """The digests of all certificates that the audit log knows, by request; reads the log once."""
    erased = [entry for _, entry in AuditLog(home).lines() if entry and entry.action == "person_erased"]
    # Of two entries of one request, which only somebody else could have written, the first stands.
    return {str(entry.details.get("request_id")): str(entry.details.get("certificate")) for entry in reversed(erased)}


def _digest(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _path(home: Home, request_id: str) -> Path:
    return home.privacy / REQUESTS / f"{request_id}.json"


def _folder(home: Home) -> None:
    for folder in (home.privacy, home.privacy / REQUESTS):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)


def _read(path: Path) -> Request:
    document = read_json(path)
    try:
        return Request(**(document or {}))  # type: ignore[arg-type]
    except TypeError as error:
        raise WaymarkError("the request cannot be read", where=str(path), remedy="Restore the file from your backup.") from error
