"""Write, audit, publish: a snapshot is built beside the published one and swapped in by one rename, after every blocking check.

Decision: the snapshot is a copy of the outputs' file, with the ingestion log and a line about itself added. Context: analysts' connections keep the old file
open while the next is built, and a reader of any DuckDB client must need one path only. Measured in benchmarks/RESULTS.md. Consequence: publishing costs
what the disk takes to copy a file, and nothing where it can share blocks; the file holds freed blocks, until they are many, and then it is written anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import waymark
from waymark.core.clock import wall_now
from waymark.core.home import Home, copy_file, read_json, rename_durably, sync_file, write_atomically
from waymark.core.quoting import literal
from waymark.core.warehouse import OUTPUT_SCHEMAS, OUTPUTS, Connection, connect, has_table, outputs_of, rows
from waymark.ingestion import log_acts
from waymark.pipeline.anchors import anchored
from waymark.pipeline.kept_digests import digests_of
from waymark.pipeline.progress import Stage, tell
from waymark.pipeline.retention import is_removed_since_published, newest_removal
from waymark.pipeline.role_files import build_role_files, manifest_mode, whole_mode
from waymark.pipeline.steps import Run, audit
from waymark.privacy.audit import AuditLog

PUBLISHED_RAW = ("ingestion_log", "removals")
# Views of several tables, some as large as all events: to count or digest their rows at each publication would be to compute them.
COMPUTED = ("marts.agg_weekly_visits", "marts.customer_timeline", "marts.dim_consent_now")
# Depend on which model was trained when, and on when runs were.
LOG_TABLES = ("marts.fct_propensity_scores", "marts.fct_identity_restatements")
_COMMENTS = """
    select column_name, comment from duckdb_columns()
    where database_name = current_database() and schema_name = 'raw' and table_name = ? and comment is not null order by column_name
"""
# More freed blocks than this share of the file, and so many bytes of them, are worth writing it anew for.
_WASTED_SHARE, _WASTED_BYTES = 0.4, 64 << 20


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
    with Stage("publish") as stage:
        remove_unfinished(run.project.home)
        with run.open_warehouse() as connection:
            audit(connection, run.mappings)
            tell("publish: digests")
            digests = digests_of(connection, pure_marts(connection))
            connection.execute(f"checkpoint {OUTPUTS}")
            if not _is_wasteful(connection) and not is_removed_since_published(connection, run.project.home):
                return _swap_in(connection, run, run_id, digests, stage)
        write_anew(run, outputs_of(run.warehouse))
        with run.open_warehouse() as connection:
            return _swap_in(connection, run, run_id, digests, stage)


def _swap_in(connection: Connection, run: Run, run_id: str, digests: dict[str, str], stage: Stage) -> Snapshot:
    """Builds the snapshot and puts it in the place of the published one. Nothing of the outputs may wait for a checkpoint."""
    home, snapshot_id = run.project.home, uuid4().hex[:12]
    building = home.published_dir / f".building-{snapshot_id}.duckdb"
    tell("publish: copying")
    copy_file(outputs_of(run.warehouse), building)
    tables = _complete(connection, building, snapshot_id, run, run_id)
    stage.rows = sum(tables.values())
    manifest = _manifest(connection, run) | {"snapshot_id": snapshot_id, "run_id": run_id, "rows": tables, "digests": digests}
    access = run.project.settings.access
    role_files = build_role_files(building, home, access, run.secret, run.project.settings.engine)
    sync_file(building)
    size = building.stat().st_size
    manifest["identity_thresholds"] = _thresholds(run)
    log_acts(connection, home, run_id)
    # From here on everything is on the disk but under its own name: what cannot be logged is not put out, for no reader.
    manifest |= anchored(home, {"snapshot_id": snapshot_id, "run_id": run_id, "roles": role_files.roles})
    manifest |= {"access": access.as_published, "retention": run.project.settings.retention_as_published, "newest_removal": newest_removal(connection)}
    role_files.swap_in()
    building.chmod(whole_mode(access))
    rename_durably(building, home.published)
    write_atomically(home.manifest, json.dumps(manifest, indent=2, sort_keys=True) + "\n", mode=manifest_mode(access))
    home.unpublished.unlink(missing_ok=True)
    stage.detail = f"snapshot {snapshot_id}, {size / 1e6:.0f} MB"
    return Snapshot(snapshot_id, tables, size, home.published)


def _thresholds(run: Run) -> dict[str, float]:
    """How sure links must be, for the manifest; that it is not what it was at the last publication goes into the audit log."""
    home, now = run.project.home, run.project.settings.identity.thresholds.model_dump()
    before = (read_json(home.manifest) or {}).get("identity_thresholds")
    if before not in (None, now):
        AuditLog(home).append("thresholds_changed", details={"before": before, "after": now})
    return now


def pure_marts(connection: Connection) -> list[str]:
    """All marts but those that are logs, and those that are computed when somebody asks."""
    return [name for name in (f"marts.{table}" for table in _tables(connection, "marts")) if name not in (*LOG_TABLES, *COMPUTED)]


def _tables(connection: Connection, schema: str) -> list[str]:
    sql = "select table_name from information_schema.tables where table_schema = ? and table_catalog = ? order by table_name"
    return [str(name) for (name,) in rows(connection, sql, [schema, OUTPUTS])]


def _complete(connection: Connection, path: Path, snapshot_id: str, run: Run, run_id: str) -> dict[str, int]:
    """Adds to a copy of the outputs what they lack; returns rows by table name."""
    connection.execute(f"attach {literal(path)} as snapshot")
    try:
        connection.execute("create schema snapshot.raw")
        connection.execute("drop table snapshot.main.table_digests")  # they stand in the manifest
        for name in PUBLISHED_RAW:
            # The log of a source that the project no longer names stays in the warehouse: here it would tell of rows that the marts lack.
            connection.execute(f"create table snapshot.raw.{name} as from raw.{name} where list_contains(?, source)", [sorted(run.mappings)])
            for column, text in rows(connection, _COMMENTS, [name]):
                connection.execute(f'comment on column snapshot.raw.{name}."{column}" is {literal(text)}')
        connection.execute(
            """create table snapshot.main.snapshot_info as
            select ?::varchar as snapshot_id, ?::timestamp as published_at, data_now, ?::varchar as waymark_version, ?::varchar as run_id,
                   ?::varchar as settings_digest, ?::varchar as secret_fingerprint
            from raw.run_clock""",
            [snapshot_id, wall_now(), waymark.__version__, run_id, run.project.refresh_digest, run.secret.fingerprint],
        )
        named = [f"{schema}.{name}" for schema in OUTPUT_SCHEMAS for name in _tables(connection, schema)] + [f"raw.{name}" for name in PUBLISHED_RAW]
        named = [name for name in named if name not in COMPUTED]
        return {name: int(str(rows(connection, f"select count(*) from snapshot.{name}")[0][0])) for name in named}
    finally:
        connection.execute("detach snapshot")


def _is_wasteful(connection: Connection) -> bool:
    """Whether much of the outputs' file is blocks that nothing uses any more: after a full refresh, say."""
    sql = "select free_blocks, total_blocks, block_size from pragma_database_size() where database_name = ?"
    free, total, size = (int(str(value)) for value in rows(connection, sql, [OUTPUTS])[0])
    return free * size > _WASTED_BYTES and free > _WASTED_SHARE * total


