"""The hashing secret: where it comes from, and the proof that it is the one this home was made with."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from waymark.core.errors import SecretError, StorageError
from waymark.core.home import Home, write_once
from waymark.core.settings import OPERATOR_SOURCE, Project, environment

SECRET_VARIABLE = "WAYMARK_SECRET"
FINGERPRINT_FILE = "secret_fingerprint"
# Public on purpose: the demo's events are made up, and its hashes must be the same everywhere.
PUBLIC_DEMO_SECRET = "waymark-demo-secret-public-and-not-for-real-events"
DEMO_SOURCE = "waymark_world"
_SHORTEST = 16
_BLOCK = 64


class Secret:
    """A key for HMAC-SHA-256. Its text never shows in `repr`, logs or SQL; only `fingerprint` may be written down."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"Secret(fingerprint={self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell secrets apart and give nothing away."""
        return self.hmac("waymark secret fingerprint")[:16]

    def hmac(self, message: str) -> str:
        """HMAC-SHA-256 of a text, 64 hex digits; `hmac_sql` gives the same in SQL."""
        return hmac.new(self._key, message.encode(), hashlib.sha256).hexdigest()

    def parameters(self, key: str = "") -> dict[str, bytes]:
        """The pads as bound parameters `ipad` and `opad`, with the key's name behind, for SQL made with `hmac_sql`."""
        ipad, opad = self.pads
        return {f"ipad{key}": ipad, f"opad{key}": opad}

    @property
    def pads(self) -> tuple[bytes, bytes]:
        """The two key blocks of HMAC (RFC 2104), inner and outer, 64 bytes each."""
        key = self._key if len(self._key) <= _BLOCK else hashlib.sha256(self._key).digest()
        block = key.ljust(_BLOCK, b"\0")
        return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def load_secret(project: Project, notice: Callable[[str], None] | None = None) -> Secret:
    """The project's secret: the demo's public one, else WAYMARK_SECRET, else the home's own, which is made once (mode 600) with a notice.

    Raises SecretError where it is too short, missing, not the one that the home was made with, or public and used on real sources.
    """
    secret = _demo_secret(project) if project.settings.demo else _own_secret(project.home, notice)
    _check_fingerprint(project.home, secret)
    return secret


def _demo_secret(project: Project) -> Secret:
    shown = (DEMO_SOURCE, OPERATOR_SOURCE)
    real = sorted(name for name in project.settings.sources if name not in shown and not name.startswith(f"{DEMO_SOURCE}_"))
    if real:
        raise SecretError(
            f"the demo's secret is public, so it must not hash real sources ({', '.join(real)})",
            where=str(project.directory / "waymark.yml"), remedy="Remove `demo: true`, and run into a fresh home: it gets a secret of its own.",
        )  # fmt: skip
    return Secret(PUBLIC_DEMO_SECRET.encode())


@dataclass(frozen=True)
class KnownSecret:
    """A secret that is there. place: where it comes from, in words; file: its file, where it has one."""

    secret: Secret
    place: str
    file: Path | None = None


def find_secret(project: Project) -> KnownSecret | None:
    """The project's secret as it stands, or None where the first run will make one. Makes, mends and compares nothing; raises as `load_secret` does."""
    if project.settings.demo:
        return KnownSecret(_demo_secret(project), "the demo's public secret")
    if (secret := _given_secret()) is not None:
        return KnownSecret(secret, SECRET_VARIABLE)
    path = project.home.secret_file
    if path.exists():
        return KnownSecret(_kept(path), str(path), path)
    _refuse_if_gone(project.home)
    return None


def _given_secret() -> Secret | None:
    given = environment().get(SECRET_VARIABLE)
    if given is not None and len(given) < _SHORTEST:
        raise SecretError(f"{SECRET_VARIABLE} has fewer than {_SHORTEST} characters", remedy="Give a longer one, for example from: openssl rand -hex 32.")
    return None if given is None else Secret(given.encode())


def _refuse_if_gone(home: Home) -> None:
    # Looked at in this order: another first run, which makes the secret before it writes the fingerprint, may be doing so at this moment.
    if (home.root / FINGERPRINT_FILE).exists() and not home.secret_file.exists():
        raise SecretError(
            "the secret that this home was made with is gone",
            where=str(home.secret_file),
            remedy=f"Restore the file, or set {SECRET_VARIABLE} to the same secret; a fresh home gets a new one.",
        )


def _own_secret(home: Home, notice: Callable[[str], None] | None) -> Secret:
    if (given := _given_secret()) is not None:
        return given
    path = home.secret_file
    if path.exists():
        _close_to_others(path)
        return _kept(path)
    _refuse_if_gone(home)
    text = secrets.token_hex(32)
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        if not write_once(path, text + "\n", mode=0o600):
            _close_to_others(path)
            return _kept(path)  # another run made it at this moment: both use that one
    except OSError as error:
        raise StorageError(
            f"the secret cannot be kept ({error.strerror})", where=str(path), remedy=f"Grant write permission, or set {SECRET_VARIABLE}."
        ) from error
    if notice:
        notice(f"Made a secret for hashing identifiers: {path} (mode 600). Keep a copy: without it, new events cannot be joined to old ones.")
    return Secret(text.encode())


def _kept(path: Path) -> Secret:
    text = _read(path)
    if len(text) < _SHORTEST:
        raise SecretError(
            "the secret's file is empty or too short", where=str(path), remedy="Restore it from your backup, or start a fresh home (WAYMARK_HOME)."
        )
    return Secret(text.encode())


def _close_to_others(path: Path) -> None:
    try:
        if path.stat().st_mode & 0o077:
            os.chmod(path, 0o600)
    except OSError as error:
        raise _unreadable(path) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> SecretError:
    return SecretError("the secret's file cannot be read", where=str(path), remedy=f"Grant read permission to its owner, or set {SECRET_VARIABLE}.")


def _check_fingerprint(home: Home, secret: Secret) -> None:
    path = home.root / FINGERPRINT_FILE
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        if not path.exists() and write_once(path, secret.fingerprint + "\n"):
            return
        known = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StorageError(
            f"the home cannot be written ({error.strerror})", where=str(path), remedy="Grant write permission, or set WAYMARK_HOME to another folder."
        ) from error
    if known != secret.fingerprint:
        raise SecretError(
            f"this is not the secret that the home was made with (its fingerprint is {known}, this one's {secret.fingerprint})",
            where=str(home.root), remedy=f"Set {SECRET_VARIABLE} to the old secret, or run into a fresh home (WAYMARK_HOME) and ingest again.",
        )  # fmt: skip
