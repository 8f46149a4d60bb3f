"""Errors that a person can act on: what happened, where, and what to do."""

from __future__ import annotations


class WaymarkError(Exception):
    """An error with a remedy.

    what: one sentence that says what happened. where: the file, row, field or setting, if any.
    remedy: one sentence that says what to do. `str(error)` holds all three, a line each.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        lines = [f"{where}: {what}" if where else what]
        if remedy:
            lines.append(f"  {remedy}")
        super().__init__("\n".join(lines))


class SettingsError(WaymarkError):
    """waymark.yml or a mapping cannot be used as it stands."""


class MappingError(WaymarkError):
    """A source mapping does not fit its files."""


class FileRefusedError(WaymarkError):
    """A whole file cannot be read; nothing of it was accepted."""


class LockHeldError(WaymarkError):
    """Another process is writing to this home."""


class SecretError(WaymarkError):
    """The hashing secret is missing, or is not the one that this home was made with."""


class StorageError(WaymarkError):
    """The disk is full, read-only, or holds a home that this version cannot read."""


class AuditError(WaymarkError):
    """A blocking check failed; the last good snapshot stays published."""
