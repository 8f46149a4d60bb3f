"""`waymark privacy erase`: persons leave everything that the home keeps, from landing to what is published, models included; a certificate says so.

A request goes through PHASES in order. Each may be repeated and writes down that it is done, so an erasure that was cut short goes on where it was; until
its end no run starts. Before the first byte changes, tombstones are set and what the persons left is written down; afterwards a scan of the whole home must
find nothing of it. Until the lake is done, all that names them counts as before the erasure, whatever its time: their tombstones then get their own.

Decision: every table is rebuilt from the lake. Context: a link, a first touch or a score of somebody else may rest on what leaves. Consequence: an erasure
costs a full refresh, for one person or a thousand; and what stands afterwards is what would stand if they had never been.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ml.models.propensity import MODEL
from waymark.core.clock import wall_now
from waymark.core.errors import WaymarkError
from waymark.core.node_letters import node_letters
from waymark.core.quoting import name
from waymark.core.services import noted_services
from waymark.core.settings import OPERATOR_SOURCE, Project
from waymark.core.warehouse import Connection, has_table, outputs_of, rows
from waymark.identity.linkage import NothingToEstimateError, has_estimation, remove_estimations, remove_other_estimations
from waymark.ingestion.erased import Erased, to_come
from waymark.ingestion.erasing import Copy, LandingCopies, erase_from_lake, orders_of
from waymark.ingestion.quarantine import count_quarantined, erase_quarantined
from waymark.ingestion.removal import EVENT_KEY
from waymark.ingestion.tables import build_views, create_tables, lake_sources
from waymark.pipeline import learning, steps
from waymark.pipeline.landing_journal import LandingJournal
from waymark.pipeline.linkage import EXPERIMENT, compares, estimate_links
from waymark.pipeline.progress import Stage, notice, tell
from waymark.pipeline.publish import write_anew
from waymark.pipeline.subjects import Subject, words_about
from waymark.pipeline.traces import collect_events, file_names, ids_in_marts, landed_since, needles_of, of_others, search_of, with_older
from waymark.pipeline.upgrade import drop_derived, rebuild
from waymark.privacy import identifier_message
from waymark.privacy.audit import AuditLog
from waymark.privacy.needles import is_hash, words_of
from waymark.privacy.requests import (
    Request,
    Working,
    audited_digest,
    certificate,
    forget_other_working,
    forget_working,
    load_working,
    new_request,
    save,
    save_working,
    unfinished,
    working_path,
)
from waymark.privacy.roles import ROLES
from waymark.privacy.scanner import ScanReport, finder, scan, scrub_stores
from waymark.privacy.struck import strike
from waymark.privacy.subjects import SubjectReferences
from waymark.privacy.text_search import TextSearch
from waymark.privacy.tombstones import FOR_EVER, erasure_key, first_erasure_key, has_tombstones, tombstone

PHASES = ("collected", "landing", "quarantine", "lake", "records", "models", "rebuilt", "forgotten", "certified")
_LONG = 12  # an id of its own source that is as long as this is looked for without its namespace, too
_BEGINNING = "0001-01-01 00:00:00"


def refuse_open(project: Project) -> None:
    """Raises WaymarkError where an erasure is not done, or services hold the home's stores open: nobody can be erased then."""
    if left := unfinished(project.home):
        raise WaymarkError(f"the erasure {left.request_id} did not come to its end", remedy="Go on with it first: waymark privacy erase --continue")
    _refuse_services(project)


def _refuse_services(project: Project) -> None:
    if running := [service for service in noted_services(project.home) if service.is_held]:
        raise WaymarkError(
            f"waymark {running[0].command} runs on this home, and its stores are open", remedy="Stop it (Ctrl-C in its terminal), then go on with the erasure."
        )


