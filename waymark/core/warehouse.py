"""The one way to open a DuckDB file: one configuration for every connection, so that none refuses another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from waymark.core.errors import StorageError, WaymarkError

if TYPE_CHECKING:
    from waymark.core.settings import EngineSettings

Connection = duckdb.DuckDBPyConnection
QueryError = duckdb.Error


def connection_config(engine: EngineSettings | None, scratch: Path | None = None) -> dict[str, str]:
    """DuckDB's configuration. dbt's profile uses the same, because two configurations of one open file exclude each other."""
    config = {"memory_limit": engine.memory_limit if engine else "4GB", "TimeZone": "UTC", "autoinstall_known_extensions": "false"}
    if engine and engine.threads:
        config["threads"] = str(engine.threads)
    if scratch:
        config["temp_directory"] = str(scratch)
    return config


def connect(path: Path | str = ":memory:", *, engine: EngineSettings | None = None, scratch: Path | None = None, read_only: bool = False) -> Connection:
    """Opens a DuckDB file (or an in-memory one).

    Raises StorageError, with a remedy, where the file is locked by another process, damaged, or not to be written.
    """
    try:
        return duckdb.connect(str(path), read_only=read_only, config=dict[str, "str | bool | int | float | list[str]"](connection_config(engine, scratch)))
    except duckdb.IOException as error:
        raise StorageError(
            f"the database cannot be opened: {first_line(error)}", where=str(path), remedy="Close what holds it, or check the disk and its permissions."
        ) from error


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def storage_problem(error: BaseException, where: str) -> WaymarkError | None:
    """A StorageError, if the error says that the disk is full or not to be written; else None."""
    text = str(error).lower()
    if any(said in text for said in ("no space left", "disk full", "disk is full")) or getattr(error, "errno", None) == 28:
        return StorageError("the disk is full", where=where, remedy="Free space, then run again: nothing was published, nothing accepted is lost.")
    if "permission denied" in text or "read-only file system" in text or getattr(error, "errno", None) in (13, 30):
        return StorageError("no permission to write", where=where, remedy="Grant write permission, or set WAYMARK_HOME to another folder.")
    return None


def rows(connection: Connection, sql: str, parameters: Mapping[str, object] | list[object] | None = None) -> list[tuple[object, ...]]:
    """All rows of a query that returns few."""
    return connection.execute(sql, parameters).fetchall() if parameters is not None else connection.execute(sql).fetchall()
