"""`waymark upgrade`: a home of an older schema version becomes one of this version.

Decision: the warehouse's file is kept, its records (schema `raw`, the history of checks) are carried over by a migration a version, and everything that
can be derived is dropped and rebuilt from the lake. Context: what was ingested, refused and in conflict, and the index that keeps events exactly once,
stand in the warehouse alone; a fresh file would need each record copied, and could miss one. Consequence: a migration is written only where a record
changes; a changed model needs none. The version is written last, so an upgrade that was cut short begins anew: migrations may find their work done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waymark.core import home as homes
from waymark.core.home import Home
from waymark.core.settings import Project
from waymark.core.warehouse import OUTPUTS, WAREHOUSE, Connection, rows
from waymark.pipeline import learning, quality, steps
from waymark.pipeline.progress import tell
from waymark.pipeline.publish import Snapshot, publish

# Schemas whose every table is derived: from `raw`, by dbt, by identity, by the champion.
DERIVED = ("staging", "intermediate", "marts", "features")
# Of schema identity, what is a record: all else in it is derived, too.
KEPT = ("identity.restatements",)


@dataclass(frozen=True)
class Migration:
    """Carries the records of one schema version to the next. apply: harmless where it was done before, wholly or in part."""

    what: str
    apply: Callable[[Connection, Home], None]


def _forget_how_it_was_built(connection: Connection, _: Home) -> None:
    connection.execute("drop table if exists raw.build_state")


def _move_history_of_checks(connection: Connection, _: Home) -> None:
    """A transaction writes to one of the two files, so the old table goes once the new one stands."""
    if rows(connection, "select 1 from duckdb_tables() where database_name = ? and schema_name || '.' || table_name = ?", [WAREHOUSE, quality.TABLE]):
        connection.execute(f"create or replace table {OUTPUTS}.{quality.TABLE} as from {WAREHOUSE}.{quality.TABLE}")
        connection.execute(f"drop schema {WAREHOUSE}.quality cascade")


def _halve_content_keys(connection: Connection, _: Home) -> None:
    """The half that is kept is the one that ingestion makes now; of a key that is halved already it is the whole."""
    connection.execute("alter table raw.event_index alter content_key type ubigint using (content_key % 18446744073709551616)::ubigint")


# By the version that they start from. Each has its line in CHANGELOG.md's table of schema changes.
MIGRATIONS: Mapping[int, Migration] = {
    0: Migration("raw.build_state is made anew: it did not say by which models the tables were built", _forget_how_it_was_built),
    1: Migration("quality.check_results moves into the file of what is published", _move_history_of_checks),
    2: Migration("raw.event_index keeps half of each content's key, which tells the contents of one id apart as well", _halve_content_keys),
}


@dataclass(frozen=True)
class UpgradeReport:
    """found: the version before (None for a fresh home); migrations: what was done to records, by version; snapshot: None where nothing was rebuilt."""

    found: int | None
    reached: int
    migrations: tuple[str, ...] = ()
    snapshot: Snapshot | None = None

    @property
    def is_current(self) -> bool:
        return self.found is None or self.found == self.reached


def upgrade(project: Project, *, migrations: Mapping[int, Migration] = MIGRATIONS, on_wait: Callable[[str], None] | None = None) -> UpgradeReport:
    """Carries the records over, rebuilds every table from the lake, checks and publishes; then says so in the home. New files are left to the next run.

    Lake, quarantine, secret and MLflow's store stay as they are. Raises StorageError for a home of a newer version, LockHeldError while another process
    writes, AuditError if a blocking check fails: what was published then stays, and the home keeps its version.
    """
    home = project.home
    home.check_version(upgrading=True)
    if home.version() in (None, homes.SCHEMA_VERSION):
        return UpgradeReport(home.version(), homes.SCHEMA_VERSION)
    with home.writer_lock(timeout_seconds=project.settings.ingestion.lock_timeout_seconds, on_wait=on_wait):
        found = home.version()
        if found is None or found >= homes.SCHEMA_VERSION:  # another process was first
            home.check_version()
            return UpgradeReport(found, homes.SCHEMA_VERSION)
        run = steps.preflight(project, upgrading=True)
        snapshot: Snapshot | None = None
        done: tuple[str, ...] = ()
        if home.warehouse.exists():
            home.mark_unpublished()
            done = _carry_over(run, [migrations[version] for version in range(found, homes.SCHEMA_VERSION)])
            snapshot = rebuild(run)
        home.write_version()
        return UpgradeReport(found, homes.SCHEMA_VERSION, done, snapshot)


def _carry_over(run: steps.Run, migrations: list[Migration]) -> tuple[str, ...]:
    """Migrates the records and drops what is derived, so that no table of an older layout is left to be published."""
    tell("upgrade: records")
    with run.open_warehouse() as connection:
        connection.execute("create schema if not exists raw")
        for migration in migrations:
            migration.apply(connection, run.project.home)
        drop_derived(connection)
    return tuple(migration.what for migration in migrations)


def drop_derived(connection: Connection) -> None:
    """Drops every table that a rebuild makes anew, in both files."""
    for catalog in (WAREHOUSE, OUTPUTS):
        for schema in DERIVED:
            connection.execute(f"drop schema if exists {catalog}.{schema} cascade")
    for (name,) in rows(connection, "select table_name from duckdb_tables() where database_name = ? and schema_name = 'identity'", [WAREHOUSE]):
        if f"identity.{name}" not in KEPT:
            connection.execute(f"drop table {WAREHOUSE}.identity.{name}")


def rebuild(run: steps.Run, *, before_identity: Callable[[], object] = lambda: None, before_scores: Callable[[], object] = lambda: None) -> Snapshot:
    """The run's steps from the lake on, with every check that a run has. The champion scores; nobody is trained.

    before_identity: called once events are there, before people are; before_scores: once features are.
    """
    steps.prepare(run, full_refresh=True)
    quality.stop_if_broken(quality.check(run, "raw", full=True))
    steps.transform_events(run)
    before_identity()
    steps.resolve(run)
    steps.transform_marts(run)
    for stage in ("journeys", "features"):
        quality.stop_if_broken(quality.check(run, stage, full=True))
    before_scores()
    learning.score(run)
    quality.stop_if_broken(quality.check(run, "scores", full=True))
    steps.finish(run)
    return publish(run)
