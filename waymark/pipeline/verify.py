"""`waymark verify`: what raw gives today against what the warehouse holds, table by table, row for row."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from waymark.core.digest import Sums, table_sums
from waymark.core.errors import StorageError
from waymark.core.quoting import literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, attach_another, rows
from waymark.identity import prepare_identity
from waymark.ingestion import open_raw, restate_clock
from waymark.pipeline.dbt_project import DbtProject
from waymark.pipeline.dbt_sources import IDENTITY_TABLES
from waymark.pipeline.kept_digests import kept_sums
from waymark.pipeline.progress import Stage, tell
from waymark.pipeline.steps import Run, preflight, resolve, transform_events, transform_marts

_RAW_STATE = ("ingestion_log", "event_conflicts", "lake_files", "lake_columns", "quarantine_files", "run_clock", "removals")


@dataclass(frozen=True)
class ComparedTable:
    """rows and digest: of the warehouse's table; only_here, only_there: rows that the other lacks (0 and 0 where equal).

    kept_wrongly: the digest that increments keep of the table is not its own.
    """

    name: str
    rows: int
    digest: str
    only_here: int
    only_there: int
    kept_wrongly: bool = False

    @property
    def equal(self) -> bool:
        return self.only_here == 0 and self.only_there == 0 and not self.kept_wrongly

    @property
    def verdict(self) -> str:
        if self.kept_wrongly and not (self.only_here or self.only_there):
            return "DIFFERENT: the rows are equal, the manifest's digest of them is not; run with --full-refresh"
        return "equal" if self.equal else f"DIFFERENT: {self.only_here} rows only in the warehouse, {self.only_there} only in the re-derived table"


def pure_tables(dbt: DbtProject) -> list[str]:
    """Tables declared `meta.kind: pure`, with the identity tables, as schema.table, sorted."""
    nodes = [node for node in dbt.manifest().nodes.values() if str(node.resource_type) == "model"]
    models = [f"{node.schema}.{node.name}" for node in nodes if node.config.meta.get("kind") == "pure" and node.config.materialized != "view"]
    return sorted([*models, *(f"identity.{name}" for name in IDENTITY_TABLES)])


def verify_project(project: Project) -> list[ComparedTable]:
    """Re-derives every pure table from the lake in a scratch file and compares.

    Raises StorageError where the project has not been run yet; LockHeldError while another process writes.
    """
    if not project.home.warehouse.exists() or project.home.unpublished.exists():
        raise StorageError("the last run is not published yet, so there is nothing to verify", where=str(project.home.root), remedy="Run `waymark run` first.")
    with project.home.writer_lock(timeout_seconds=project.settings.ingestion.lock_timeout_seconds):
        run = preflight(project)
        folder = project.home.scratch / "verify"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            warehouse = folder / "warehouse.duckdb"
            scratch = replace(run, warehouse=warehouse, dbt=DbtProject(project, warehouse, folder / "dbt"))
            _copy_raw_state(run, scratch)
            _prepare_scratch(scratch)
            transform_events(scratch)
            resolve(scratch)
            transform_marts(scratch)
            with Stage("compare") as stage, run.open_warehouse() as connection:
                derived = attach_another(connection, warehouse, "derived")
                kept = kept_sums(connection)
                compared = [_compare(connection, name, derived[name], kept.get(name)) for name in pure_tables(scratch.dbt)]
                stage.rows = sum(table.rows for table in compared)
            return compared
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _copy_raw_state(run: Run, scratch: Run) -> None:
    """The lake is shared; what says which of its files count is copied. The pure views are made anew from that."""
    with run.open_warehouse() as connection:
        connection.execute(f"attach {literal(scratch.warehouse)} as derived")
        connection.execute("create schema derived.raw")
        there = {str(name) for (name,) in rows(connection, "select table_name from duckdb_tables() where schema_name = 'raw'")}
        for name in (name for name in _RAW_STATE if name in there):
            connection.execute(f"create table derived.raw.{name} as from raw.{name}")
        connection.execute("detach derived")


def _prepare_scratch(scratch: Run) -> None:
    """Makes the views and empty tables of a full refresh. `prepare` would also tidy the home's lake by the scratch registry."""
    with scratch.open_warehouse() as connection:
        open_raw(connection, scratch.mappings, scratch.project.home)
        restate_clock(connection, scratch.mappings)
        prepare_identity(connection)
        connection.execute("create table raw.build_state as select true as full_refresh_needed")


def _compare(connection: Connection, name: str, derived: str, kept: Sums | None) -> ComparedTable:
    tell(f"compare: {name}")
    sums = table_sums(connection, name)
    count, digest, kept_wrongly = sums.rows, sums.digest, kept is not None and kept != sums
    columns = [str(column) for (column, *_) in rows(connection, f"describe {name}")]
    if table_sums(connection, derived, columns) == sums:
        return ComparedTable(name, count, digest, 0, 0, kept_wrongly)
    picked = ", ".join(f'"{column}"' for column in columns)
    here = int(str(rows(connection, f"select count(*) from (select {picked} from {name} except all select {picked} from {derived})")[0][0]))
    there = int(str(rows(connection, f"select count(*) from (select {picked} from {derived} except all select {picked} from {name})")[0][0]))
    return ComparedTable(name, count, digest, here, there, kept_wrongly)
