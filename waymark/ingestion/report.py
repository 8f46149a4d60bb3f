"""What an ingestion did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Count(NamedTuple):
    """Of a file's rows in a batch. duplicate counts conflicts and kept too; kept: rows whose event stays as an earlier mapping read it."""

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    kept: int = 0


Counts = dict[int, Count]  # by file_id


@dataclass
class FileOutcome:
    """One line of raw.ingestion_log."""

    file: str
    status: str  # ingested | skipped | refused
    digest: str
    size: int
    mtime_ns: int
    file_id: int = 0
    rows_read: int = 0
    rows_accepted: int = 0
    rows_duplicate: int = 0
    rows_conflict: int = 0
    rows_quarantined: int = 0
    columns_missing: str | None = None
    columns_renamed: str | None = None
    note: str | None = None
    error: str | None = None
    last_occurred: object = None
    last_received: object = None


@dataclass(frozen=True)
class Refusal:
    """A file that cannot be read as things stand; its text is the error that a person reads."""

    file: str
    error: str

    def __str__(self) -> str:
        return self.error


@dataclass
class IngestReport:
    """Of one source in one run: the files that were taken up, and those that are refused as things stand."""

    source: str
    files: list[FileOutcome] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)  # those refused earlier and unchanged since included
    batch_ids: list[int] = field(default_factory=list)
    files_found: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)  # what a person should know, though nothing is wrong

    @property
    def rows_read(self) -> int:
        return sum(outcome.rows_read for outcome in self.files)

    @property
    def rows_accepted(self) -> int:
        return sum(outcome.rows_accepted for outcome in self.files)

    @property
    def rows_duplicate(self) -> int:
        return sum(outcome.rows_duplicate for outcome in self.files)

    @property
    def rows_conflict(self) -> int:
        return sum(outcome.rows_conflict for outcome in self.files)

    @property
    def rows_quarantined(self) -> int:
        return sum(outcome.rows_quarantined for outcome in self.files)

    @property
    def is_clean(self) -> bool:
        """False where a file is refused: the exit code is then not zero."""
        return not self.refused

    def as_metadata(self) -> dict[str, int | float | str]:
        """Counts and names of files, for Dagster and logs; never a row's content."""
        return {
            "source": self.source, "files_found": self.files_found, "files_ingested": sum(outcome.status == "ingested" for outcome in self.files),
            "files_skipped": sum(outcome.status == "skipped" for outcome in self.files), "files_refused": len(self.refused),
            "rows_read": self.rows_read, "rows_accepted": self.rows_accepted, "rows_duplicate": self.rows_duplicate, "rows_conflict": self.rows_conflict,
            "rows_quarantined": self.rows_quarantined,
            "seconds": round(self.seconds, 3), "errors": "\n".join(map(str, self.refused)), "notes": "\n".join(self.notes),
        }  # fmt: skip
