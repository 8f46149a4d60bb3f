"""Ingestion of one source: its new files, in groups of one shape, into batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingOf
from datetime import date
from pathlib import Path
from time import perf_counter

from waymark.core.digest import file_digest
from waymark.core.errors import FileRefusedError, MappingError, WaymarkError
from waymark.core.home import Home
from waymark.core.quoting import file_list
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion import log
from waymark.ingestion.batch import Batch, next_batch_id
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.engine import refusing_engine_errors
from waymark.ingestion.erased import Erased
from waymark.ingestion.extraction import Shape, check_expressions
from waymark.ingestion.files import Known, save_known, source_files, stamp
from waymark.ingestion.group import Group
from waymark.ingestion.lake import recover, scratch_folder
from waymark.ingestion.mapping import ID_COLUMN, Mapping, load_mapping
from waymark.ingestion.readers import drop_read, open_file
from waymark.ingestion.report import Count, Counts, FileOutcome, IngestReport
from waymark.ingestion.tables import build_quarantine_view, build_views, create_tables
from waymark.privacy import Secret, redact_text

GROUP_ROWS = 400_000
FLUSH_ROWS = 2_000_000
Progress = Callable[[str], None]


def prepare_raw(connection: Connection, sources: MappingOf[str, Mapping], home: Home) -> list[str]:
    """Makes schema `raw`: its tables, and for each source both views, empty ones included. May be called again at any time.

    Returns the orphans of a crashed run that it removed. Raises StorageError where the lake lacks a registered file.
    """
    create_tables(connection, home.root)
    removed = recover(connection, home)
    open_raw(connection, sources, home)
    return removed


def open_raw(connection: Connection, sources: Iterable[str], home: Home) -> None:
    """The same for a warehouse that only reads the home's lake, such as a scratch copy: nothing in the lake is touched."""
    create_tables(connection, home.root)
    build_views(connection, sorted(sources))
    build_quarantine_view(connection)


def restate_clock(connection: Connection, sources: Iterable[str]) -> None:
    """Sets data_now to the greatest received_at that the lake holds, or held, of these sources (NULL where it never held anything).

    Batches only move it forward; this is for when tables are rebuilt, because the project may name other sources than it did.
    """
    root = Path(str(rows(connection, "select root from raw.lake_root")[0][0]))
    paths = rows(connection, "select path from raw.lake_files where list_contains($sources, source) order by path", {"sources": sorted(sources)})
    listed = file_list(root / str(path) for (path,) in paths)
    newest = f"(select max(received_at) from read_parquet({listed}, hive_partitioning = false))" if paths else "NULL"
    removed = "(select max(last_received_at) from raw.removals where list_contains($sources, source))"  # what left has been known all the same
    connection.execute(f"update raw.run_clock set data_now = greatest({newest}, {removed})", {"sources": sorted(sources)})


def mark_transformed(connection: Connection, sources: Iterable[str], batch_ids: Iterable[int] | None = None) -> None:
    """Says that a finished transformation has seen what was pending of these sources (or only these batches of it).

    Opens no transaction: it belongs into the caller's.
    """
    of_batches = "" if batch_ids is None else f" and batch_id in ({', '.join(str(int(batch)) for batch in sorted(set(batch_ids))) or 'NULL'})"
    for source in sorted(sources):
        if rows(connection, f"select 1 from raw.lake_files where source = ? and is_pending{of_batches} limit 1", [source]):
            connection.execute(f"update raw.lake_files set is_pending = false where source = ? and is_pending{of_batches}", [source])
            build_views(connection, [source])


