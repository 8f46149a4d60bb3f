"""The one way to open a DuckDB file: one configuration for every connection, so that none refuses another.

A warehouse is two files side by side: `warehouse.duckdb`, and `outputs.duckdb` with what is published, that is the schemas marts, features and quality
and the tables of which marts and features are views. Every connection to the first has the second attached, and finds a table by schema and name in
whichever holds it.

Decision: two files. Context: what is published must be a file of its own, and writing its tables a second time cost more than an increment. Consequence:
publishing copies a file; a transaction writes to one of the two, never to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import duckdb

from waymark.core.errors import StorageError, WaymarkError
from waymark.core.quoting import literal

if TYPE_CHECKING:
    from waymark.core.settings import EngineSettings

WAREHOUSE_FILE, OUTPUTS_FILE = "warehouse.duckdb", "outputs.duckdb"
# The names under which the two are known to the engine and to dbt.
WAREHOUSE, OUTPUTS = "warehouse", "outputs"
OUTPUT_SCHEMAS = ("marts", "features", "quality")
_SHARED_SCHEMA = "intermediate"
# Where a name of schema and table is looked for, in this order.
_PLACES = (
    (WAREHOUSE, "main"), *((OUTPUTS, schema) for schema in OUTPUT_SCHEMAS), (WAREHOUSE, _SHARED_SCHEMA), (OUTPUTS, _SHARED_SCHEMA),
)  # fmt: skip

# How long a writer waits for a file that another process has open. No writer of ours holds one outside the home's lock, and our readers hold that lock, too:
# it is somebody's DuckDB shell or notebook, which may close again, and a run of hours is not to end by a glance at its tables.
_PATIENCE_SECONDS = 10.0

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
    """Opens a DuckDB file (or an in-memory one). A file that is named as a warehouse is one: its outputs are attached.

    To write, it waits some seconds for another process that has the file open. Raises StorageError, with a remedy, where that keeps it open, and where the
    file is damaged or not to be written.
    """
    deadline = monotonic() + (0 if read_only else _PATIENCE_SECONDS)
    while True:
        try:
            return _opened(path, connection_config(engine, scratch), read_only=read_only)
        except duckdb.IOException as error:
            is_held = "lock is held" in str(error)
            if is_held and monotonic() < deadline:
                sleep(0.1)
                continue
            raise StorageError(
                f"the database cannot be opened: {first_line(error)}", where=str(path),
                remedy="Close what has it open: a DuckDB shell or a notebook is to ask the published file (waymark path published)." if is_held
                else "Check the disk and its permissions.",
            ) from error  # fmt: skip


def _opened(path: Path | str, configured: Mapping[str, str], *, read_only: bool) -> Connection:
    connection = duckdb.connect(str(path), read_only=read_only, config=dict[str, "str | bool | int | float | list[str]"](configured))
    try:
        if Path(path).name == WAREHOUSE_FILE:
            _attach_outputs(connection, outputs_of(Path(path)), read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def outputs_of(warehouse: Path) -> Path:
    """The file beside a warehouse that holds what is published."""
    return warehouse.with_name(OUTPUTS_FILE)


def _attach_outputs(connection: Connection, path: Path, *, read_only: bool) -> None:
    """Attaches the outputs; makes them, empty, where the warehouse is to be written."""
    if read_only and not path.exists():
        return
    connection.execute(f"attach if not exists {literal(path)} as {OUTPUTS}{' (read_only)' if read_only else ''}")
    if not read_only:
        connection.execute(f"create schema if not exists {_SHARED_SCHEMA}")
        for schema in (*OUTPUT_SCHEMAS, _SHARED_SCHEMA):
            connection.execute(f"create schema if not exists {OUTPUTS}.{schema}")
    there = set(rows(connection, "select database_name, schema_name from duckdb_schemas()"))
    places = ",".join(f"{catalog}.{schema}" for catalog, schema in _PLACES if (catalog, schema) in there)
    connection.execute(f"set search_path = {literal(places)}")


def another_cursor(connection: Connection) -> Connection:
    """A handle of its own on the same database; DuckDB's own `cursor()` forgets where tables are looked for."""
    cursor = connection.cursor()
    path = rows(connection, "select current_setting('search_path')")[0][0]
    cursor.execute(f"set search_path = {literal(path)}")
    return cursor


def attach_another(connection: Connection, warehouse: Path, alias: str, *, read_only: bool = True) -> dict[str, str]:
    """Attaches another warehouse as `alias`, and its outputs beside it. Returns where its tables are: schema.table -> catalog.schema.table."""
    mode = " (read_only)" if read_only else ""
    catalogs = [alias]
    connection.execute(f"attach {literal(warehouse)} as {alias}{mode}")
    if outputs_of(warehouse).exists():
        catalogs.append(f"{alias}_{OUTPUTS}")
        connection.execute(f"attach {literal(outputs_of(warehouse))} as {catalogs[1]}{mode}")
    found = rows(connection, "select table_catalog, table_schema, table_name from information_schema.tables where list_contains(?, table_catalog)", [catalogs])
    return {f"{schema}.{name}": f'{catalog}.{schema}."{name}"' for catalog, schema, name in found}


def has_table(connection: Connection, table: str) -> bool:
    """Whether there is a stored table of this name (schema.table) in any file that is attached."""
    return bool(rows(connection, "select 1 from duckdb_tables() where schema_name || '.' || table_name = ?", [table]))


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def storage_problem(error: BaseException, where: str) -> WaymarkError | None:
    """A StorageError, if the error says that the disk is full or not to be written, or that memory is at its end; else None."""
    text = str(error).lower()
    if any(said in text for said in ("no space left", "disk full", "disk is full")) or getattr(error, "errno", None) == 28:
        return StorageError("the disk is full", where=where, remedy="Free space, then run again: nothing was published, nothing accepted is lost.")
    if "permission denied" in text or "read-only file system" in text or getattr(error, "errno", None) in (13, 30):
        return StorageError("no permission to write", where=where, remedy="Grant write permission, or set WAYMARK_HOME to another folder.")
    if "out of memory error" in text:  # so DuckDB begins, also where what it spills to the disk finds no room there
        return StorageError(
            "the memory that DuckDB may use is not enough", where=where,
            remedy="Set engine.memory_limit in waymark.yml higher, or free space on the home's disk; nothing was published, nothing accepted is lost.",
        )  # fmt: skip
    return None


def rows(connection: Connection, sql: str, parameters: Mapping[str, object] | list[object] | None = None) -> list[tuple[object, ...]]:
    """All rows of a query that returns few."""
    return connection.execute(sql, parameters).fetchall() if parameters is not None else connection.execute(sql).fetchall()
