"""Checks of what runs left behind: what is unfinished, stale, refused or failed; services; trained models."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from waymark.core.errors import StorageError
from waymark.core.quoting import read_only_address, typed
from waymark.core.services import noted_services
from waymark.core.warehouse import Connection, has_table, rows
from waymark.pipeline.doctor.patient import BeingWrittenError, Finding, Patient, counted, listed, number, ok, problem, warning
from waymark.privacy.requests import unfinished as unfinished_erasure

_MODEL = "propensity"


def services(patient: Patient) -> Iterator[Finding]:
    """What `waymark dev` runs, and what one that was killed left."""
    notes = noted_services(patient.home)
    for note in notes:
        left = note.processes()
        if note.is_held:
            pages = ", ".join(f"{name} {url}" for name, url in note.pages.items())
            yield ok("services", f"waymark {note.command} runs since {note.since}, process {note.pid}: {pages}")
        elif left:
            pids = " ".join(map(str, sorted(left)))
            remedy = f"End them: kill {pids}; or start it again, which ends them first: {patient.command(note.command)}"
            yield warning("services", f"a waymark {note.command} that was killed (since {note.since}) left {counted(len(left), 'process', 'es')}", remedy)
    if not any(note.is_held or note.processes() for note in notes):
        yield ok("services", "none runs")


def last_run(patient: Patient) -> Iterator[Finding]:
    """Whether the warehouse holds what no snapshot shows."""
    home = patient.home
    if not home.warehouse.exists():
        yield ok("last run", f"none yet: {patient.command('run')}")
        return
    if left := unfinished_erasure(home):
        what = f"the erasure {left.request_id} did not come to its end, and no run starts until it has"
        yield problem("last run", what, f"Go on with it: {patient.command('privacy erase --continue')}")
        return
    with patient.warehouse() as connection:
        pending = number(connection, "select coalesce(sum(rows), 0) from raw.lake_files where is_pending") if has_table(connection, "raw.lake_files") else 0
        rebuild = has_table(connection, "raw.build_state") and bool(number(connection, "select count(*) from raw.build_state where full_refresh_needed"))
    unfinished = [f"{counted(pending, 'accepted row')} not in the tables yet"] if pending else []
    unfinished += ["a rebuild of every table is not done"] if rebuild else []
    unfinished += ["nothing of it is published yet"] if home.unpublished.exists() else []
    if unfinished:
        yield warning("last run", f"it did not come to its end: {'; '.join(unfinished)}", f"The next run goes on where it stopped: {patient.command('run')}")
    else:
        yield ok("last run", "finished")


def published_snapshot(patient: Patient) -> Iterator[Finding]:
    """Whether there is one, whether it opens, and what a run would make of it."""
    from waymark.core.home import read_json
    from waymark.pipeline.freshness import what_is_new

    home = patient.home
    if not home.published.exists():
        yield ok("published snapshot", f"none yet: {patient.command('run')}")
        return
    try:
        with patient.published() as connection:
            said = "of {} (snapshot {})".format(*rows(connection, "select strftime(published_at, '%Y-%m-%d %H:%M'), snapshot_id from main.snapshot_info")[0])
    except Exception as error:  # whatever DuckDB says of a damaged file
        remedy = f"Remove the file and publish again: {typed('rm', '-f', home.published)}, then: {patient.command('run')}"
        yield problem("published snapshot", f"it cannot be read: {str(error).strip().splitlines()[0]}", remedy)
        return
    if patient.writer:
        yield ok("published snapshot", f"{said}; a run is under way")
        return
    manifest = read_json(home.manifest)
    if manifest is None:
        yield warning("published snapshot", f"{said}, without a readable manifest", f"Publish again: {patient.command('run')}")
    elif reasons := list(what_is_new(patient.project, manifest)):
        yield warning("published snapshot", f"{said} is stale: {'; '.join(reasons)}", f"Take it in: {patient.command('run')}")
    else:
        yield ok("published snapshot", f"{said}, holds every file")


def refused_files(patient: Patient) -> Iterator[Finding]:
    with _log(patient) as connection:
        found = rows(connection, "select source, file, error from raw.ingestion_log where status = 'refused' order by source, file") if connection else []
    if not found:
        yield ok("refused files", "none")
        return
    names = [f"{source}: {Path(str(file)).name}" for source, file, _ in found]
    why = str(found[0][2]).strip().splitlines()
    yield warning(
        "refused files", f"{counted(len(found), 'file')} ({listed(names)}); the first because: {why[0] if why else 'no reason is kept'}",
        f"{why[1].strip() if len(why) > 1 else 'Mend the file or its mapping.'} Then: {patient.command('run')}",
    )  # fmt: skip


def checks_of_data(patient: Patient) -> Iterator[Finding]:
    """The latest result of each rule, as `waymark quality` has it."""
    with _log(patient, "quality.check_results") as connection:
        latest = "select * from quality.check_results qualify row_number() over (partition by table_name, rule order by checked_at desc) = 1"
        found = rows(connection, f"select rule, is_blocking, failing_count from ({latest}) where status = 'failed' order by rule") if connection else []
    for blocking in (True, False):
        failed = [f"{rule} ({counted(int(str(count)), 'row')})" for rule, blocks, count in found if bool(blocks) is blocking]
        if failed:
            make = problem if blocking else warning
            what = "blocking rules failed, so nothing newer is published" if blocking else "rules failed that stop nothing"
            yield make("checks of data", f"{what}: {listed(failed)}", f"See the rows' keys, and what the rule means: {patient.command('quality')}")
    if not found:
        yield ok("checks of data", "none failed")


def models(patient: Patient) -> Iterator[Finding]:
    """MLflow's store, and the files of the version that scores."""
    from ml.registry import champion

    store = patient.home.mlflow / "mlflow.db"
    if not store.exists():
        yield ok("models", "none trained yet")
        return
    try:
        with closing(sqlite3.connect(read_only_address(store), uri=True)) as connection:
            verdict = str(connection.execute("pragma quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        yield problem("models", f"MLflow's store is damaged: {verdict}", f"Restore {store} from a backup, or move {patient.home.mlflow} away and train anew.")
        return
    known = champion(patient.home, _MODEL)
    if known and not known.folder.is_dir():
        remedy = f"Put {known.folder} back, give the alias champion to another version in MLflow, or: {patient.command('train')}"
        yield problem("models", f"the files of the champion (version {known.version}) are gone", remedy)
    else:
        yield ok("models", f"champion: version {known.version}" if known else "no champion yet")


@contextmanager
def _log(patient: Patient, table: str = "raw.ingestion_log") -> Iterator[Connection | None]:
    """Whatever has the log: the warehouse, else (while it is written, or where it cannot be opened) the published snapshot, else None."""
    for place, path in ((patient.warehouse, patient.home.warehouse), (patient.published, patient.home.published)):
        if not path.exists():
            continue
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(place())
            except (BeingWrittenError, StorageError):
                continue
            if has_table(connection, table):
                yield connection
                return
    yield None