def ask(project: Project, subjects: Sequence[Subject], *, because: str, clear: Collection[str] = ()) -> Request:
    """Writes a request down; `go_on` carries it out. Hold the writer lock since `subjects_of`.

    clear: identifiers in plain text, which the scan then looks for, too. Raises WaymarkError without a reason, where the reason names one of the persons, or
    where `refuse_open` does; StorageError where the key of earlier tombstones is gone.
    """
    if not because.strip():
        raise WaymarkError("an erasure needs a reason", remedy="Say why: --because TEXT")
    refuse_open(project)
    run = steps.preflight(project)
    identifiers = {pair for subject in subjects for pair in subject.identifiers}
    own = {value.partition(":")[2] for kind, value in identifiers if kind in ("anonymous_id", "user_id")}
    customers = {customer for subject in subjects for customer in subject.customers}
    nodes = {node for subject in subjects for node in subject.nodes}
    with run.open_warehouse() as connection:
        key = first_erasure_key(project.home, buried=has_tombstones(connection))
        bare = {text for text in own if len(text) >= _LONG} | set(clear)
        customers = with_older(connection, customers)
        named = {value for _, value in identifiers} | (bare - of_others(connection, identifiers, bare))
    made = {text for text in named if is_hash(text)} | customers | {node_letters(node) for node in nodes}
    working = Working(
        tombstones=sorted([kind, tombstone(key, kind, value)] for kind, value in identifiers), customers=sorted(customers), nodes=sorted(nodes),
        made=sorted(made), texts=sorted(named - made),
    )  # fmt: skip
    hashed = {kind for kind, value in identifiers if is_hash(value)}
    if needles_of(working).are_in(because) or any(
        (kind, run.secret.hmac(identifier_message(kind, word))) in identifiers for kind in hashed for word in words_of(because)
    ):
        raise WaymarkError("the reason names one of the persons, and it is kept in the certificate", remedy="Say it without: --because 'request 17'")
    file_names(run, working).refuse()
    request = new_request(len(subjects), because.strip())
    forget_other_working(project.home)
    save_working(project.home, request, working)
    save(project.home, request)
    return request


def go_on(project: Project, request: Request, *, after: Callable[[str], None] = lambda _: None) -> Request:
    """Carries out what is left of a request. Hold the writer lock. after: called with the name of each phase once it is done.

    Raises StorageError where the disk refuses, AuditError where a blocking check fails, WaymarkError where a scan still finds something; each time the
    request stays open, and this may be called again.
    """
    _refuse_services(project)
    forget_other_working(project.home, request)
    done = PHASES.index(request.phase) + 1 if request.phase in PHASES else 0
    if done < len(PHASES):
        run = steps.preflight(project, erasing=True)
        if done <= PHASES.index("rebuilt"):
            project.home.mark_unpublished()
        work = _Erasure(run, request, load_working(project.home, request))
        for phase in PHASES[done:]:
            with Stage(f"erase: {phase}") as stage:
                stage.detail = work.step(phase)
            request.phase = phase
            save_working(project.home, request, work.working)
            save(project.home, request)
            after(phase)
    # In this order: a request that is done has nothing left that speaks of the persons.
    forget_working(project.home, request)
    request.completed_at = wall_now().isoformat(timespec="microseconds")
    save(project.home, request)
    return request


