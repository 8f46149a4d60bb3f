"""Checks of the installation: Python, libraries, machine."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from waymark.pipeline.doctor.patient import Finding, Patient, counted, listed, megabytes, ok, problem, warning

_DISTRIBUTION = "waymark"
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
# DuckDB's limit is of its buffers; Python, a training and the operating system need memory beside them.
_MEMORY_SHARE = 0.75


def python(_: Patient) -> Iterator[Finding]:
    """The running Python against what Waymark's own metadata asks for (requires-python in pyproject.toml, to which the Makefile goes, too)."""
    from packaging.specifiers import SpecifierSet

    try:
        wanted = metadata(_DISTRIBUTION)["Requires-Python"]
    except PackageNotFoundError:  # the check of libraries says so
        wanted = ""
    said = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if not SpecifierSet(wanted).contains(".".join(map(str, sys.version_info[:3])), prereleases=True):
        yield problem("python", said, f"Install a Python {wanted}, then Waymark into an environment of it.")
    elif sys.platform == "win32":
        yield problem("python", said, "Use Linux, macOS, or Linux inside Windows (WSL): the lock of a home needs them.")
    else:
        yield ok("python", said)


def libraries(_: Patient) -> Iterator[Finding]:
    """Installed versions against what Waymark's own metadata asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires(_DISTRIBUTION) or []]
    except PackageNotFoundError:
        yield warning("libraries", "Waymark itself is not installed, so nothing says which versions it needs", "Run `make setup`, or pip install Waymark.")
        return
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for one in wanted:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            wrong.append(f"{one.name} is missing ({one.specifier} is wanted)")
            continue
        if not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one.name} is {found}, {one.specifier} is wanted")
    if wrong:
        yield problem("libraries", listed(wrong, most=5), "Install the locked versions: pip install --require-hashes -r requirements.lock (or: make setup).")
    else:
        yield ok("libraries", f"{len(wanted)} libraries as wanted, Waymark {version(_DISTRIBUTION)}")


def machine(patient: Patient) -> Iterator[Finding]:
    """Memory and cores against what the engine is allowed."""
    engine = patient.project.settings.engine
    cores, memory = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, memory_bytes()
    amount, unit = re.fullmatch(r"([\d.]+)\s?(\w+)", engine.memory_limit).groups()  # type: ignore[union-attr]
    limit = float(amount) * _UNITS[unit]
    said = f"{counted(cores, 'core')}, {megabytes(memory)} memory; engine: {engine.threads or 'all'} threads, {engine.memory_limit}"
    if memory and limit > memory * _MEMORY_SHARE:
        most = max(1, int(memory * _MEMORY_SHARE / 2 / 10**9))
        yield warning("machine", said, f"Set engine.memory_limit in waymark.yml to {most}GB: a run that needs more than there is gets killed.")
    elif engine.threads and engine.threads > cores:
        yield warning("machine", said, f"Set engine.threads in waymark.yml to {cores} or leave it out: more threads than cores only wait for each other.")
    else:
        yield ok("machine", said)


def memory_bytes() -> int:
    """What this process may use: the machine's memory, or less where a container's limit stands (cgroup v2); 0 where nothing says."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return min(total, int(text)) if text.isdecimal() else total
    except OSError:
        return total
