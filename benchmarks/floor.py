"""Runs floor.sql, and checks that it made what dbt's models make: a floor that computes something else is no floor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import perf_counter
from typing import Any

from waymark.core.digest import table_digest
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, connect, rows
from waymark.privacy import load_secret

SCRIPT = Path(__file__).with_name("floor.sql")
_STATEMENT = re.compile(r"^-- statement: (\w+)\n(.*?)(?=^-- statement: |\Z)", re.DOTALL | re.MULTILINE)


def statements() -> dict[str, str]:
    """The script's statements by name, in order."""
    return dict(_STATEMENT.findall(SCRIPT.read_text(encoding="utf-8")))


def run_floor(project: Project) -> dict[str, Any]:
    """Seconds of each statement, and for each mart whether it equals the project's warehouse, row for row (order-free digests)."""
    target = project.home.scratch / "floor.duckdb"
    for old in (target, target.with_name(target.name + ".wal")):
        old.unlink(missing_ok=True)
    connection = connect(target, engine=project.settings.engine, scratch=project.home.scratch)
    try:
        _bind(connection, project)
        pads: dict[str, object] = dict(load_secret(project).parameters())
        taken: dict[str, tuple[float, float]] = {}
        for name, sql in statements().items():
            start, before = perf_counter(), os.times()
            connection.execute(sql, pads) if "$ipad" in sql else connection.execute(sql)
            after = os.times()
            taken[name] = (perf_counter() - start, after.user + after.system - before.user - before.system)
        return {"statements": taken, "compared": _compare(connection)}
    finally:
        connection.close()
        target.unlink(missing_ok=True)


def lake_files(connection: Connection, project: Project, schema: str = "raw") -> list[str]:
    """Absolute paths of the lake's registered files."""
    return [str(project.home.root / str(path)) for (path,) in rows(connection, f"select path from {schema}.lake_files order by path")]


def _bind(connection: Connection, project: Project) -> None:
    connection.execute(f"attach {_literal(project.home.warehouse)} as pipeline (read_only)")
    listed = ", ".join(map(_literal, lake_files(connection, project, "pipeline.raw")))
    connection.execute(f"set variable lake_files = [{listed}]")
    connection.execute(f"set variable rates_file = {_literal(project.directory / str(project.settings.money.rates))}")
    connection.execute("create schema marts")


def _compare(connection: Connection) -> dict[str, dict[str, Any]]:
    compared = {}
    names = rows(connection, "select table_name from information_schema.tables where table_schema = 'marts' and table_catalog = 'pipeline' order by table_name")
    for (name,) in names:
        if name == "fct_propensity_scores":  # a model's, and no function of the events
            continue
        columns = [str(column) for (column, *_) in rows(connection, f"describe pipeline.marts.{name}")]
        count, digest = table_digest(connection, f"marts.{name}", columns)
        compared[str(name)] = {"rows": count, "equal": table_digest(connection, f"pipeline.marts.{name}", columns) == (count, digest)}
    return compared


def _literal(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
