"""Tombstones of erased persons: keyed digests of their identifiers, by which files that come again are kept from bringing them back.

Decision: HMACs under a key of its own, in a file of its own. Context: what says "this person was erased" is itself something that is held about a person, so
it must be of no use for anything else. Consequence: a tombstone equals no identifier, hash or id that is stored elsewhere, and only who can read the key's
file and already has an identifier in hand can tell whether it is one.
"""

from __future__ import annotations

import os
import secrets

from waymark.core.errors import StorageError
from waymark.core.home import Home, write_once
from waymark.privacy.hashing import hmac_sql
from waymark.privacy.secret import Secret

KEY = "_erasure"  # the name of its pads among a statement's parameters


def tombstone_sql(type_sql: str, value_sql: str) -> str:
    """SQL: the tombstone of an identifier, 64 hex digits. Execute it with `erasure_key(home).parameters(KEY)`."""
    return hmac_sql(f"{type_sql} || '|' || {value_sql}", KEY)


def tombstone(key: Secret, kind: str, value: str) -> str:
    """The tombstone of one identifier, as `tombstone_sql` makes it. value: as events hold it, namespaced or hashed."""
    return key.hmac(f"{kind}|{value}")


def erasure_key(home: Home) -> Secret:
    """The home's key for tombstones, made at the first call (mode 600).

    Raises StorageError where it cannot be kept or read: without the key no file can be taken in, because it might bring somebody back.
    """
    path = home.privacy / "erasure_key"
    try:
        if not path.exists():
            home.privacy.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(home.privacy, 0o700)
            write_once(path, secrets.token_hex(32) + "\n", mode=0o600)
        text = path.read_text(encoding="utf-8").strip()
        if len(text) == 64:
            return Secret(text.encode())
        reason = "it is not whole"
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
    raise StorageError(
        f"the key of the tombstones cannot be read ({reason})", where=str(path), remedy="Restore it from your backup, or run as the home's owner."
    )
