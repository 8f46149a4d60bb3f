"""`make bench`: the floors beside dbt's models, increments beside a full refresh, publishing, ingestion, and pandas for sessions, as ratios.

`python -m benchmarks.run` takes a few minutes for a million events; `--events 10000000` for the large one. The world and its lake are made once and kept
under --work (default: a folder in the system's temporary folder), so that measuring again is quick; `--fresh` makes them anew.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import waymark
from benchmarks.lake import PARTS, Lake, arrive, copied_events, cut_lake, ingested_lake
from benchmarks.process import REPOSITORY, Measured, MeasuredError, measure, measure_command
from benchmarks.report import markdown
from waymark.core.digest import table_digest
from waymark.core.warehouse import attach_another, connect, rows

FLOORS = ("floor", "floor-features")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure Waymark side by side with what is possible.")
    parser.add_argument("--events", type=int, default=1_000_000, help="about so many events; default: %(default)s")
    parser.add_argument("--seed", type=int, default=7)
    kept = Path(tempfile.gettempdir()) / "waymark-bench"
    parser.add_argument("--work", type=Path, default=kept, help="where the world and its lake are kept; default: %(default)s")
    parser.add_argument("--memory-limit", default="4GB", help="of DuckDB; default: %(default)s, the product's default")
    parser.add_argument("--fresh", action="store_true", help="make the world and ingest it anew")
    parser.add_argument("--pandas-limit", type=float, default=120, help="give pandas up after so many seconds; 0 leaves it out")
    parser.add_argument("--no-increments", action="store_true", help="leave the increments out")
    parser.add_argument("--no-main-job", action="store_true", help="leave out the demo's own run, start to end")
    parser.add_argument("--only", choices=("features", "increments"), help="nothing but the feature models beside their floor, or the increments")
    parser.add_argument("--copies", type=int, default=10, help="with --only features: over so many copies of the events; default: %(default)s")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(given.work / f"world-{given.events}-{given.seed}", ignore_errors=True)
    given.work.mkdir(parents=True, exist_ok=True)
    _say(f"the lake of about {given.events:,} events (made once)")
    lake = ingested_lake(given.work, given.events, given.seed, given.memory_limit)
    results: dict[str, Any] = {"ingest": lake.ingested, "about": _about(given)}
    lake.reset()
    _say("dbt's models, full refresh")
    results["full"] = _flat(measure(["full", "--project", str(lake.directory)]))
    if given.only == "features":
        _say(f"{given.copies} copies of the events")
        lake = copied_events(lake, given.memory_limit, given.copies)
        results["ingest"] = lake.ingested
        _say("dbt's feature models")
        results["full"] = _flat(measure(["features", "--project", str(lake.directory)], timeout_seconds=7200))
    for floor in () if given.only == "increments" else ("floor-features",) if given.only else FLOORS:
        _say(f"the {floor.replace('-', ' of the ')}")
        results[floor] = _flat(measure([floor, "--project", str(lake.directory)], timeout_seconds=7200))
        wrong = [name for name, found in results[floor]["compared"].items() if not found["equal"]]
        if wrong:
            print(f"The floor is no floor: {', '.join(wrong)} differ from dbt's tables.", file=sys.stderr)
            return 1
    if not given.only:
        if not given.no_main_job:
            results["main_job"] = _main_job()
        results["sessions"] = _sessions(lake, given.pandas_limit)
    if given.only == "increments" or not (given.only or given.no_increments):
        results["increments"] = _increments(lake, given.memory_limit)
    (given.work / f"results-{given.events}-{given.seed}.json").write_text(json.dumps(results, indent=2))
    print(markdown(results))
    return 0


def _main_job() -> dict[str, Any]:
    """What `make run` does once everything is installed: the demo's world, and its run, in a copy of the project. Then a run with nothing new."""
    _say("the demo, from nothing to published")
    command = str(Path(sys.executable).parent / "waymark")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(REPOSITORY / "examples", Path(folder) / "examples", ignore=shutil.ignore_patterns(".waymark", "truth"))
        project = str(Path(folder) / "examples" / "demo")
        for name, subcommand in (("world", "world"), ("run", "run"), ("nothing new", "run")):
            found[name] = _flat(measure_command([command, subcommand, "--project", project], COLUMNS="160"))
    return found


def _increments(lake: Lake, memory_limit: str) -> dict[str, Any]:
    """98 per cent as the base, then one per cent scattered, then the last per cent by arrival; at the end marts and features must equal the full refresh."""
    _say("the lake, cut into a base and two increments")
    cut = cut_lake(lake, memory_limit)
    found: dict[str, Any] = {}
    for part in PARTS:
        _say(f"increment: {part}")
        count = arrive(cut, part)
        found[part] = _flat(measure(["full" if part == "base" else "increment", "--project", str(cut.directory)])) | {"events": count}
        if part != "base" and found[part]["is_rebuilt"]:
            raise MeasuredError("the models changed while they were measured, so the increment became a rebuild; measure again")
    found["equal"] = _same_marts(lake, cut)
    return found


def _same_marts(one: Lake, other: Lake) -> dict[str, bool]:
    with connect(one.project.home.warehouse, read_only=True) as connection:
        there = attach_another(connection, other.project.home.warehouse, "cut")
        equal = {}
        # The feature views are columns of int_customer_activity.
        wanted = re.compile(r"marts\..*|features\.label_.*|intermediate\.int_(node_days|customer_activity)")
        for name in filter(wanted.fullmatch, sorted(there)):
            columns = [str(column) for (column, *_) in rows(connection, f"describe {name}")]
            equal[name] = table_digest(connection, name, columns) == table_digest(connection, there[name], columns)
        return equal


def _sessions(lake: Lake, limit: float) -> dict[str, Any]:
    _say("sessions by SQL and by pandas")
    found = {"sql": _flat(measure(["sessions-sql", "--project", str(lake.directory)]))}
    if limit > 0:
        try:
            found["pandas"] = _flat(measure(["sessions-pandas", "--project", str(lake.directory)], timeout_seconds=limit))
        except MeasuredError as error:
            found["pandas"] = {"failed": str(error).splitlines()[0].rpartition(": ")[2]}
    return found


def _flat(measured: Measured) -> dict[str, Any]:
    return measured.report | {"wall": measured.wall, "cpu": measured.cpu, "peak_mib": measured.peak_mib}


def _about(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "events": given.events,
        "seed": given.seed,
        "memory_limit": given.memory_limit,
        "versions": {name: version(name) for name in ("duckdb", "dbt-core", "dbt-duckdb", "pandas", "pyarrow")} | {"waymark": waymark.__version__},
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load": psutil.getloadavg()[0],
    }


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
