"""What manifests know of the audit log, so that a tail that was cut is found: a chain of digests by itself does not tell how long it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from waymark.core.home import Home, read_json
from waymark.pipeline.progress import notice
from waymark.privacy.audit import Anchor, AuditLog, Head


def anchored(home: Home, details: Mapping[str, object]) -> dict[str, object]:
    """Logs that a snapshot is put out, and gives what its manifest keeps of the log: `audit` its head, `audit_lost` earlier heads that it no longer holds.

    A manifest takes the place of the one before. So a head that the log has lost is handed on, and `waymark audit verify` goes on to find it.
    """
    log = AuditLog(home)
    earlier = known_anchors(home)
    lost = [anchor.head for anchor in earlier if not log.holds(anchor.head)]
    if lost:
        notice("The audit log was cut or altered since the last run: waymark audit verify")
    log.append("publish", details=details)
    return {"audit": asdict(log.head()), "audit_lost": [asdict(head) for head in lost]}


def known_anchors(home: Home) -> list[Anchor]:
    """The heads that the published manifest holds."""
    manifest = read_json(home.manifest) or {}
    handed_on = manifest.get("audit_lost")
    where = f"the manifest of snapshot {manifest.get('snapshot_id')}"
    told = [(manifest.get("audit"), where), *((head, f"a manifest before {where[4:]}") for head in (handed_on if isinstance(handed_on, list) else []))]
    found = []
    for head, said in told:
        if isinstance(head, dict):
            entries, digest, size = head.get("entries"), head.get("digest"), head.get("bytes")
            if isinstance(entries, int) and isinstance(digest, str) and isinstance(size, int):
                found.append(Anchor(Head(entries, digest, size), said))
    return found