def mark_pending(connection: Connection, sources: Iterable[str], first: date, last: date) -> int:
    """Says that what is in the lake of these days (UTC, both included) is to go through the models again. Returns the number of events.

    Opens no transaction: it belongs into the caller's.
    """
    day = "cast(regexp_extract(path, 'event_date=(\\d{4}-\\d{2}-\\d{2})', 1) as date)"
    events = 0
    for source in sorted(sources):
        found = rows(connection, f"select sum(rows) from raw.lake_files where source = ? and {day} between ? and ?", [source, first, last])
        if found[0][0]:
            events += int(str(found[0][0]))
            connection.execute(f"update raw.lake_files set is_pending = true where source = ? and {day} between ? and ?", [source, first, last])
            build_views(connection, [source])
    return events


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
            raise MappingError(
                f"source: the mapping is for '{self.mapping.source}', waymark.yml uses it for '{source}'",
                where=str(self.mapping.path),
                remedy="Give both the same name.",
            )
        self.home = project.home
        self.report = IngestReport(source)
        self.checked: dict[Shape, frozenset[str]] = {}  # what check_expressions said of each shape
        self.outcomes: list[FileOutcome] = []  # of the batch at hand
        self.batch: Batch | None = None
        self.group: Group | None = None
        self.next_file_id = 0
        self.erased: Erased | None = None

    def run(self, progress: Progress | None) -> IngestReport:
        started = perf_counter()
        create_tables(self.connection, self.home.root)
        build_views(self.connection, [self.source])
        self.erased = Erased.open(self.connection, self.home, self.secret)
        files = source_files(self.project, self.source)
        self.report.files_found = len(files)
        if not files:
            self.report.notes.append(f"No file matches {', '.join(self.project.settings.sources[self.source].files)}.")
        if others := log.other_mappings(self.connection, self.source, self.mapping.digest):
            self.report.notes.append(
                f"{self.mapping.path.name} changed since {others} files were taken in: they stay as they were read "
                "(a fresh home, WAYMARK_HOME, reads them anew)."
            )
        stamps = {path: stamp(path) for path in files}
        self.next_file_id = log.next_file_id(self.connection)
        taken = log.known_states(self.connection, self.source)
        todo = [path for path in files if (str(path), *stamps[path]) not in taken]
        if todo:
            self.home.mark_unpublished()  # a refused or skipped file, too, gives a line of the log
        try:
            for number, path in enumerate(todo, 1):
                if progress:
                    progress(f"{self.source}: {path.name} ({number} of {len(todo)})")
                self._take(path, stamps[path])
                if self.group and self.group.rows >= GROUP_ROWS:
                    self._apply()
                if self.batch and self.batch.rows >= FLUSH_ROWS:
                    self._apply()  # a file of another shape may be waiting: its line is logged with its rows, never before them
                    self._flush()
            self._apply()
            self._flush()
        finally:
            drop_read(self.connection)
            if self.group:
                self.group.forget()
            shutil.rmtree(scratch_folder(self.home), ignore_errors=True)
        self.report.refused = [refusal for refusal in log.refusals(self.connection, self.source) if Path(refusal.file) in stamps]
        refused = {refusal.file for refusal in self.report.refused}
        known: Known = {str(path): stamps[path] for path in files if str(path) not in refused}  # a refused file is tried at every run
        known[str(self.mapping.path)] = stamp(self.mapping.path)
        save_known(self.home, self.source, known)
        self.report.seconds = perf_counter() - started
        return self.report

    def _take(self, path: Path, state: tuple[int, int]) -> None:
        outcome = FileOutcome(str(path), "ingested", "", *state)
        where = f"source '{self.source}': {path.name}"
        try:
            outcome.digest = file_digest(path) if path.is_file() else ""
            if self._is_ingested(outcome):
                return
            self._number(outcome)
            self._load(path, outcome)
        except FileRefusedError as error:
            self._refuse(outcome, error)
        except OSError as error:
            remedy = "Check the file and its permissions, then run again."
            self._refuse(outcome, FileRefusedError(f"the file cannot be read: {error.strerror or error}", where=where, remedy=remedy))

    def _number(self, outcome: FileOutcome) -> None:
        outcome.file_id, self.next_file_id = self.next_file_id, self.next_file_id + 1

    def _refuse(self, outcome: FileOutcome, error: FileRefusedError) -> None:
        outcome.status, outcome.error, outcome.rows_read = "refused", redact_text(str(error)), 0
        outcome.rows_quarantined = 0
        if not outcome.file_id:
            self._number(outcome)
        if outcome not in self.outcomes:
            self.outcomes.append(outcome)

    def _is_ingested(self, outcome: FileOutcome) -> bool:
        """Exactly once, by content: the same bytes again are noted, not read. The note says where a file changed under its old name."""
        if not outcome.digest:
            return False
        earlier = log.ingested_digests(self.connection, self.source, outcome.digest, outcome.file)
        here = [(known.file, known.digest) for known in self.outcomes if known.status == "ingested"]
        same = [file for file, digest in [*earlier, *here] if digest == outcome.digest]
        if outcome.file in same:
            log.touch(self.connection, self.source, outcome.file, outcome.digest, outcome.mtime_ns)
            return True
        if same:
            outcome.status, outcome.note = "skipped", f"same content as {same[0]}"
            self._number(outcome)
            self.outcomes.append(outcome)
            return True
        if changed := [digest for file, digest in earlier if file == outcome.file]:
            outcome.note = f"changed since {changed[-1][:8]}"
            if log.had_other_mapping(self.connection, self.source, outcome.file, self.mapping.digest) and (
                ID_COLUMN not in self.mapping.columns or log.has_events_without_ids(self.connection, self.source, outcome.file)
            ):
                raise FileRefusedError(
                    "the file grew or changed, and so did the mapping: without event ids its old rows would be taken for new ones",
                    where=f"source '{self.source}': {Path(outcome.file).name}",
                    remedy="Put the new rows in a file of their own, take the mapping's change back, or ingest everything into a fresh home (WAYMARK_HOME).",
                )
        return False

    def _load(self, path: Path, outcome: FileOutcome) -> None:
        """Reads a file's records into the group of its shape."""
        opened = open_file(self.connection, self.mapping, path, scratch_folder(self.home))
        shape = opened.shape
        if shape not in self.checked:
            self.checked[shape] = check_expressions(self.connection, self.mapping, shape, path.name)
        canonical = Canonical(self.mapping, shape, self.project.settings, path.name, self.checked[shape])
        outcome.columns_missing = ", ".join(canonical.extraction.missing) or None
        outcome.columns_renamed = ", ".join(canonical.extraction.renamed) or None
        if self.group and self.group.shape != shape:
            self._apply()
        if self.group is None:
            self.group = Group(self.connection, self.project, self.secret, self.mapping, shape, erased=self.erased)
        try:
            with refusing_engine_errors(str(self.home.root), lambda said: self._unreadable(said, path.name)):
                self.group.add(opened, outcome)
        finally:
            drop_read(self.connection)
        self.outcomes.append(outcome)

    def _apply(self) -> None:
        """Turns the group's records into events of the batch. A file for which that fails is refused; the others go on."""
        if self.group is None:
            return
        group, self.group = self.group, None
        self.batch = self.batch or self._new_batch()
        try:
            if group.outcomes and (error := self._try(group, self.batch, group.outcomes)):
                for outcome in list(group.outcomes):
                    if len(group.outcomes) > 1:
                        error = self._try(group, self.batch, [outcome])
                    if error:
                        self._refuse(outcome, error)
        finally:
            group.forget()

    def _try(self, group: Group, batch: Batch, outcomes: list[FileOutcome]) -> FileRefusedError | None:
        """Applies the mapping to these files; gives the error, and leaves nothing of them, where DuckDB cannot."""
        names = ", ".join(Path(outcome.file).name for outcome in outcomes)
        canonical = Canonical(self.mapping, group.shape, self.project.settings, names, self.checked[group.shape])
        before = batch.rows
        try:
            with refusing_engine_errors(str(self.home.root), lambda said: self._unreadable(said, names)):
                group.apply(canonical, batch, outcomes)
        except FileRefusedError as error:
            batch.forget([outcome.file_id for outcome in outcomes])
            return error
        read, refused = sum(outcome.rows_read for outcome in outcomes), sum(outcome.rows_quarantined for outcome in outcomes)
        if batch.rows - before + refused != read:
            raise WaymarkError(
                f"the rows do not tally: read {read}, events {batch.rows - before}, quarantined {refused}",
                where=f"source '{self.source}': {names}", remedy="Nothing was accepted. Please report this, with the mapping.",
            )  # fmt: skip
        return None

    def _unreadable(self, said: str, file: str) -> FileRefusedError:
        return FileRefusedError(
            f"DuckDB cannot apply the mapping: {said}",
            where=f"source '{self.source}': {file}",
            remedy=f"Mend the expressions in {self.mapping.path.name}, then run again: nothing of the file was accepted.",
        )  # fmt: skip

    def _new_batch(self) -> Batch:
        compares, scopes = bool(self.mapping.compare), self.project.settings.consent.all_scopes
        return Batch(self.connection, self.home, self.source, self.mapping.digest, compares=compares, scopes=scopes)

    def _flush(self) -> None:
        if not self.outcomes:
            return
        batch_id = next_batch_id(self.connection)
        outcomes, batch = self.outcomes, self.batch or self._new_batch()

        def record(counts: Counts) -> None:
            for outcome in outcomes:
                count = counts.get(outcome.file_id, Count())
                outcome.rows_accepted, outcome.rows_duplicate, outcome.rows_conflict = count.accepted, count.duplicate, count.conflict
                if count.kept:
                    kept = f"{count.kept} rows are of events that stay as an earlier mapping read them"
                    outcome.note = f"{outcome.note}; {kept}" if outcome.note else kept
                log.write_line(self.connection, self.source, self.mapping.digest, outcome, batch_id)

        batch.commit(batch_id, record)
        self.report.files += outcomes
        self.report.batch_ids.append(batch_id)
        self.outcomes, self.batch = [], None
