"""One measured piece of work, in a process of its own: `python -m benchmarks.worker STAGE --project DIR --report FILE`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from waymark.core.settings import load_project

if TYPE_CHECKING:
    from waymark.core.warehouse import Connection
    from waymark.pipeline.dbt_project import NodeResult

FEATURES = "int_node_days int_customer_activity+"
SCOPES = ("restated_events", "restated_session_keys", "restated_customers", "restated_orders", "restated_nodes", "restated_feature_customers")


class Clock:
    """Wall and CPU seconds by name, in the order in which they were taken."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[float, float]] = {}
        self.node_cpu: dict[str, float] = {}
        self._last = 0.0

    def start_nodes(self) -> None:
        """From here on, what is used until a dbt node ends is that node's."""
        self._last = _cpu()

    def node_ended(self, node: NodeResult) -> None:
        used = _cpu()
        self.node_cpu[node.name], self._last = used - self._last, used

    @contextmanager
    def take(self, name: str) -> Iterator[None]:
        start, before = perf_counter(), _cpu()
        yield
        self.taken[name] = (perf_counter() - start, _cpu() - before)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def ingest(project_folder: Path) -> dict[str, Any]:
    """Takes the project's landed files into its lake."""
    from waymark.core.clock import wall_now
    from waymark.pipeline import steps

    clock = Clock()
    run = steps.preflight(load_project(project_folder))
    with clock.take("ingest"):
        steps.prepare(run)
        reports = [steps.ingest(run, source) for source in sorted(run.mappings)]
    return {
        "rows_read": sum(report.rows_read for report in reports),
        "rows_accepted": sum(report.rows_accepted for report in reports),
        "seconds": clock.taken,
        "taken_at": wall_now().isoformat(timespec="seconds"),
    }


def transform(project_folder: Path, *, full_refresh: bool) -> dict[str, Any]:
    """Everything between the lake and the published marts. Seconds of models and checks are those that dbt reports;
    their CPU seconds are what the process used between the end of one and the end of the next."""
    clock = Clock()
    with clock.take("imports"):
        from dbt.cli.main import dbtRunner  # noqa: F401

        from waymark.pipeline import steps
        from waymark.pipeline.publish import publish
    project = load_project(project_folder)
    run = steps.preflight(project)
    with clock.take("parse"):
        run.dbt.assemble()
        run.dbt.manifest()
    with clock.take("prepare"):
        is_rebuilt = steps.prepare(run, full_refresh=full_refresh)
    with clock.take("before identity"):
        clock.start_nodes()
        nodes = run.dbt.build(select=steps.BEFORE_IDENTITY, full_refresh=is_rebuilt, on_node=clock.node_ended)
    with clock.take("identity"):
        identity = steps.resolve(run)
    with clock.take("after identity"):
        clock.start_nodes()
        nodes = [*nodes, *run.dbt.build(exclude=steps.BEFORE_IDENTITY, full_refresh=is_rebuilt, on_node=clock.node_ended)]
    with run.open_warehouse() as connection:
        scope = {name: int(connection.execute(f"select count(*) from identity.{name}").fetchall()[0][0]) for name in SCOPES}
        tables = _row_counts(connection)
    with clock.take("finish"):
        steps.finish(run)
    with clock.take("publish"):
        publish(run)
    return {
        "seconds": clock.taken,
        **_of_nodes(nodes, clock),
        "identity_rows": {"nodes": identity.nodes, "edges": identity.edges, "customers": identity.customers},
        "rows": tables,
        "restated": scope,
        "is_rebuilt": is_rebuilt,
    }


def features(project_folder: Path) -> dict[str, Any]:
    """The feature models alone, full refresh, over a warehouse that holds what they read."""
    clock = Clock()
    os.environ["DBT_INDIRECT_SELECTION"] = "cautious"  # a test that looks at other tables too is left out
    from waymark.pipeline import steps

    run = steps.preflight(load_project(project_folder))
    run.dbt.assemble()
    run.dbt.manifest()
    with clock.take("after identity"):
        clock.start_nodes()
        nodes = run.dbt.build(select=FEATURES, full_refresh=True, on_node=clock.node_ended)
    with run.open_warehouse() as connection:
        return {"seconds": clock.taken, **_of_nodes(nodes, clock), "rows": _row_counts(connection)}


def _of_nodes(nodes: Sequence[NodeResult], clock: Clock) -> dict[str, Any]:
    checks = [node for node in nodes if node.kind == "test"]
    return {
        "models": {node.name: (node.seconds, clock.node_cpu[node.name]) for node in nodes if node.kind == "model"},
        "check_seconds": sum(node.seconds for node in checks),
        "check_cpu": sum(clock.node_cpu[node.name] for node in checks),
        "check_count": len(checks),
        "slowest_checks": sorted(((node.name, node.seconds) for node in checks), key=lambda pair: -pair[1])[:8],
    }


def _row_counts(connection: Connection) -> dict[str, int]:
    listed = "select table_schema || '.' || table_name from information_schema.tables where table_schema in ('marts', 'features') order by all"
    return {name: int(connection.execute(f"select count(*) from {name}").fetchall()[0][0]) for (name,) in connection.execute(listed).fetchall()}


def floor(project_folder: Path) -> dict[str, Any]:
    """floor.sql over the project's lake, into a file of its own; its tables are then compared with the project's."""
    from benchmarks.floor import run_floor

    return run_floor(load_project(project_folder))


def floor_features(project_folder: Path) -> dict[str, Any]:
    """floor_features.sql over the project's events, likewise."""
    from benchmarks.floor import run_features_floor

    return run_features_floor(load_project(project_folder))


def sessions(project_folder: Path, engine: str) -> dict[str, Any]:
    """Sessions from the lake's files, by pandas or by SQL, with what is counted in them."""
    from benchmarks.sessions import sessions_by_pandas, sessions_by_sql

    work = sessions_by_pandas if engine == "pandas" else sessions_by_sql
    return work(load_project(project_folder))


STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ingest": ingest,
    "full": lambda folder: transform(folder, full_refresh=True),
    "increment": lambda folder: transform(folder, full_refresh=False),
    "features": features,
    "floor": floor,
    "floor-features": floor_features,
    "sessions-pandas": lambda folder: sessions(folder, "pandas"),
    "sessions-sql": lambda folder: sessions(folder, "sql"),
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    given.report.write_text(json.dumps(STAGES[given.stage](given.project)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
