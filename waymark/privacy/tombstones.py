"""Tombstones of erased persons: keyed digests of their identifiers, by which files that come again are kept from bringing them back.

Decision: HMACs under a key of its own, in a file of its own. Context: what says "this person was erased" is itself something that is held about a person, so
it must be of no use for anything else. Consequence: a tombstone equals no identifier, hash or id that is stored elsewhere, and only who can read the key's
file and already has an identifier in hand can tell whether it is one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from waymark.core.errors import StorageError
from waymark.core.home import Home, write_once
from waymark.core.warehouse import Connection, has_table, rows
from waymark.privacy.hashing import hmac_sql
from waymark.privacy.secret import Secret

KEY = "_erasure"  # the name of its pads among a statement's parameters
FOR_EVER = "9999-01-01 00:00:00"  # until when a tombstone counts that has no end yet
KEY_FILE = "erasure_key"
REQUESTS = "requests"  # the folder in which requests of erasure stand, beside the key


def tombstone_sql(type_sql: str, value_sql: str) -> str:
    """SQL: the tombstone of an identifier, 64 hex digits. Execute it with `erasure_key(home).parameters(KEY)`."""
    return hmac_sql(f"{type_sql} || '|' || {value_sql}", KEY)


def tombstone(key: Secret, kind: str, value: str) -> str:
    """The tombstone of one identifier, as `tombstone_sql` makes it. value: as events hold it, namespaced or hashed."""
    return key.hmac(f"{kind}|{value}")


def erasure_key(home: Home) -> Secret:
    """The home's key for tombstones. Raises StorageError where it is gone or cannot be read: without it nobody who was erased can be kept out."""
    path = _path(home)
    try:
        text = path.read_text(encoding="utf-8").strip()
        if len(text) == 64:
            return Secret(text.encode())
        reason = "it is not whole"
    except FileNotFoundError:
        reason = "it is gone"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
    raise StorageError(
        f"the key of the tombstones cannot be read ({reason})", where=str(path),
        remedy="Restore the file from your backup, or run as the home's owner. Without it old files could bring erased persons back; where it is lost for "
        "good, begin a fresh home (WAYMARK_HOME) with files that do not hold them.",
    )  # fmt: skip


def first_erasure_key(home: Home, *, buried: bool) -> Secret:
    """The same, made (mode 600) where there never was one. buried: whether the home has tombstones.

    Raises StorageError like `erasure_key`, also where there is none any more: tombstones or requests tell that there was one.
    """
    path = _path(home)
    if not path.exists() and not buried and not any((home.privacy / REQUESTS).glob("e_*.json")):
        try:
            home.privacy.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(home.privacy, 0o700)
            write_once(path, secrets.token_hex(32) + "\n", mode=0o600)
        except OSError as error:
            raise StorageError(
                f"the key of the tombstones cannot be kept ({error.strerror})", where=str(path), remedy="Free space, or run as the home's owner."
            ) from error
    return erasure_key(home)


def is_half_of_key(path: Path) -> bool:
    """Whether a kill left this file while the key was made. It may be another name of the key itself: remove it, and overwrite nothing of it."""
    return path.name.startswith(f".{KEY_FILE}.")


def has_tombstones(connection: Connection) -> bool:
    """Whether somebody was erased from the home whose warehouse this is."""
    return has_table(connection, "raw.tombstones") and bool(rows(connection, "select 1 from raw.tombstones limit 1"))


def _path(home: Home) -> Path:
    return home.privacy / KEY_FILE
