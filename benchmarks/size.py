"""A world that is too large to lie on the disk as files: made, delivered and taken in part by part, then built, published, and told its last per cent.

`python -m benchmarks.size --events 100000000` takes hours. Every stage's figures are written to a JSON file as soon as it is done, and a run that was cut short
goes on after the last one. Landing holds one part at a time: the lake keeps what was accepted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import pyarrow.parquet as pq

import waymark
from benchmarks.copies import copy_batches
from benchmarks.lake import INCREMENT_PERCENT, SOURCE, customers_for, write_project
from benchmarks.process import MeasuredError, measure
from benchmarks.report import feature_seconds, sql_seconds, table
from ml.simulator import WorldSpec, generate_world
from waymark.core.home import Home
from waymark.core.settings import load_project
from waymark.core.warehouse import outputs_of

# Days of arrival in one file: a file is about half a per cent of the half year, so the last per cent by arrival is whole files.
_FILE_DAYS = 1
_TIMEOUT_SECONDS = 24 * 3600


@dataclass
class Progress:
    """What is known of the stages that are done, in a file that is written after each."""

    path: Path
    figures: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does the stage's work unless an earlier run did; returns its figures."""
        if name not in self.figures["stages"]:
            print(f"... {name}", file=sys.stderr, flush=True)
            self.figures["stages"][name] = work()
            self.write()
        found: dict[str, Any] = self.figures["stages"][name]
        return found

    def write(self) -> None:
        fresh = self.path.with_suffix(".fresh")
        fresh.write_text(json.dumps(self.figures, indent=2) + "\n")
        fresh.replace(self.path)


