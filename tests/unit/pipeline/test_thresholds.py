"""A change of how sure links must be stands in the audit log, once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from waymark.core.home import Home
from waymark.core.settings import IdentitySettings, IdentityThresholds
from waymark.pipeline.publish import _thresholds
from waymark.privacy.audit import AuditLog


def publishing(home: Home, sending: float) -> Any:
    identity = IdentitySettings(thresholds=IdentityThresholds(sending=sending))
    return SimpleNamespace(project=SimpleNamespace(home=home, settings=SimpleNamespace(identity=identity)))


def test_a_changed_threshold_is_logged_with_what_it_was(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    for sending in (0.99, 0.99, 0.999):
        home.manifest.write_text(json.dumps({"identity_thresholds": _thresholds(publishing(home, sending))}))
    entries = [entry for _, entry in AuditLog(home).lines() if entry]
    assert [entry.action for entry in entries] == ["thresholds_changed"]
    assert entries[0].details == {
        "before": {"analysis": 0.95, "scoring": 0.95, "sending": 0.99}, "after": {"analysis": 0.95, "scoring": 0.95, "sending": 0.999},
    }  # fmt: skip
