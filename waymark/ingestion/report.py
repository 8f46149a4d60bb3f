"""What an ingestion did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


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


@dataclass
class IngestReport:
    """Of one source in one run: the files that were taken up, and those that are refused as things stand."""

    source: str
    files: list[FileOutcome] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # file -> error, those refused earlier and still unchanged included
    batch_ids: list[int] = field(default_factory=list)
    files_found: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def total(self, column: str) -> int:
        return sum(int(getattr(outcome, column)) for outcome in self.files)

    @property
    def is_clean(self) -> bool:
        """False where a file is refused: the exit code is then not zero."""
        return not self.refused

    def as_metadata(self) -> dict[str, int | float | str]:
        """Counts and names of files, for Dagster and logs; never a row's content."""
        counts = {column: self.total(column) for column in ("rows_read", "rows_accepted", "rows_duplicate", "rows_conflict", "rows_quarantined")}
        return {
            "source": self.source, "files_found": self.files_found, "files_ingested": sum(outcome.status == "ingested" for outcome in self.files),
            "files_skipped": sum(outcome.status == "skipped" for outcome in self.files), "files_refused": len(self.refused), **counts,
            "seconds": round(self.seconds, 3), "errors": "\n".join(self.refused[file] for file in sorted(self.refused)),
        }  # fmt: skip
