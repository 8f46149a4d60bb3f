"""Ingestion of one source: its new files, one after another, into batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping as MappingOf
from pathlib import Path
from time import perf_counter

from waymark.core.digest import file_digest
from waymark.core.errors import FileRefusedError, MappingError, WaymarkError
from waymark.core.home import Home
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, first_line, rows, storage_problem
from waymark.ingestion.batch import Batch, log_line, next_batch_id
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.files import Known, save_known, source_files, stamp
from waymark.ingestion.engine import is_engine_error
from waymark.ingestion.extraction import Shape, check_expressions
from waymark.ingestion.lake import recover, scratch_folder
from waymark.ingestion.mapping import Mapping, load_mapping
from waymark.ingestion.readers import RECORDS, drop_records, load_records
from waymark.ingestion.report import FileOutcome, IngestReport, Refusal
from waymark.ingestion.tables import build_quarantine_view, build_views, create_tables
from waymark.privacy import Secret, redact_text

FLUSH_ROWS = 2_000_000
PARSED = "_wm_parsed"
Progress = Callable[[str], None]


def prepare_raw(connection: Connection, sources: MappingOf[str, Mapping], home: Home) -> list[str]:
    """Makes schema `raw`: its tables, and for each source both views, empty ones included. May be called again at any time.

    Returns the orphans of a crashed run that it removed. Raises StorageError where the lake lacks a registered file.
    """
    create_tables(connection, home.root)
    removed = recover(connection, home)
    build_views(connection, sorted(sources))
    build_quarantine_view(connection)
    return removed


def mark_transformed(connection: Connection, sources: Iterable[str], batch_ids: Iterable[int] | None = None) -> None:
    """Says that a finished transformation has seen what was pending of these sources (or only these batches of it).

    Opens no transaction: it belongs into the caller's.
    """
    of_batches = "" if batch_ids is None else f" and batch_id in ({', '.join(str(int(batch)) for batch in sorted(set(batch_ids))) or 'NULL'})"
    for source in sorted(sources):
        if rows(connection, f"select 1 from raw.lake_files where source = ? and is_pending{of_batches} limit 1", [source]):
            connection.execute(f"update raw.lake_files set is_pending = false where source = ? and is_pending{of_batches}", [source])
            build_views(connection, [source])


def ingest_source(project: Project, source: str, connection: Connection, secret: Secret, progress: Progress | None = None) -> IngestReport:
    """Takes up the source's new and changed files.

    progress: told in words which file is being read. A file that cannot be read is refused, and stands in the report and in
    raw.ingestion_log; the others go on. Raises MappingError where the mapping itself is wrong, StorageError where the disk refuses.
    """
    return _Ingestion(project, source, connection, secret).run(progress)


class _Ingestion:
    def __init__(self, project: Project, source: str, connection: Connection, secret: Secret) -> None:
        self.project, self.source, self.connection, self.secret = project, source, connection, secret
        self.mapping = load_mapping(project.mapping_path(source))
        if self.mapping.source != source:
            raise MappingError(f"source: the mapping is for '{self.mapping.source}', waymark.yml uses it for '{source}'", where=str(self.mapping.path), remedy="Give both the same name.")
        self.home = project.home
        self.report = IngestReport(source)
        self.checked: set[Shape] = set()
        self.outcomes: list[FileOutcome] = []
        self.batch: Batch | None = None
        self.next_file_id = 0

    def run(self, progress: Progress | None) -> IngestReport:
        started = perf_counter()
        create_tables(self.connection, self.home.root)
        build_views(self.connection, [self.source])
        files = source_files(self.project, self.source)
        self.report.files_found = len(files)
        if not files:
            self.report.notes.append(f"No file matches {', '.join(self.project.settings.sources[self.source].files)}.")
        stamps = {path: stamp(path) for path in files}
        found = rows(self.connection, "select coalesce(max(file_id), 0) + 1 from raw.ingestion_log")
        self.next_file_id = int(str(found[0][0]))
        todo = [path for path in files if not self._is_known(path, stamps[path])]
        try:
            for number, path in enumerate(todo, 1):
                if progress:
                    progress(f"{self.source}: {path.name} ({number} of {len(todo)})")
                self._take(path, stamps[path])
                if self.batch and self.batch.rows >= FLUSH_ROWS:
                    self._flush()
            self._flush()
        finally:
            drop_records(self.connection)
            self.connection.execute(f"drop table if exists {PARSED}")
            shutil.rmtree(scratch_folder(self.home), ignore_errors=True)
        refused = rows(self.connection, "select file, error from raw.ingestion_log where source = ? and status = 'refused' order by file nulls last", [self.source])
        self.report.refused = [Refusal(str(file), str(error)) for file, error in refused if Path(str(file)) in stamps]
        known: Known = {str(path): stamps[path] for path in files}
        known[str(self.mapping.path)] = stamp(self.mapping.path)
        save_known(self.home, self.source, known)
        self.report.seconds = perf_counter() - started
        return self.report

    def _is_known(self, path: Path, state: tuple[int, int]) -> bool:
        found = rows(
            self.connection,
            "select 1 from raw.ingestion_log where source = ? and file = ? and file_bytes = ? and file_mtime_ns = ? and (status <> 'refused' or mapping_digest = ?) limit 1",
            [self.source, str(path), state[0], state[1], self.mapping.digest],
        )
        return bool(found) and path.exists()

    def _take(self, path: Path, state: tuple[int, int]) -> None:
        outcome = FileOutcome(str(path), "ingested", "", *state)
        try:
            outcome.digest = file_digest(path) if path.is_file() else ""
            if self._same_bytes(outcome):
                return
            outcome.file_id, self.next_file_id = self.next_file_id, self.next_file_id + 1
            self._read(path, outcome)
        except FileRefusedError as error:
            self._refuse(outcome, str(error))
            return
        except OSError as error:
            self._refuse(outcome, str(FileRefusedError(f"the file cannot be read: {error.strerror or error}", where=f"source '{self.source}': {path.name}", remedy="Check the file and its permissions, then run again.")))
            return
        self.outcomes.append(outcome)

    def _refuse(self, outcome: FileOutcome, error: str) -> None:
        outcome.status, outcome.error = "refused", redact_text(error)
        outcome.rows_read = outcome.rows_quarantined = 0
        if not outcome.file_id:
            outcome.file_id, self.next_file_id = self.next_file_id, self.next_file_id + 1
        self.outcomes.append(outcome)

    def _same_bytes(self, outcome: FileOutcome) -> bool:
        """Exactly once, by content: the same bytes again are noted, not read. Says in the note where a file changed under its old name."""
        if not outcome.digest:
            return False
        earlier = rows(
            self.connection,
            "select file, file_digest from raw.ingestion_log where source = ? and status = 'ingested' and (file_digest = ? or file = ?) order by file_id nulls last",
            [self.source, outcome.digest, outcome.file],
        )
        here = [(known.file, known.digest) for known in self.outcomes if known.status == "ingested" and outcome.digest == known.digest]
        same = [str(file) for file, digest in [*earlier, *here] if digest == outcome.digest]
        if outcome.file in same:  # touched, nothing else
            self.connection.execute("update raw.ingestion_log set file_mtime_ns = ? where source = ? and file = ? and file_digest = ?", [outcome.mtime_ns, self.source, outcome.file, outcome.digest])
            return True
        if same:
            outcome.status, outcome.note = "skipped", f"same content as {same[0]}"
            outcome.file_id, self.next_file_id = self.next_file_id, self.next_file_id + 1
            self.outcomes.append(outcome)
            return True
        if changed := [str(digest) for file, digest in earlier if file == outcome.file]:
            outcome.note = f"changed since {changed[-1][:8]}"
        return False

    def _read(self, path: Path, outcome: FileOutcome) -> None:
        connection, mapping = self.connection, self.mapping
        drop_records(connection)
        shape = load_records(connection, mapping, path, scratch_folder(self.home))
        canonical = Canonical(mapping, shape, self.project.settings, path.name)
        if shape not in self.checked:
            check_expressions(connection, mapping, shape)
            self.checked.add(shape)
        outcome.columns_missing = ", ".join(canonical.extraction.missing) or None
        outcome.columns_renamed = ", ".join(canonical.extraction.renamed) or None
        if self.batch is None:
            self.batch = Batch(connection, self.home, self.source)
        try:
            connection.execute(f"create or replace temp table {PARSED} as {canonical.parsed_sql(RECORDS)}").fetchall()
            outcome.rows_read = int(str(rows(connection, f"select count(*) from {RECORDS}")[0][0]))
            outcome.last_occurred, outcome.last_received = last_plausible(connection, self.project.settings.time.max_future_skew_days)
            bounds: dict[str, object] = {"last_occurred": outcome.last_occurred, "last_received": outcome.last_received}
            accepted = self.batch.add_events(canonical.events_sql(PARSED, outcome.file_id), {**self.secret.parameters(), **bounds})
            if accepted < outcome.rows_read:
                outcome.rows_quarantined = self.batch.add_refused(RECORDS, PARSED, shape, outcome, bounds)
        except Exception as error:
            if not is_engine_error(error):
                raise
            raise storage_problem(error, str(self.home.root)) or _unexpected(error, mapping, path) from error
        if accepted + outcome.rows_quarantined != outcome.rows_read:
            raise WaymarkError(
                f"the rows do not tally: read {outcome.rows_read}, events {accepted}, quarantined {outcome.rows_quarantined}", where=f"source '{self.source}': {path.name}",
                remedy="Nothing was accepted. Please report this with the mapping.",
            )  # fmt: skip

    def _flush(self) -> None:
        if not self.outcomes:
            return
        batch_id = next_batch_id(self.connection)
        outcomes, batch = self.outcomes, self.batch or Batch(self.connection, self.home, self.source)

        def record(connection: Connection, counts: dict[int, tuple[int, int, int]]) -> None:
            for outcome in outcomes:
                outcome.rows_accepted, outcome.rows_duplicate, outcome.rows_conflict = counts.get(outcome.file_id, (0, 0, 0))
                log_line(connection, self.source, self.mapping.digest, outcome, batch_id)

        batch.commit(batch_id, record)
        self.report.files += outcomes
        self.report.batch_ids.append(batch_id)
        self.outcomes, self.batch = [], None


def last_plausible(connection: Connection, skew_days: int) -> tuple[object, object]:
    """The last instants that are believed for occurred_at and received_at: the end of the file's median day plus the skew allowed.

    A file that spans many days widens it by three times the distance between its quartiles: else its own later rows would be refused.
    (NULL, NULL) where no row has a time.
    """
    limits = ", ".join(
        f"date_add(cast(quantile_disc({day}, 0.5) as timestamp), to_days(cast(1 + {skew_days} + 3 * (quantile_disc({day}, 0.75) - quantile_disc({day}, 0.25)) as integer))) - to_microseconds(1)"
        for day in ("cast(occurred_at as date)", "cast(coalesce(received_at, occurred_at) as date)")
    )
    found = rows(connection, f"select {limits} from {PARSED} where broken is null")
    return found[0][0], found[0][1]


def _unexpected(error: Exception, mapping: Mapping, path: Path) -> WaymarkError:
    return FileRefusedError(
        f"DuckDB cannot apply the mapping: {redact_text(first_line(error))[:200]}", where=f"source '{mapping.source}': {path.name}", remedy=f"Mend the expressions in {mapping.path.name}, then run again."
    )