class _Erasure:
    def __init__(self, run: steps.Run, request: Request, working: Working) -> None:
        self.run, self.request, self.working = run, request, working
        self.home, self.found = run.project.home, working.found

    def step(self, phase: str) -> str:
        """Does a phase; says in words what it did."""
        steps_of: dict[str, Callable[[], str]] = {
            "collected": self.collect, "landing": self.landing, "quarantine": self.quarantine, "lake": self.lake, "records": self.records,
            "models": self.models, "rebuilt": self.rebuilt, "forgotten": self.forget, "certified": self.certify,
        }  # fmt: skip
        return steps_of[phase]()

    def collect(self) -> str:
        """Sets the tombstones, and writes down what will have to be gone."""
        with self.run.open_warehouse() as connection:
            create_tables(connection, self.home.root)
            build_views(connection, lake_sources(connection))
            self._set_tombstones(connection)
            self._words(connection)
            events = self._events(connection)
            if orders := orders_of(connection, lake_sources(connection), "erased_events"):
                key = erasure_key(self.home)
                more = [["order_id", tombstone(key, "order_id", order)] for order in orders]
                self.working.tombstones += [told for told in more if told not in self.working.tombstones]
                self._set_tombstones(connection)
                events = self._events(connection)
            self.working.customers = sorted(with_older(connection, self.working.customers))
            found = rows(connection, f"select event_id, {EVENT_KEY}, is_whole, occurred_at from erased_events order by occurred_at, event_id")
            self.working.keys = sorted({*self.working.keys, *(int(str(key)) for _, key, is_whole, _ in found if is_whole)})
            marts = ids_in_marts(connection, self.working.customers, "select event_id from erased_events where is_whole")
            self.working.made = sorted({*self.working.made, *self.working.customers, *marts, *(str(event) for event, _, is_whole, _ in found if is_whole)})
            # Of what retention removed nobody can tell any more whose it was, nor which model knew it.
            aged = rows(connection, "select 1 from raw.removals where reason <> 'erasure' limit 1")
            self.working.since = _BEGINNING if aged else str(found[0][3]) if found else ""
            latest = rows(connection, f"select max(occurred_at) from erased_events where not ({to_come('occurred_at')})")[0][0]
            self.working.until = max(self.request.requested_at.replace("T", " "), str(latest or ""))
            self.working.compared = bool(aged) or compares(connection, "erased_events")
            connection.execute("drop table erased_events")
        self._champion()
        return f"{events:,} events"

    def _set_tombstones(self, connection: Connection) -> None:
        told = self.working.tombstones
        connection.begin()
        connection.execute("delete from raw.tombstones where request_id = ?", [self.request.request_id])
        # Of a request whose file somebody removed, because it could not go on, nobody says any more until when they count.
        connection.execute("update raw.tombstones set until = ?::timestamp where until = ?::timestamp", [self.request.requested_at, FOR_EVER])
        connection.execute(
            "insert into raw.tombstones select unnest(?::varchar[]), unnest(?::varchar[]), ?::timestamp, ?",
            [[digest for _, digest in told], [kind for kind, _ in told], FOR_EVER, self.request.request_id],
        )
        connection.commit()

    def _words(self, connection: Connection) -> None:
        """An operator's words about the persons' identifiers."""
        said = words_about(connection, self.working.nodes)
        self.working.words = [event for event, _ in said]
        self.working.word_files = [f"{ordinal:06d}.ndjson" for _, ordinal in said]

    def _events(self, connection: Connection) -> int:
        """Collects, over all sources, what leaves the lake."""
        sources, search = lake_sources(connection), search_of(connection, self.working)
        return collect_events(connection, sources, self._erased(connection), self.working.words, search)

    def _champion(self) -> None:
        from ml.registry import champion

        known = champion(self.home, MODEL)
        if known and self.working.since and known.data_now >= self.working.since:
            self.working.champion = known.data_now

    def landing(self) -> str:
        """Files in the home's landing folder; each as soon as it is done."""
        self._rename()
        began, names = wall_now(), file_names(self.run, self.working, self.request.request_id)
        journal, outside, unread = LandingJournal(self.home, self.request.request_id), list[Copy](), list[Copy]()
        done, begun = journal.read()
        for file in self.working.word_files:
            (self.home.landing / OPERATOR_SOURCE / file).unlink(missing_ok=True)
        with self.run.open_warehouse() as connection:
            landed = LandingCopies(self.run.project, self.run.mappings, self._erased(connection), TextSearch(connection, needles_of(self.working)))
            if begun and landed.finish(begun):
                journal.end(begun)
                done.append(begun)
            for copy in landed.erase(told=lambda file: tell(f"erase: landing: {file}"), about=journal.begin):
                if copy.new_digest != copy.old_digest:
                    journal.end(copy)
                    done.append(copy)
                else:
                    (outside if copy.is_read else unread).append(copy)
        copies: list[dict[str, object]] = self.found.setdefault("landing", [])  # type: ignore[assignment]
        # One that is called after them may have come since the erasure was asked for.
        told = [[asdict(replace(copy, file=names.without(copy.file))) for copy in files] for files in (done, outside, unread)]
        copies += [copy for copy in told[0] if copy not in copies]
        self.found["outside"], self.found["unread"] = told[1:]
        self.working.landed_from = began.isoformat()
        save_working(self.home, self.request, self.working)
        journal.forget()
        struck = sum(int(str(copy["struck"])) for copy in copies)
        return f"{struck:,} records struck from {len(copies):,} files; {len(outside):,} files outside of the home name them; {len(unread):,} cannot be read"

    def _rename(self) -> None:
        """What the home says of files that were called after them."""

        def note(names: set[str]) -> None:
            self.working.names = sorted({*self.working.names, *names})
            save_working(self.home, self.request, self.working)

        with self.run.open_warehouse() as connection:
            file_names(self.run, self.working, self.request.request_id).rename(connection, note)

    def quarantine(self) -> str:
        with self.run.open_warehouse() as connection:
            if "refused_rows" not in self.working.counted:
                self.working.counted["refused_rows"] = count_quarantined(connection)
                save_working(self.home, self.request, self.working)
            erase_quarantined(self.run.project, self.run.mappings, connection, self.run.secret, search_of(connection, self.working))
            count = self.working.counted["refused_rows"] - count_quarantined(connection)
        self.found["refused_rows"] = count
        return f"{count:,} refused rows"

    def lake(self) -> str:
        def rebuild_all() -> None:
            connection.execute("update raw.build_state set full_refresh_needed = true")

        with self.run.open_warehouse() as connection:
            sources = lake_sources(connection)
            build_views(connection, sources)
            search = search_of(connection, self.working)
            erase_from_lake(connection, self.home, sources, self._erased(connection), words=self.working.words, search=search, and_then=rebuild_all)
            until = self.working.until or self.request.requested_at
            connection.execute("update raw.tombstones set until = ?::timestamp where request_id = ?", [until, self.request.request_id])
            counted = rows(connection, """
                select source, sum(rows_removed)::bigint from raw.removals where reason = 'erasure' and removed_at >= ?::timestamp
                group by source order by source
            """, [self.request.requested_at])  # fmt: skip
        self.found["events"] = {str(source): int(str(count)) for source, count in counted}
        return f"{sum(int(str(count)) for _, count in counted):,} events removed"

    def records(self) -> str:
        """What is a record and tells of the persons goes; what is derived goes whole; both files are written anew, without a freed block."""
        with self.run.open_warehouse() as connection:
            if has_table(connection, "identity.restatements"):
                listed = "list_contains($customers, customer_before) or list_contains($customers, customer_after)"
                connection.execute(f"delete from identity.restatements where {listed}", {"customers": self.working.customers})
            if has_table(connection, "quality.check_results"):
                needles = needles_of(self.working)
                told = rows(connection, "select distinct failing_keys from quality.check_results where failing_keys <> '[]' order by failing_keys")
                naming = [str(keys) for (keys,) in told if needles.are_in(str(keys))]
                connection.execute("update quality.check_results set failing_keys = '[]' where list_contains(?::varchar[], failing_keys)", [naming])
            drop_derived(connection)
            for (view,) in rows(connection, "select view_name from duckdb_views() where schema_name = 'raw' and not internal order by view_name"):
                connection.execute(f"drop view raw.{name(str(view))}")
            connection.execute("checkpoint")
        for path in (self.run.warehouse, outputs_of(self.run.warehouse)):
            write_anew(self.run, path)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
        for folder in (self.home.quality, self.home.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        self.home.ensure()
        return "both files of the warehouse written anew"

    def models(self) -> str:
        from ml.registry import forget_trainings

        known: list[str] = self.found.setdefault("versions_deleted", [])  # type: ignore[assignment]

        def note(versions: Sequence[str]) -> None:
            known.extend(version for version in versions if version not in known)
            save_working(self.home, self.request, self.working)

        if self.working.since:
            forget_trainings(self.home, MODEL, self.working.since, told=note)
        if known or self.working.champion:
            learning.forget_last_training(self.home)
        return f"{len(known)} versions deleted"

    def rebuilt(self) -> str:
        snapshot = rebuild(self.run, before_identity=self._estimate, before_scores=self._train)
        self.found["snapshot_id"] = snapshot.snapshot_id
        return f"snapshot {snapshot.snapshot_id}"

    def _estimate(self) -> None:
        """An estimation of how alike records are, made from theirs too, is made again; where too few are left for one, there is none any more."""
        from ml.registry import forget_trainings

        if self.working.compared and has_estimation(self.home):
            forget_trainings(self.home, EXPERIMENT, self.working.since)
            try:
                self.found["estimation"] = estimate_links(self.run, tell).estimation.version
            except NothingToEstimateError as error:
                remove_estimations(self.home)
                self.found["estimation_removed"] = error.what
                notice(f"Nobody is linked by names and addresses any more, as no estimation can be made without them: {error.what}.")
            else:
                remove_other_estimations(self.home)

    def _train(self) -> None:
        """The champion that had learnt from them has a successor, which knew the same points; until then nobody is scored."""
        from ml.registry import champion

        if not self.working.champion:
            return
        known = champion(self.home, MODEL)
        if known is None:
            report = learning.train_again(self.run, as_of=self.working.champion)
            if report.outcome != "trained":
                notice(f"No champion takes the place of the one that had learnt from them: {'; '.join(report.sentences)}")
            self.found["retrained"] = {"outcome": report.outcome, "version": report.version, "said": list(report.sentences)}
        elif "retrained" not in self.found:
            self.found["retrained"] = {"outcome": "trained", "version": known.version, "said": []}

    def forget(self) -> str:
        """References of the audit log, and what Dagster's stores and other files of logs still say."""
        forgotten = SubjectReferences(self.home).forget(self.working.customers)
        gone: dict[str, int] = self.found.setdefault("log_rows_of", {})  # type: ignore[assignment]

        def note(store: Path, count: int) -> None:
            gone[str(store.relative_to(self.home.root))] = count
            save_working(self.home, self.request, self.working)

        needles = needles_of(self.working)
        scrub_stores(self.home.dagster, replace(needles, given=needles.given | frozenset(self.working.names)), told=note)
        self.found["log_rows"] = sum(gone.values())
        return f"{forgotten:,} references of the audit log, {sum(gone.values()):,} rows of Dagster's logs"

    def certify(self) -> str:
        """Looks everywhere, and says what was found: nothing, or there is no certificate."""
        self._strike()
        found = self._scan()
        if found.total:
            places = "; ".join(f"{where} ({count})" for where, count in sorted(found.found.items())[:5])
            raise WaymarkError(
                f"something of them is still there: {places}", where=str(self.home.root),
                remedy="Files of yours: strike it from them, or remove them, then: waymark privacy erase --continue. Please report it if they are Waymark's.",
            )  # fmt: skip
        if not self.request.certificate:
            facts = {key: value for key, value in self.found.items() if key != "log_rows_of"}
            texts = len(needles_of(self.working).all)
            looked = {"files": found.files, "bytes": found.bytes, "columns": found.columns, "found": found.total, "texts": texts}
            self.request.certificate = certificate(self.home, self.request, {
                **facts, "tombstones": len(self.working.tombstones), "scan": looked, "certified_at": wall_now().isoformat(timespec="seconds"),
            })  # fmt: skip
            save(self.home, self.request)
        if audited_digest(self.home, self.request.request_id) is None:
            details = {"request_id": self.request.request_id, "persons": self.request.persons, "certificate": self.request.certificate["digest"]}
            AuditLog(self.home).append("person_erased", details=details)
        return f"{found.files:,} files and {found.columns:,} columns looked at: nothing of them is left"

    def _strike(self) -> None:
        """Whoever has a role can have written anything to the log of who read its file, and nothing else takes it out."""
        holds = finder(needles_of(self.working))
        for role in ROLES:
            if count := strike(self.home, role, holds, request_id=self.request.request_id):
                notice(f"{count} lines of the log of who read the file of role {role} named them, and are struck")
                done: dict[str, int] = self.found.setdefault("lines_struck", {})  # type: ignore[assignment]
                done[role] = done.get(role, 0) + count
                save_working(self.home, self.request, self.working)

    def _scan(self) -> ScanReport:
        copies: list[dict[str, str]] = self.found.get("landing", [])  # type: ignore[assignment]
        since = landed_since(self.home, self.working.landed_from, {copy["new_digest"] for copy in copies})
        names = file_names(self.run, self.working, self.request.request_id)
        self.found["landed_since"] = [str(Path(names.without(str(path))).relative_to(self.home.landing)) for path in since]
        made_of_events = [self.home.lake, self.run.warehouse, outputs_of(self.run.warehouse), self.home.published_dir]
        besides = [working_path(self.home, self.request), *since]
        return scan(self.home, needles_of(self.working), besides=besides, made_of_events=made_of_events, progress=tell)

    def _erased(self, connection: Connection) -> Erased:
        erased = Erased.open(connection, self.home, self.run.secret)
        assert erased is not None  # the tombstones are set first
        return erased
