"""What manifests know of the audit logs, so that a tail that was cut is found: a chain of digests by itself does not tell how long it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from waymark.core.home import Home, read_json
from waymark.pipeline.progress import notice
from waymark.privacy.audit import Anchor, AuditLog, Head
from waymark.privacy.roles import ROLES
from waymark.privacy.struck import struck

_LARGEST = 1 << 63  # no file is longer


def anchored(home: Home, details: Mapping[str, object]) -> dict[str, object]:
    """Logs that a snapshot is put out, and gives what its manifest keeps of the logs: `audit` their heads, `audit_lost` earlier heads that they lost.

    A manifest takes the place of the one before. So a head that a log has lost is handed on, and that one was altered; `waymark audit verify` goes on to
    find it.
    """
    known = [(role, log, anchor.head) for role, log in logs(home).items() for anchor in known_anchors(home, role)]
    lost = [(role, head) for role, log, head in known if head is None or not (log.holds(head) or struck(home, role).entries.get(head.entries) == head.digest)]
    if lost:
        notice("The audit log, or what the manifest knew of it, was cut or altered since the last run: waymark audit verify")
    AuditLog(home).append("publish", details=details)
    heads = [(role, head) for role, log in logs(home).items() for head in _heads(home, role, log)]
    return {"audit": [_document(role, head) for role, head in heads], "audit_lost": [_document(role, head) for role, head in lost]}


def _heads(home: Home, role: str, log: AuditLog) -> list[Head]:
    """The log's head; of a role's, to which others than the owner can write, what was known of it where it cannot be read: that stops no publication."""
    try:
        return [log.head()]
    except OSError as error:
        if not role:
            raise
        notice(f"The log of who read the file of role {role} cannot be read ({error.strerror}): waymark audit verify")
        return [anchor.head for anchor in known_anchors(home, role) if anchor.head]


def logs(home: Home) -> dict[str, AuditLog]:
    """The home's logs by role, the home's own under the empty name: those that are there, and those that the manifest knows of."""
    found = {role: AuditLog(home, role) for role in ("", *ROLES)}
    return {role: log for role, log in found.items() if not role or log.path.exists() or known_anchors(home, role)}


def known_anchors(home: Home, role: str = "") -> list[Anchor]:
    """The heads of a log that the published manifest holds. What is none, because somebody altered the manifest, is an anchor without a head; of the home's
    own log where it does not say of which."""
    manifest = read_json(home.manifest)
    if manifest is None:
        return [Anchor(None, "the manifest")] if home.manifest.exists() and not role else []
    where = f"the manifest of snapshot {manifest.get('snapshot_id')}"
    found = []
    for key, said in (("audit", where), ("audit_lost", f"a manifest before that of snapshot {manifest.get('snapshot_id')}")):
        listed = manifest.get(key, [])
        for document in listed if isinstance(listed, list) else [listed]:
            told = document.get("role") if isinstance(document, dict) else None
            if role == (told if told in ("", *ROLES) else ""):
                found.append(Anchor(_head(document), said))
    return found


def _head(document: object) -> Head | None:
    """What a manifest says of a log's head; None where it was altered to say none."""
    if not isinstance(document, dict) or document.get("role") not in ("", *ROLES):
        return None
    entries, digest, size = (document.get(field) for field in ("entries", "digest", "bytes"))
    if type(entries) is int and type(size) is int and isinstance(digest, str) and entries >= 0 and 0 <= size < _LARGEST:
        return Head(entries, digest, size)
    return None


def _document(role: str, head: Head | None) -> dict[str, object]:
    return {"role": role, **asdict(head)} if head else {"role": role, "is_altered": True}
