"""Opening the published snapshot: read-only, light, while a run may be writing the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, connect

SNAPSHOT_INFO = {  # main.snapshot_info, one row: which snapshot this is
    "snapshot_id": "Name of the snapshot.",
    "published_at": "When it was swapped in, UTC, by the wall clock.",
    "data_now": "The run's clock, UTC: what came to be known later is not in it.",
    "waymark_version": "The version that made it.",
    "run_id": "The Dagster run that published it.",
    "settings_digest": "Digest of the settings that bind its tables.",
    "secret_fingerprint": "Which secret its keyed hashes were made with; says nothing of the secret.",
}


def require_published(home: Home, role: str = "") -> None:
    """Raises StorageError where nothing is published yet, or nothing for the role."""
    if not home.published.exists():
        raise StorageError("nothing is published yet", where=str(home.root), remedy="Run `waymark run` first.")
    if role and not home.role_file(role).exists():
        raise StorageError(
            f"nothing is published for the role '{role}'", where=str(home.root), remedy="Name it in access.roles of waymark.yml, then: waymark run"
        )


@contextmanager
def open_published(home: Home, role: str = "") -> Iterator[Connection]:
    """The published snapshot, or a role's file. An open connection keeps its snapshot when a newer one is swapped in.

    Raises StorageError where nothing is published yet.
    """
    require_published(home, role)
    connection = connect(home.role_file(role) if role else home.published, read_only=True)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def open_latest(home: Home) -> Iterator[Connection]:
    """The warehouse, briefly: writers wait. While one writes, and where it cannot be opened, the published snapshot. Raises StorageError where neither can."""
    with ExitStack() as stack:
        holder = stack.enter_context(home.reading())
        try:
            connection = None if holder else connect(home.warehouse, read_only=True)
        except StorageError:
            connection = None
        yield stack.enter_context(connection or connect(home.published, read_only=True))