def write_anew(run: Run, path: Path) -> None:
    """Writes a database into a fresh file, which holds no freed block, and puts it in the place of the old one. Nobody may have it open."""
    tell(f"writing {path.name} anew")
    fresh, database = path.with_name(f".anew-{path.name}"), path.stem
    fresh.unlink(missing_ok=True)
    with connect(engine=run.project.settings.engine, scratch=run.project.home.scratch) as connection:
        connection.execute(f"attach {literal(path)} as {database} (read_only)")
        connection.execute(f"attach {literal(fresh)} as fresh")
        connection.execute(f"copy from database {database} to fresh")
        connection.execute("detach fresh")
    sync_file(fresh)
    rename_durably(fresh, path)


def _manifest(connection: Connection, run: Run) -> dict[str, object]:
    clock = rows(connection, "select data_now from raw.run_clock")
    build = rows(connection, "select build_digest from raw.build_state")
    scored_by = rows(connection, "select version from raw.scored_by") if has_table(connection, "raw.scored_by") else []
    return {
        "published_at": wall_now().isoformat(timespec="seconds") + "Z",
        "data_now": str(clock[0][0]) if clock else None,
        "waymark_version": waymark.__version__,
        "engine_version": str(rows(connection, "select version()")[0][0]),
        "settings_digest": run.project.refresh_digest,
        "build_digest": str(build[0][0]),
        "secret_fingerprint": run.secret.fingerprint,
        "mapping_digests": {source: mapping.digest for source, mapping in sorted(run.mappings.items())},
        "learning": run.project.settings.learning.model_dump(mode="json"),
        "scored_by": scored_by[0][0] if scored_by else None,
    }


def remove_unfinished(home: Home) -> None:
    """Removes what a killed publication left; the caller holds the writer lock."""
    for left in (*home.published_dir.glob(".building-*"), *home.root.glob(".anew-*")):
        left.unlink()
