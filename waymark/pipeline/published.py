"""Opening the published snapshot: read-only, light, while a run may be writing the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waymark.core.errors import StorageError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, connect


def require_published(home: Home) -> None:
    """Raises StorageError where nothing is published yet."""
    if not home.published.exists():
        raise StorageError("nothing is published yet", where=str(home.root), remedy="Run `waymark run` first.")


@contextmanager
def open_published(home: Home) -> Iterator[Connection]:
    """The published snapshot. An open connection keeps its snapshot when a newer one is swapped in.

    Raises StorageError where nothing is published yet.
    """
    require_published(home)
    connection = connect(home.published, read_only=True)
    try:
        yield connection
    finally:
        connection.close()
