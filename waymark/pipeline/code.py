"""The shipped models as files, and the digest of what derives tables: tables derived by other code, or from other sources, must be rebuilt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waymark.core.digest import text_digest
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.shipped import shipped

SHIPPED = shipped("dbt")
IDENTITY = Path(__file__).resolve().parents[1] / "identity"
PARTS = ("models", "macros", "seeds", "tests")
_KINDS = {".sql", ".yml", ".csv", ".md"}


def shipped_files() -> list[Path]:
    """Every file of the dbt project, sorted."""
    found = [path for part in PARTS for path in (SHIPPED / part).rglob("*") if path.is_file() and path.suffix in _KINDS]
    return sorted([SHIPPED / "dbt_project.yml", *found])


def code_digest() -> str:
    """First 16 hex digits of a SHA-256 over names and contents of the dbt project and of the code that resolves identities."""
    digest = hashlib.sha256()
    named = [(path.name, path) for path in shipped_files()] + sorted((path.relative_to(IDENTITY).as_posix(), path) for path in IDENTITY.rglob("*.py"))
    for name, path in named:
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def models_digest(dbt_vars: Mapping[str, Any]) -> str:
    """What dbt's parsed models depend on: the code, and the settings that they read as vars."""
    return text_digest(code_digest() + json.dumps(dbt_vars, sort_keys=True))


def build_digest(project: Project) -> str:
    """What the tables were built by and from: the code, and the names of the sources. An operator's first word adds a source, and rebuilds nothing."""
    return f"{code_digest()}:{','.join(sorted(set(project.settings.sources) - {OPERATOR_SOURCE}))}"
