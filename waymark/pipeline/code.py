"""The shipped models as files, and their digest: tables derived by other code must be rebuilt."""

from __future__ import annotations

import hashlib
from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "dbt"
PARTS = ("models", "macros", "seeds", "tests")
_KINDS = {".sql", ".yml", ".csv", ".md"}


def shipped_files() -> list[Path]:
    """Every file of the dbt project, sorted."""
    found = [path for part in PARTS for path in (SHIPPED / part).rglob("*") if path.is_file() and path.suffix in _KINDS]
    return sorted([SHIPPED / "dbt_project.yml", *found])


def code_digest() -> str:
    """First 16 hex digits of a SHA-256 over names and contents of the models, macros, seeds and tests."""
    digest = hashlib.sha256()
    for path in shipped_files():
        digest.update(str(path.relative_to(SHIPPED)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