@dataclass(frozen=True)
class Size:
    """One run: a world of about so many events, in parts of about so many, in a folder that holds the project, its home, and the files held back."""

    folder: Path
    events: int
    part_events: int
    seed: int
    memory_limit: str
    copies: int

    @property
    def home(self) -> Home:
        return load_project(self.folder).home

    @property
    def held(self) -> Path:
        """The last per cent by arrival, which has not been delivered yet."""
        return self.folder / "held"

    @property
    def customers(self) -> int:
        """Of the simulated world; copies of them are made when their events are taken in."""
        return customers_for(self.events // self.copies)

    def parts(self) -> list[range]:
        customers, step = self.customers, customers_for(self.part_events)
        return [range(first, min(first + step, customers)) for first in range(0, customers, step)]

    def take_in(self, number: int, part: range) -> dict[str, Any]:
        """Makes a part's files, holds back what arrives last, has the others taken in, and removes them. What an earlier try left of the part goes first."""
        landing, making = self.home.landing / SOURCE, self.folder / "making"
        for folder in (making, landing):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.held.glob(f"p{number:04d}_*"):
            path.unlink()
        landing.mkdir(parents=True)
        self.held.mkdir(exist_ok=True)
        spec = WorldSpec(customers=self.customers, seed=self.seed, file_days=_FILE_DAYS)
        report = generate_world(making / "files", making / "truth", spec, part=part)
        late = _last_files(making / "truth" / "truth_dirt.parquet", INCREMENT_PERCENT)
        for path in report.paths:
            shutil.move(path, (self.held if path.name in late else landing) / f"p{number:04d}_{path.name}")
        shutil.rmtree(making)
        taken = self._measured("ingest", landed_bytes=_bytes(landing), made_rows=report.rows, making_seconds=report.seconds)
        shutil.rmtree(landing)
        return taken

    def deliver_held(self) -> dict[str, Any]:
        """The last per cent arrives and is taken in. A try that was cut short may have moved some of the files already; known ones are skipped."""
        landing = self.home.landing / SOURCE
        landing.mkdir(parents=True, exist_ok=True)
        for path in self.held.iterdir():
            shutil.move(path, landing / path.name)
        taken = self._measured("ingest", landed_bytes=_bytes(landing))
        shutil.rmtree(landing)
        return taken

    def copy(self, after: int) -> dict[str, Any]:
        """The batches after this one so many times: the number of the last one, and the seconds that it took."""
        started = perf_counter()
        last = copy_batches(load_project(self.folder), SOURCE, self.copies, after=after)
        return {"last_batch": last, "wall": perf_counter() - started}

    def build(self) -> dict[str, Any]:
        return self._with_sql(self._measured("full"))

    def increment(self) -> dict[str, Any]:
        taken = self._measured("increment")
        if taken["is_rebuilt"]:
            raise MeasuredError("the models changed while they were measured, so the increment became a rebuild; measure again with --fresh")
        return self._with_sql(taken)

    def _with_sql(self, taken: dict[str, Any]) -> dict[str, Any]:
        seconds = {"journeys": sql_seconds(taken), "features": feature_seconds(taken)}
        return taken | {"sql_wall": sum(wall for wall, _ in seconds.values()), "sql_cpu": sum(cpu for _, cpu in seconds.values()), "sql": seconds}

    def _measured(self, stage: str, **more: Any) -> dict[str, Any]:
        before = shutil.disk_usage(self.folder).used
        measured = measure([stage, "--project", str(self.folder)], timeout_seconds=_TIMEOUT_SECONDS, disk=self.folder)
        return measured.report | more | {
            "wall": measured.wall, "cpu": measured.cpu, "peak_mib": measured.peak_mib, "load": psutil.getloadavg()[0],
            "disk_used_before": before, "disk_used_most": measured.peak_disk, "bytes": self.sizes(),
        }  # fmt: skip

    def sizes(self) -> dict[str, int]:
        """Bytes by place, as files say; a published copy that shares its blocks with the outputs counts whole."""
        home = self.home
        files = {"warehouse": home.warehouse, "outputs": outputs_of(home.warehouse), "published": home.published}
        folders = {"lake": home.raw_lake, "quarantine": home.quarantine, "landing": home.landing, "held": self.held, "scratch": home.scratch}
        return {
            **{name: path.stat().st_size if path.exists() else 0 for name, path in files.items()},
            **{name: _bytes(path) for name, path in folders.items()},
        }


def run_size(size: Size) -> dict[str, Any]:
    """All stages that are not done yet; the figures of all."""
    size.folder.mkdir(parents=True, exist_ok=True)
    write_project(size.folder, size.memory_limit)
    progress = Progress(size.folder / "figures.json")
    asked = {"events": size.events, "part_events": size.part_events, "seed": size.seed, "memory_limit": size.memory_limit, "copies": size.copies}
    if progress.path.exists():
        progress.figures = json.loads(progress.path.read_text())
        if progress.figures["asked"] != asked:
            raise SystemExit(f"{progress.path} is of another run ({progress.figures['asked']}): name another --work, or give --fresh.")
    else:
        progress.figures = {"asked": asked, "about": _about(), "stages": {}}
    size.home.ensure()
    for number, part in enumerate(size.parts()):
        progress.once(f"part {number}", lambda number=number, part=part: size.take_in(number, part))  # type: ignore[misc]
    copied = progress.once("copies", lambda: size.copy(0)) if size.copies > 1 else {}
    progress.once("full", size.build)
    progress.once("last per cent", size.deliver_held)
    if copied:
        progress.once("copies of the last per cent", lambda: size.copy(copied["last_batch"]))
    progress.once("increment", size.increment)
    return progress.figures


def markdown(figures: dict[str, Any]) -> str:
    """The figures as tables: the parts together, then the later stages; then seconds by model."""
    stages: dict[str, dict[str, Any]] = figures["stages"]
    parts = [found for name, found in stages.items() if name.startswith("part ")]
    together = {name: sum(part[name] for part in parts) for name in ("wall", "cpu", "rows_accepted")} | {
        "peak_mib": max(part["peak_mib"] for part in parts), "bytes": parts[-1]["bytes"], "disk_used_most": max(part["disk_used_most"] for part in parts),
        "disk_used_before": parts[0]["disk_used_before"],
    }  # fmt: skip
    named = {f"ingestion, {len(parts)} parts": together} | {name: found for name, found in stages.items() if not name.startswith(("part ", "copies"))}
    lines = []
    for name, found in named.items():
        publish = found["seconds"]["publish"][0] if "publish" in found.get("seconds", {}) else None
        cells = [found.get("sql_wall"), found.get("sql_cpu"), publish, found["wall"], found["cpu"]]
        held = [found["bytes"][place] / 1e6 for place in ("lake", "warehouse", "outputs")]
        most = (found["disk_used_most"] - together["disk_used_before"]) / 1e9
        shown = [*("-" if cell is None else f"{cell:,.1f}" for cell in cells), f"{found['peak_mib']:,.0f}", *(f"{cell:,.0f}" for cell in held)]
        lines.append([name, *shown, f"{most:,.1f}"])
    head = ["", "SQL s", "SQL CPU s", "publish s", "wall s", "CPU s", "peak MiB", "lake MB", "warehouse MB", "outputs MB", "disk at most, GB above the first"]
    built = {name: stages[name] for name in ("full", "increment") if name in stages}
    models = [[model, *(f"{found['models'][model][which]:,.1f}" for found in built.values() for which in (0, 1))] for model in stages["full"]["models"]]
    models.append(["identity", *(f"{found['seconds']['identity'][which]:,.1f}" for found in built.values() for which in (0, 1))])
    about = figures["about"]
    times = f", each {figures['asked']['copies']} times" if figures["asked"]["copies"] > 1 else ""
    said = (
        f"{together['rows_accepted']:,} events, then {stages['last per cent']['rows_accepted']:,}{times}; seed {figures['asked']['seed']}; "
        f"{about['cores']} cores, {about['memory_gib']} GiB, DuckDB's memory limit {figures['asked']['memory_limit']}, DuckDB {about['duckdb']}, "
        f"waymark {about['waymark']}."
    )
    heading = ["", *(f"{name} {what}" for name in built for what in ("s", "CPU s"))]
    return "\n\n".join([said, table(head, lines), table(heading, models)])


def _last_files(dirt: Path, percent: float) -> set[str]:
    """Names of the files that arrive last and hold, together, about as much of all rows; at least one."""
    counted: dict[str, int] = {}
    for row in pq.read_table(dirt, columns=["file", "row_count"]).to_pylist():
        counted[row["file"]] = counted.get(row["file"], 0) + row["row_count"]
    found: set[str] = set()
    left = sum(counted.values()) * percent / 100
    for name in sorted(counted, reverse=True):
        if found and left < counted[name] / 2:
            break
        left -= counted[name]
        found.add(name)
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _about() -> dict[str, Any]:
    return {
        "cores": psutil.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30), "duckdb": version("duckdb"), "waymark": waymark.__version__,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.size", description="Take in, build and increment a world that is delivered in parts.")
    parser.add_argument("--events", type=int, default=100_000_000, help="about so many events; default: %(default)s")
    parser.add_argument("--part-events", type=int, default=5_000_000, help="made, delivered and taken in at a time; default: %(default)s")
    parser.add_argument("--copies", type=int, default=1, help="take in a world of so many times fewer events, and copy what was taken in; default: %(default)s")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "waymark-size", help="where all lies; default: %(default)s")
    parser.add_argument("--memory-limit", default="4GB", help="of DuckDB; default: %(default)s, the product's default")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run of this size has done")
    given = parser.parse_args()
    folder = given.work / f"size-{given.events}-{given.seed}{f'-times-{given.copies}' * (given.copies > 1)}"
    size = Size(folder, given.events, given.part_events, given.seed, given.memory_limit, given.copies)
    if given.fresh:
        shutil.rmtree(size.folder, ignore_errors=True)
    print(markdown(run_size(size)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
