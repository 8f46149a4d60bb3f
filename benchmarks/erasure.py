"""What erasing one person costs, and a thousand, beside a full refresh: the demo's world, run once, and erased from in copies of its home.

`python -m benchmarks.erasure`. Seconds are those of the phases as the command tells them; all in one run of one process each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.lake import DEMO
from benchmarks.process import REPOSITORY, measure_command
from benchmarks.report import table
from waymark.core.settings import load_project
from waymark.core.warehouse import connect, rows
from waymark.pipeline.erasure import PHASES, ask, go_on
from waymark.pipeline.subjects import subjects_of

WAYMARK = str(Path(sys.executable).parent / "waymark")


def made(work: Path, customers: int) -> Path:
    """The demo's project, with a world of so many customers, run to its end."""
    directory = work / "project"
    shutil.copytree(DEMO, directory, ignore=shutil.ignore_patterns(".waymark", "truth"))
    shutil.copytree(REPOSITORY / "examples" / "sources", work / "sources")
    command = [WAYMARK, "world", "--project", str(directory), "--customers", str(customers)]
    measure_command(command, timeout_seconds=600, disk=work)
    return directory


def erased(directory: Path, work: Path, persons: int) -> dict[str, float]:
    """Seconds by phase of erasing so many persons, those with the most events, from a copy of the project."""
    copy = work / f"erase-{persons}" / "project"
    shutil.copytree(directory, copy)
    shutil.copytree(work / "sources", copy.parent / "sources")
    project = load_project(copy)
    with connect(project.home.warehouse) as connection:
        connection.execute("update raw.ingestion_log set file = replace(file, ?, ?)", [str(directory), str(copy)])
    with connect(project.home.published, read_only=True) as connection:
        most = "select customer_id from marts.dim_customers order by event_count desc, customer_id limit ?"
        chosen = [str(who) for (who,) in rows(connection, most, [persons])]
    found, last = {}, perf_counter()
    with project.home.writer_lock():
        request = ask(project, subjects_of(project, chosen), because="measured")
        found["asked"], last = perf_counter() - last, perf_counter()

        def note(phase: str) -> None:
            nonlocal last
            found[phase], last = perf_counter() - last, perf_counter()

        go_on(project, request, after=note)
    shutil.rmtree(copy.parent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.erasure", description="Erase one person, and many, beside a full refresh.")
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--persons", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waymark-erasure-") as folder:
        work = Path(folder)
        directory = made(work, given.customers)
        first = measure_command([WAYMARK, "run", "--project", str(directory)], timeout_seconds=3600, disk=work)
        refreshed = measure_command([WAYMARK, "run", "--project", str(directory), "--full-refresh"], timeout_seconds=3600, disk=work)
        counts = (1, given.persons)
        found = {count: erased(directory, work, count) for count in counts}
    print(f"{given.customers:,} customers; the first run took {first.wall:.1f} s, a full refresh {refreshed.wall:.1f} s.\n")
    lines = [[phase, *(f"{found[count][phase]:.1f}" for count in counts)] for phase in ("asked", *PHASES)]
    totals = [sum(found[count].values()) for count in counts]
    lines.append(["together", *(f"{total:.1f}" for total in totals)])
    lines.append(["times a full refresh", *(f"{total / refreshed.wall:.2f}" for total in totals)])
    print(table(["seconds", *(f"{count:,} erased" for count in counts)], lines))


if __name__ == "__main__":
    main()
