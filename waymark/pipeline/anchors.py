"""What manifests know of the audit logs, so that a tail that was cut is found: a chain of digests by itself does not tell how long it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from waymark.core.home import Home, read_json
from waymark.pipeline.progress import notice
from waymark.privacy.audit import Anchor, AuditLog, Head
from waymark.privacy.roles import ROLES


def anchored(home: Home, details: Mapping[str, object]) -> dict[str, object]:
    """Logs that a snapshot is put out, and gives what its manifest keeps of the logs: `audit` their heads, `audit_lost` earlier heads that they lost.

    A manifest takes the place of the one before. So a head that a log has lost is handed on, and `waymark audit verify` goes on to find it.
    """
    lost = [(role, anchor.head) for role, log in logs(home).items() for anchor in known_anchors(home, role) if not log.holds(anchor.head)]
    if lost:
        notice("The audit log was cut or altered since the last run: waymark audit verify")
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
        return [anchor.head for anchor in known_anchors(home, role)]


def logs(home: Home) -> dict[str, AuditLog]:
    """The home's logs by role, the home's own under the empty name: those that are there, and those that the manifest knows of."""
    found = {role: AuditLog(home, role) for role in ("", *ROLES)}
    return {role: log for role, log in found.items() if not role or log.path.exists() or known_anchors(home, role)}


def known_anchors(home: Home, role: str = "") -> list[Anchor]:
    """The heads of a log that the published manifest holds."""
    manifest = read_json(home.manifest) or {}
    where = f"the manifest of snapshot {manifest.get('snapshot_id')}"
    found = []
    for key, said in (("audit", where), ("audit_lost", f"a manifest before that of snapshot {manifest.get('snapshot_id')}")):
        listed = manifest.get(key)
        for head in listed if isinstance(listed, list) else []:
            if isinstance(head, dict) and head.get("role") == role:
                found.append(Anchor(Head(int(head["entries"]), str(head["digest"]), int(head["bytes"])), said))
    return found


def _document(role: str, head: Head) -> dict[str, object]:
    return {"role": role, **asdict(head)}
