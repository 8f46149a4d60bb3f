"""Checks of the home as files: folders, version, lock, disk, what killed runs left, quarantine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from waymark.core import home as homes
from waymark.core.clock import wall_now
from waymark.core.quoting import file_list, typed
from waymark.core.warehouse import connect, outputs_of, rows
from waymark.pipeline.doctor.patient import Finding, Patient, counted, listed, megabytes, ok, problem, warning

# A snapshot is written beside the last one, and DuckDB spills what a rebuild cannot hold in memory.
_SPACE_FACTOR = 3
_LEAST_SPACE = 200_000_000


def home(patient: Patient) -> Iterator[Finding]:
    root = patient.home.root
    if not root.exists():
        yield ok("home", f"{root}: none yet, the first run makes it")
        return
    if not root.is_dir():
        yield problem("home", f"{root} is no folder", "Move the file away, or set WAYMARK_HOME to another folder.")
        return
    folders = (root, patient.home.published_dir, patient.home.raw_lake)
    if closed := [str(folder) for folder in folders if folder.exists() and not os.access(folder, os.W_OK | os.X_OK)]:
        yield problem("home", f"no permission to write in {listed(closed)}", "Grant it (chown, chmod u+rwX), or set WAYMARK_HOME to another folder.")
    else:
        yield ok("home", str(root))


def schema_version(patient: Patient) -> Iterator[Finding]:
    found = patient.home.version()
    if found is not None and found < homes.SCHEMA_VERSION:
        remedy = f"Rebuild the tables from the lake: {patient.command('upgrade')}"
        yield problem("schema version", f"{found}; this Waymark writes {homes.SCHEMA_VERSION}", remedy)
        return
    patient.home.check_version()
    yield ok("schema version", str(homes.SCHEMA_VERSION) if found is not None else "none yet")


def writer_lock(patient: Patient) -> Iterator[Finding]:
    """Held is no fault; only a lock that nobody could ever take is."""
    path = patient.home.lock_file
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield problem("writer lock", f"no permission to take {path}", "Grant it (chown, chmod u+rw): every run needs the lock.")
    else:
        yield ok("writer lock", f"held by {patient.writer}" if patient.writer else "free")


def disk(patient: Patient) -> Iterator[Finding]:
    """Free space against what the next publication needs."""
    home = patient.home
    there = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    warehouse, outputs, published = (path.stat().st_size if path.exists() else 0 for path in (home.warehouse, outputs_of(home.warehouse), home.published))
    warehouse += outputs
    said = f"{megabytes(free)} free; the warehouse has {megabytes(warehouse)}, the published snapshot {megabytes(published)}"
    remedy = "Free space, or move the home to a larger disk and set WAYMARK_HOME: a snapshot is written beside the last one."
    if free < max(published, _LEAST_SPACE):
        yield problem("disk", said, remedy)
    elif free < _SPACE_FACTOR * warehouse:
        yield warning("disk", said, remedy)
    else:
        yield ok("disk", said)


def left_over_files(patient: Patient) -> Iterator[Finding]:
    """What killed runs left; a run that writes at this moment has such files, too."""
    home = patient.home
    if patient.writer:
        yield ok("left-over files", f"being written by {patient.writer}, so not looked at")
        return
    of_runs = [*home.published_dir.glob(".building-*"), *home.root.glob(".anew-*")]
    of_runs += [*home.raw_lake.glob("*/.tmp-*"), *home.quarantine.glob("*/.tmp-*"), *home.scratch.glob("ingest/*")]
    others = [path for path in home.scratch.glob("*") if path.name != "ingest"]
    others += [path for folder in (home.root, home.published_dir, home.mlflow, home.dbt, home.privacy, home.audit) for path in folder.glob(".*.tmp")]
    if of_runs:
        remedy = f"A killed run left them; the next one removes them: {patient.command('run --full-refresh')}"
        yield warning("left-over files", _amount(of_runs, home.root), remedy)
    if others:
        remedy = f"Nothing reads them any more: {typed('rm', '-r', *sorted(others)[:3])}{' …' if len(others) > 3 else ''}"
        yield warning("left-over files", _amount(others, home.root), remedy)
    if not of_runs and not others:
        yield ok("left-over files", "none")


def _amount(paths: list[Path], root: Path) -> str:
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return f"{megabytes(sum(file.stat().st_size for file in files))} in {listed(sorted(str(path.relative_to(root)) for path in paths))}"


def quarantine(patient: Patient) -> Iterator[Finding]:
    """Refused rows: how many, who can read them, when they expire. The rows themselves are never shown."""
    home, days = patient.home, patient.project.settings.ingestion.quarantine_days
    files = sorted(home.quarantine.rglob("*.parquet"))
    open_to_others = [str(path) for path in [home.quarantine, *files] if path.exists() and path.stat().st_mode & 0o077]
    if open_to_others:
        remedy = f"Refused rows are personal data: {typed('chmod', '-R', 'go=', home.quarantine)}"
        yield problem("quarantine", f"others can read {listed(open_to_others)}", remedy)
    if not files:
        yield ok("quarantine", "empty")
        return
    with connect() as connection:
        found = rows(connection, f"select count(*), min(quarantined_at) from read_parquet({file_list(files)}, hive_partitioning = false)")
    count, oldest = int(str(found[0][0])), found[0][1]
    said = f"{counted(count, 'refused row')}, {megabytes(sum(file.stat().st_size for file in files))}"
    until = oldest + timedelta(days=days) if isinstance(oldest, datetime) else None
    if until and until < wall_now():
        remedy = f"A run deletes what has expired: {patient.command('run')}"
        yield warning("quarantine", f"{said}; the oldest should have been deleted on {until:%Y-%m-%d}", remedy)
    elif not open_to_others:
        yield ok("quarantine", f"{said}; the oldest is deleted after {until:%Y-%m-%d}" if until else said)
