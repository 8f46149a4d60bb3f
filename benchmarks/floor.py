"""Runs the floors' scripts, and checks that they made what dbt's models make: a floor that computes something else is no floor."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from waymark.core.digest import table_digest
from waymark.core.quoting import literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, attach_another, connect, rows
from waymark.privacy import load_secret

SCRIPT = Path(__file__).with_name("floor.sql")
FEATURES_SCRIPT = Path(__file__).with_name("floor_features.sql")
# So many days of identifiers make a hash table of all their points that fits in the product's default memory.
_DAYS_IN_A_BUCKET = 200_000
# Scores are a model's, restatements a log; how sure an identity is and what was consented to, journeys are made without.
NO_JOURNEYS = (
    "agg_weekly_visits", "customer_timeline", "dim_consent_now", "dim_identity_clusters", "fct_consent_intervals", "fct_identity_restatements",
    "fct_propensity_scores",
)  # fmt: skip
_STATEMENT = re.compile(r"^-- statement: (\w+)\n(.*?)(?=^-- statement: |\Z)", re.DOTALL | re.MULTILINE)


def statements(script: Path = SCRIPT) -> dict[str, str]:
    """The script's statements by name, in order."""
    return dict(_STATEMENT.findall(script.read_text(encoding="utf-8")))


def run_floor(project: Project) -> dict[str, Any]:
    """Journeys: seconds of each statement, and for each mart whether it equals the project's warehouse, row for row (order-free digests)."""
    pads: dict[str, object] = dict(load_secret(project).parameters())

    def bind(connection: Connection) -> None:
        listed = ", ".join(map(literal, lake_files(connection, project, "pipeline.raw")))
        connection.execute(f"set variable lake_files = [{listed}]")
        connection.execute(f"set variable rates_file = {literal(project.directory / str(project.settings.money.rates))}")

    return _run(project, SCRIPT, "marts", bind, pads, left_out=NO_JOURNEYS)


def run_features_floor(project: Project) -> dict[str, Any]:
    """Features and labels, from the project's own events and identities: as `run_floor`, for each table of schema `features`."""

    def bind(connection: Connection) -> None:
        connection.execute(f"set variable goal = {literal(project.settings.goals[0].name)}")
        connection.execute(f"set variable horizon_days = {project.settings.learning.horizon_days}")
        (days,) = rows(connection, "select count(*) from pipeline.intermediate.int_node_days")
        connection.execute(f"set variable buckets = {int(str(days[0])) // _DAYS_IN_A_BUCKET + 1}")

    return _run(project, FEATURES_SCRIPT, "features", bind, {}, left_out=("score_points", "train_conversion"))


def _run(
    project: Project, script: Path, schema: str, bind: Any, pads: Mapping[str, object], *, left_out: tuple[str, ...] = ()
) -> dict[str, Any]:
    target = project.home.scratch / "floor.duckdb"
    for old in (target, target.with_name(target.name + ".wal")):
        old.unlink(missing_ok=True)
    connection = connect(target, engine=project.settings.engine, scratch=project.home.scratch)
    try:
        there = attach_another(connection, project.home.warehouse, "pipeline")
        connection.execute(f"create schema {schema}")
        bind(connection)
        taken: dict[str, tuple[float, float]] = {}
        for name, sql in statements(script).items():
            start, before = perf_counter(), os.times()
            _execute(connection, sql, pads)
            after = os.times()
            taken[name] = (perf_counter() - start, after.user + after.system - before.user - before.system)
        return {"statements": taken, "compared": _compare(connection, schema, there, left_out)}
    finally:
        connection.close()
        target.unlink(missing_ok=True)


def _execute(connection: Connection, sql: str, pads: Mapping[str, object]) -> None:
    """A statement; one that reads the bucket makes its table with the first and adds the others to it."""
    if "getvariable('bucket')" not in sql:
        connection.execute(sql, pads) if "$ipad" in sql else connection.execute(sql)
        return
    for bucket in range(int(str(rows(connection, "select getvariable('buckets')")[0][0]))):
        connection.execute(f"set variable bucket = {bucket}")
        connection.execute(sql if bucket == 0 else re.sub(r"^create table (\S+) as", r"insert into \1", sql, count=1))


def lake_files(connection: Connection, project: Project, schema: str = "raw") -> list[str]:
    """Absolute paths of the lake's registered files."""
    return [str(project.home.root / str(path)) for (path,) in rows(connection, f"select path from {schema}.lake_files order by path")]


def _compare(connection: Connection, schema: str, there: Mapping[str, str], left_out: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    compared = {}
    sql = "select table_name from duckdb_tables() where schema_name = ? and database_name = current_database()"
    made = {str(name) for (name,) in rows(connection, sql, [schema])}
    for table in sorted(table for table in there if table.startswith(f"{schema}.")):
        name = table.removeprefix(f"{schema}.")
        if name in left_out:
            continue
        columns = [str(column) for (column, *_) in rows(connection, f"describe {there[table]}")]
        # The feature views are columns of one table, in the models and here.
        count, digest = table_digest(connection, f"{schema}.{name if name in made else 'points'}", columns)
        compared[name] = {"rows": count, "equal": table_digest(connection, there[table], columns) == (count, digest)}
    return compared
