"""A project that runs its steps in this process, without Dagster: what the equality, crash and mutation tests drive.

dbt parses the models once for each set of settings in a process; a run after that costs what dbt and DuckDB need, a second or two.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from waymark.core.digest import table_digest
from waymark.core.home import Home
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import Connection, attach_another, connect, rows
from waymark.pipeline import steps
from waymark.pipeline.code import code_digest
from waymark.pipeline.publish import publish
from waymark.pipeline.retention import apply_retention
from waymark.pipeline.steps import Run
from waymark.pipeline.verify import pure_tables

# Customer ids are keyed, so projects that are compared need one secret.
SECRET = "the secret of the tests, not of anybody's events"
STEPS = ("prepare", "ingest", "transform_events", "resolve", "transform_marts", "finish", "publish")
_manifests: dict[str, Any] = {}
Row = Mapping[str, object]


@dataclass(frozen=True)
class Difference:
    """A table that two warehouses hold differently, with the first rows that only one of them has (as dicts, without NULLs)."""

    table: str
    only_left: int
    only_right: int
    left_rows: list[dict[str, object]]
    right_rows: list[dict[str, object]]

    def __str__(self) -> str:
        lines = [f"{self.table}: {self.only_left} rows only on the left, {self.only_right} only on the right"]
        lines += [f"  left:  {row}" for row in self.left_rows[:3]] + [f"  right: {row}" for row in self.right_rows[:3]]
        return "\n".join(lines)


@dataclass
class Stepwise:
    """A project folder under test. sources: mapping document by source name; settings: further sections of waymark.yml."""

    directory: Path
    sources: dict[str, dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        entries: dict[str, Any] = {}
        for name, mapping in self.sources.items():
            entries[name] = {"mapping": f"{name}.yml", "files": self.files.get(name, [f"in/{name}/*"])}
            (self.directory / f"{name}.yml").write_text(yaml.safe_dump({"source": name, **mapping}, sort_keys=False))
            (self.directory / "in" / name).mkdir(parents=True, exist_ok=True)
        document = {"name": "stepwise", "sources": entries, "engine": {"threads": 1, "memory_limit": "1GB"}, **self.settings}
        (self.directory / "waymark.yml").write_text(yaml.safe_dump(document, sort_keys=False))
        home = self.directory / ".waymark"
        home.mkdir(exist_ok=True)
        (home / "secret").write_text(SECRET + "\n")
        (home / "secret").chmod(0o600)

    @property
    def project(self) -> Project:
        return load_project(self.directory)

    @property
    def home(self) -> Home:
        return Home(self.directory / ".waymark")

    def add(self, source: str, name: str, records: Sequence[Row]) -> Path:
        """Writes records as an NDJSON file that the next run takes in."""
        path = self.directory / "in" / source / f"{name}.ndjson"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    def started(self) -> Run:
        """Preflight, with the manifest of an earlier run of the same settings where there is one."""
        run = steps.preflight(self.project)
        share_manifest(run)
        return run

    def run(self, *, stop_before: str | None = None, full_refresh: bool = False, checks: bool = True) -> Run:
        """All steps, or those before `stop_before`: what a killed run leaves. checks: whether dbt's own tests run too (half of a tiny run's time).

        Raises what a step raises, and AssertionError for a refused file.
        """
        run = self.started()
        for name, step in run_steps(run, full_refresh=full_refresh, checks=checks):
            if name == stop_before:
                return run
            began = monotonic()
            step()
            self.seconds[name] = self.seconds.get(name, 0.0) + monotonic() - began
        assert stop_before is None, f"no step is called {stop_before}"
        return run

    def digests(self) -> dict[str, tuple[int, str]]:
        """Rows and digest of every pure table of the warehouse."""
        with self.reading() as connection:
            return {table: table_digest(connection, table) for table in pure_tables(self.started().dbt)}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.reading() as connection:
            return rows(connection, query)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with connect(self.home.warehouse, read_only=True) as connection:
            yield connection


def own_mapping(path: Path) -> dict[str, Any]:
    """A shipped mapping as a document without its name, which the project writes."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    del document["source"]
    return document


