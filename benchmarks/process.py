"""A measured process: what a worker reports, the wall time that a person waits, and the memory of its whole process tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
_SAMPLE_SECONDS, _DISK_SAMPLE_SECONDS = 0.05, 1.0


@dataclass(frozen=True)
class Measured:
    """wall: seconds from start to exit; cpu: user and system seconds of the process and its ended children; peak_mib: greatest resident memory summed
    over the process tree, sampled every 50 ms; report: what the worker wrote; peak_disk: most bytes in use on the disk of the watched folder, sampled every
    second, by whomever; 0 where none is watched."""

    wall: float
    cpu: float
    peak_mib: float
    report: dict[str, Any]
    peak_disk: int = 0


class MeasuredError(RuntimeError):
    """A measured process failed; holds the end of what it said."""


def measure(arguments: list[str], *, timeout_seconds: float = 3600, disk: Path | None = None) -> Measured:
    """Runs `python -m benchmarks.worker` with these arguments; the report is the JSON that it writes to the file named by --report. disk: a folder to watch."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "benchmarks.worker", *arguments, "--report", str(report)]
        measured = measure_command(command, timeout_seconds=timeout_seconds, disk=disk)
        return replace(measured, report=json.loads(report.read_text()))


def measure_command(command: list[str], *, timeout_seconds: float = 3600, disk: Path | None = None, **variables: str) -> Measured:
    """Runs any command in the repository's root, with these environment variables; the report holds what it said.

    Raises MeasuredError if it fails or takes too long.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        # Python keeps compiled modules unless it is told not to; some build machines tell it, and would measure the compiler.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | variables
        process = psutil.Popen(command, cwd=REPOSITORY, stdout=said, stderr=subprocess.STDOUT, env=environment)
        peak, cpu, peak_disk, looked = 0.0, 0.0, 0, 0.0
        while process.poll() is None:
            resident, used = _tree(process)
            peak, cpu = max(peak, resident), max(cpu, used)
            if disk and time.monotonic() - looked > _DISK_SAMPLE_SECONDS:
                peak_disk, looked = max(peak_disk, shutil.disk_usage(disk).used), time.monotonic()
            if time.monotonic() - started > timeout_seconds:
                for member in [*process.children(recursive=True), process]:
                    member.kill()
                raise MeasuredError(f"{' '.join(command)}: still running after {timeout_seconds:.0f} s")
            time.sleep(_SAMPLE_SECONDS)
        wall = time.monotonic() - started
        said.seek(0)
        text = said.read()
    if process.returncode != 0:
        raise MeasuredError(f"{' '.join(command)}: exit code {process.returncode}\n{text[-3000:]}")
    return Measured(wall, cpu, peak / 2**20, {"said": text}, peak_disk)


def _tree(process: psutil.Process) -> tuple[float, float]:
    """(resident bytes, CPU seconds) of a process and all below it, now."""
    resident = cpu = 0.0
    try:
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0, 0.0
    for member in members:
        try:
            with member.oneshot():
                times = member.cpu_times()
                resident += member.memory_info().rss
                cpu += times.user + times.system + (times.children_user + times.children_system if member is process else 0.0)
        except psutil.Error:
            continue
    return resident, cpu
