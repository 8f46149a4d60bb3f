"""What the checks look at, each part opened when it is first asked for, and never so that a run is held up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from waymark.core.errors import WaymarkError
from waymark.core.home import Home
from waymark.core.quoting import project_option
from waymark.core.settings import Project, home_of, load_project
from waymark.core.warehouse import Connection, connect, rows

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What one check found. found: counts, names of files and settings, never an identifier; remedy: what to do, empty where nothing is."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "warning", found, remedy)


def problem(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "problem", found, remedy)


class BeingWrittenError(WaymarkError):
    """A process is writing the warehouse, so it is not looked at."""


class Patient:
    """A project folder, what its settings say, and its home. A part that cannot be read raises its error to each check that asks for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.home: Home = home_of(self.directory)

    @cached_property
    def project(self) -> Project:
        """Raises SettingsError."""
        return load_project(self.directory)

    def command(self, text: str) -> str:
        """A command of Waymark's as it is to be typed for this project."""
        return f"waymark {text}{project_option(self.directory)}"

    @cached_property
    def writer(self) -> str | None:
        """Who writes the home at this moment."""
        return self.home.writer()

    @contextmanager
    def warehouse(self) -> Iterator[Connection]:
        """The warehouse, read-only and briefly: a run that starts meanwhile waits. Raises BeingWrittenError, StorageError."""
        with self.home.reading() as holder:
            if holder:
                raise BeingWrittenError(f"being written by {holder}, so not looked at")
            with connect(self.home.warehouse, read_only=True) as connection:
                yield connection

    @contextmanager
    def published(self) -> Iterator[Connection]:
        """The published snapshot, which nobody writes. Raises StorageError."""
        with connect(self.home.published, read_only=True) as connection:
            yield connection


def number(connection: Connection, sql: str, parameters: list[object] | None = None) -> int:
    """The one number that a query gives; 0 for NULL."""
    return int(str(rows(connection, sql, parameters)[0][0] or 0))


def counted(count: int, noun: str, ending: str = "s") -> str:
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0%"


def megabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def listed(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
