"""Write, audit, publish: a snapshot is built beside the published one and swapped in by one rename, after every blocking check.

Decision: a copy of the marts, table by table, into a fresh DuckDB file. Context: analysts' connections keep the old file open while the
next is built, and a reader of any DuckDB client must need one path only. Measured in benchmarks/RESULTS.md. Consequence: publishing costs
time with the marts' size, not with the increment; Parquet parts behind views would cost less and read slower.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import waymark
from waymark.core.clock import wall_now
from waymark.core.digest import table_digest
from waymark.core.home import Home, read_json, rename_durably, sync_file, write_atomically
from waymark.core.warehouse import Connection, rows
from waymark.pipeline.progress import Stage, tell
from waymark.pipeline.steps import Run, audit

PUBLISHED_SCHEMAS = ("marts", "features", "quality")
PUBLISHED_RAW = ("ingestion_log",)
# Depends on which model was trained when.
LOG_TABLES = ("marts.fct_propensity_scores",)
_COMMENTS = """
    select column_name, comment from duckdb_columns()
    where database_name = current_database() and schema_name = ? and table_name = ? and comment is not null
    order by column_name
"""


@dataclass(frozen=True)
class Snapshot:
    """What was published. tables: rows by table name; bytes: size of the file."""

    snapshot_id: str
    tables: dict[str, int]
    bytes: int
    path: Path


def publish(run: Run, *, run_id: str = "") -> Snapshot:
    """Audits the warehouse and swaps in a new snapshot.

    Raises AuditError if a blocking check fails; the published snapshot is then still the last good one.
    """
    home = run.project.home
    with Stage("publish") as stage, run.open_warehouse() as connection:
        audit(connection, run.mappings)
        remove_unfinished(home)
        snapshot_id = uuid4().hex[:12]
        building = home.published_dir / f".building-{snapshot_id}.duckdb"
        tables = _write_snapshot(connection, building, snapshot_id, run, run_id)
        stage.rows = sum(tables.values())
        connection.execute("detach snapshot")
        sync_file(building)
        building.chmod(0o444)
        size = building.stat().st_size
        digests = {name: table_digest(connection, name)[1] for name in pure_marts(connection)}
        manifest = _manifest(connection, run) | {"snapshot_id": snapshot_id, "run_id": run_id, "rows": tables, "digests": digests}
        rename_durably(building, home.published)
        write_atomically(home.manifest, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        home.unpublished.unlink(missing_ok=True)
        stage.detail = f"snapshot {snapshot_id}, {size / 1e6:.0f} MB"
    return Snapshot(snapshot_id, tables, size, home.published)


def pure_marts(connection: Connection) -> list[str]:
    """All marts but those that are logs."""
    return [name for name in (f"marts.{table}" for table in _tables(connection, "marts")) if name not in LOG_TABLES]


def _tables(connection: Connection, schema: str) -> list[str]:
    return [
        str(name)
        for (name,) in rows(
            connection,
            "select table_name from information_schema.tables where table_schema = ? and table_catalog = current_database() order by table_name",
            [schema],
        )
    ]


def _write_snapshot(connection: Connection, path: Path, snapshot_id: str, run: Run, run_id: str) -> dict[str, int]:
    escaped = str(path).replace("'", "''")
    connection.execute(f"attach '{escaped}' as snapshot")
    wanted = [(schema, name) for schema in PUBLISHED_SCHEMAS for name in _tables(connection, schema)] + [("raw", name) for name in PUBLISHED_RAW]
    counts: dict[str, int] = {}
    for schema, name in wanted:
        tell(f"publish: {schema}.{name}")
        connection.execute(f"create schema if not exists snapshot.{schema}")
        # The log of a source that the project no longer names stays in the warehouse: here it would tell of rows that the marts lack.
        named = "" if schema != "raw" else " where list_contains($sources, source)"
        parameters = {"sources": sorted(run.mappings)} if named else None
        connection.execute(f'create table snapshot.{schema}."{name}" as from {schema}."{name}"{named}', parameters)
        for column, text in rows(connection, _COMMENTS, [schema, name]):
            quoted = str(text).replace("'", "''")
            connection.execute(f'comment on column snapshot.{schema}."{name}"."{column}" is \'{quoted}\'')
        counts[f"{schema}.{name}"] = int(str(rows(connection, f'select count(*) from snapshot.{schema}."{name}"')[0][0]))
    connection.execute(
        """create table snapshot.main.snapshot_info as
        select ?::varchar as snapshot_id, ?::timestamp as published_at, data_now, ?::varchar as waymark_version, ?::varchar as run_id,
               ?::varchar as settings_digest, ?::varchar as secret_fingerprint
        from raw.run_clock""",
        [snapshot_id, wall_now(), waymark.__version__, run_id, run.project.refresh_digest, run.secret.fingerprint],
    )
    return counts


def _manifest(connection: Connection, run: Run) -> dict[str, object]:
    clock = rows(connection, "select data_now from raw.run_clock")
    build = rows(connection, "select build_digest from raw.build_state")
    return {
        "published_at": wall_now().isoformat(timespec="seconds") + "Z",
        "data_now": str(clock[0][0]) if clock else None,
        "waymark_version": waymark.__version__,
        "engine_version": str(rows(connection, "select version()")[0][0]),
        "settings_digest": run.project.refresh_digest,
        "build_digest": str(build[0][0]),
        "secret_fingerprint": run.secret.fingerprint,
        "mapping_digests": {source: mapping.digest for source, mapping in sorted(run.mappings.items())},
    }


def remove_unfinished(home: Home) -> None:
    """Removes what a killed publication left; the caller holds the writer lock."""
    for left in home.published_dir.glob(".building-*"):
        os.unlink(left)


def published_manifest(home: Home) -> dict[str, object] | None:
    """The manifest of the published snapshot, or None where nothing is published yet."""
    return read_json(home.manifest) if home.published.exists() else None
