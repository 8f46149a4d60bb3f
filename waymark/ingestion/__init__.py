"""Ingestion: source files become canonical events, each row accounted for, each file exactly once.

What says "nothing new" (`new_files`, `known_files`) imports no DuckDB; the rest is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from waymark.ingestion.files import known_files, new_files, source_files

if TYPE_CHECKING:
    from waymark.ingestion.acts import log_acts
    from waymark.ingestion.event import CANONICAL_COLUMNS, CONTENT_COLUMNS
    from waymark.ingestion.ingest import ingest_source, mark_pending, mark_transformed, open_raw, prepare_raw, restate_clock
    from waymark.ingestion.lake import recover
    from waymark.ingestion.mapping import Mapping, load_mapping
    from waymark.ingestion.quarantine import purge_expired
    from waymark.ingestion.removal import removed_rows
    from waymark.ingestion.report import FileOutcome, IngestReport, Refusal
    from waymark.ingestion.retention import remove_expired
    from waymark.ingestion.unchecked import owe_checks, owed_checks, settle_checks

__all__ = [
    "CANONICAL_COLUMNS",
    "CONTENT_COLUMNS",
    "FileOutcome",
    "IngestReport",
    "Mapping",
    "Refusal",
    "ingest_source",
    "known_files",
    "load_mapping",
    "log_acts",
    "mark_pending",
    "mark_transformed",
    "new_files",
    "open_raw",
    "owe_checks",
    "owed_checks",
    "prepare_raw",
    "purge_expired",
    "recover",
    "remove_expired",
    "removed_rows",
    "restate_clock",
    "settle_checks",
    "source_files",
]

_LATE = {
    "CANONICAL_COLUMNS": "event", "CONTENT_COLUMNS": "event", "FileOutcome": "report", "IngestReport": "report", "Refusal": "report", "Mapping": "mapping",
    "load_mapping": "mapping", "log_acts": "acts",
    "ingest_source": "ingest", "mark_transformed": "ingest", "open_raw": "ingest", "prepare_raw": "ingest", "restate_clock": "ingest", "recover": "lake",
    "mark_pending": "ingest", "remove_expired": "retention", "removed_rows": "removal", "purge_expired": "quarantine",
    "owe_checks": "unchecked", "owed_checks": "unchecked", "settle_checks": "unchecked",
}  # fmt: skip


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