def share_manifest(run: Run) -> None:
    """Gives the run the manifest that this process has parsed for the same models and settings, or parses it once."""
    key = json.dumps([run.dbt.vars, code_digest()], sort_keys=True)
    if key not in _manifests:
        run.dbt.assemble()
        _manifests[key] = run.dbt.manifest()
    run.dbt._manifest = _manifests[key]


def run_steps(run: Run, *, full_refresh: bool = False, checks: bool = True) -> list[tuple[str, Callable[[], object]]]:
    """The run's steps by name, to be called in this order."""
    # dbt's own manifest and results, and its log, which nothing here reads: a sixth of a tiny run's time.
    os.environ |= {"DBT_WRITE_JSON": "false", "DBT_LOG_LEVEL_FILE": "none"}

    def transform(*, select: str = "", exclude: str = "") -> None:
        run.dbt.assemble()
        run.dbt.build(select=select, exclude=f"{exclude} resource_type:test", full_refresh=steps.rebuilding(run))

    def ingest_all() -> None:
        for source in run.project.settings.sources:
            report = steps.ingest(run, source)
            assert not report.refused, [str(refusal) for refusal in report.refused]

    def transform_events() -> None:
        if checks:
            steps.transform_events(run)
        else:
            apply_retention(run)
            transform(select=steps.BEFORE_IDENTITY)

    return [
        ("prepare", lambda: steps.prepare(run, full_refresh=full_refresh)),
        ("ingest", ingest_all),
        ("transform_events", transform_events),
        ("resolve", lambda: steps.resolve(run)),
        ("transform_marts", lambda: steps.transform_marts(run) if checks else transform(exclude=steps.BEFORE_IDENTITY)),
        ("finish", lambda: steps.finish(run)),
        ("publish", lambda: publish(run)),
    ]


def differences(left: Stepwise, right: Stepwise) -> list[Difference]:
    """The pure tables (and the run's clock) that the two warehouses hold differently, in the order of their names."""
    found = []
    with connect() as connection:
        there = {"l": attach_another(connection, left.home.warehouse, "l"), "r": attach_another(connection, right.home.warehouse, "r")}
        for table in [*pure_tables(left.started().dbt), "raw.run_clock"]:
            one, other = there["l"][table], there["r"][table]
            names = _columns(connection, one)
            assert names == _columns(connection, other) != [], table
            if table_digest(connection, one) != table_digest(connection, other):
                only_left, left_rows = _only(connection, one, other, names)
                only_right, right_rows = _only(connection, other, one, names)
                found.append(Difference(table, only_left, only_right, left_rows, right_rows))
    return found


def assert_equal(left: Stepwise, right: Stepwise) -> None:
    """Fails with the tables that differ and their first differing rows."""
    found = differences(left, right)
    assert not found, "\n".join(str(difference) for difference in found)


def _columns(connection: Connection, relation: str) -> list[str]:
    return [str(name) for (name, *_) in rows(connection, f"describe {relation}")]


def _only(connection: Connection, here: str, there: str, names: Sequence[str]) -> tuple[int, list[dict[str, object]]]:
    picked = ", ".join(f'"{name}"' for name in names)
    query = f"(select {picked} from {here} except all select {picked} from {there})"
    count = int(str(rows(connection, f"select count(*) from {query}")[0][0]))
    sample = rows(connection, f"from {query} order by all limit 2000")
    return count, [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in sample]


_CELL = re.compile(r"\bk\d+(?=[.:/])")


def cells_of(found: Sequence[Difference], *projects: Stepwise) -> list[str]:
    """The cells (independent little logs in one project; every id of one starts with `k<number>.`) whose rows differ."""
    owner: dict[str, str] = {}
    for project in projects:
        ids = project.rows("""
            select concat_ws(' ', source_event_id, anonymous_id, user_id, order_id), [event_id, session_id, session_key_id::varchar, customer_id]
            from marts.fct_events
            union all
            select identifier_value, [node_id::varchar, node_customer_id] from identity.nodes
        """)
        for text, keys in ids:
            if match := _CELL.search(str(text)):
                owner |= {str(key): match.group() for key in keys if key}  # type: ignore[attr-defined]
    cells = set()
    for difference in found:
        for row in [*difference.left_rows, *difference.right_rows]:
            named = _CELL.search(repr(row))
            cells |= {named.group()} if named else {owner[str(value)] for value in row.values() if str(value) in owner}
    return sorted(cells)
