"""The steps of a run, in order. Each opens the warehouse for itself, commits what it did, and closes it; each can be repeated.

A run is: preflight, prepare, ingest every source, transform_events, resolve, transform_marts, finish, publish. What a killed run left
is taken up by the next: ingestion commits file batches whole, and what a batch touched stays pending until `finish`. Whatever changes marks the home as
unpublished before it does, and a publication takes the mark away: a look that changes nothing, such as an audit, leaves none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from expectations.rules import STAGES
from waymark.core.digest import table_sums
from waymark.core.errors import AuditError, SettingsError, StorageError, WaymarkError
from waymark.core.home import read_json
from waymark.core.quoting import literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, connect, has_table, rows, storage_problem
from waymark.identity import IdentityReport, clear_restatements, prepare_identity, request_days, resolve_identities
from waymark.identity.probable import Link
from waymark.ingestion import (
    CONTENT_COLUMNS,
    IngestReport,
    Mapping,
    ingest_source,
    load_mapping,
    mark_pending,
    mark_transformed,
    prepare_raw,
    purge_expired,
    removed_rows,
    restate_clock,
    settle_checks,
)
from waymark.pipeline.code import build_digest
from waymark.pipeline.dbt_project import DbtProject, NodeResult
from waymark.pipeline.linkage import links_of
from waymark.pipeline.progress import Stage, notice, refuse, tell
from waymark.pipeline.retention import apply_retention
from waymark.pipeline.role_files import close_to_others
from waymark.privacy import Secret, load_secret
from waymark.privacy.requests import unfinished

BEFORE_IDENTITY = "tag:before_identity"


@dataclass
class Run:
    """A project about to run: what preflight has checked. Made by `preflight`."""

    project: Project
    mappings: dict[str, Mapping]
    secret: Secret
    dbt: DbtProject
    warehouse: Path

    @contextmanager
    def open_warehouse(self) -> Iterator[Connection]:
        """The warehouse, with a full disk or a missing permission told in words."""
        connection = connect(self.warehouse, engine=self.project.settings.engine, scratch=self.project.home.scratch)
        try:
            yield connection
        except Exception as error:
            if not isinstance(error, WaymarkError) and (problem := storage_problem(error, str(self.project.home.root))):
                raise problem from error
            raise
        finally:
            connection.close()

    def mark_unpublished(self) -> None:
        """Call it before anything changes of what is published, or of what that is made from. No reader sees a scratch warehouse."""
        if self.warehouse == self.project.home.warehouse:
            self.project.home.mark_unpublished()


def preflight(project: Project, *, upgrading: bool = False, erasing: bool = False) -> Run:
    """Everything that can be refused before anything is written: home, secret, mappings, rates, an erasure that did not come to its end.

    upgrading: a home of an older schema version is let pass; erasing: so is such an erasure. Raises StorageError, SecretError, SettingsError or MappingError.
    """
    project.home.ensure(upgrading=upgrading)
    if not erasing and (left := unfinished(project.home)):
        raise StorageError(
            f"the erasure {left.request_id} did not come to its end", where=str(project.home.privacy), remedy="Go on with it: waymark privacy erase --continue"
        )
    if project.settings.access.roles:
        close_to_others(project.home)
    mappings = {source: load_mapping(project.mapping_path(source)) for source in project.settings.sources}
    for source, mapping in mappings.items():
        if mapping.source != source:
            raise SettingsError(
                f"the mapping is for '{mapping.source}', waymark.yml calls the source '{source}'",
                where=str(project.mapping_path(source)),
                remedy="Give both the same name.",
            )
    secret = load_secret(project, notice=notice)
    dbt = DbtProject(project, project.home.warehouse, project.home.dbt)
    return Run(project, mappings, secret, dbt, project.home.warehouse)


def prepare(run: Run, *, full_refresh: bool = False) -> bool:
    """Makes what is missing in the warehouse, takes up what a killed run left, and says whether this run rebuilds every model.

    Raises SettingsError if a setting changed that needs `--full-refresh`, and it was not given. A run that rebuilds what no reader has seen needs none:
    a first one that stopped, say, because a currency had no rate.
    """
    with run.open_warehouse() as connection:
        prepare_raw(connection, run.mappings, run.project.home)
        purge_expired(connection, run.project.home, run.project.settings.ingestion.quarantine_days)
        prepare_identity(connection)
        connection.execute("create table if not exists raw.build_state (full_refresh_needed boolean, settings_digest varchar, build_digest varchar)")
        settings, code = run.project.refresh_digest, build_digest(run.project)
        state = rows(connection, "select full_refresh_needed, settings_digest, build_digest from raw.build_state")
        if not state:
            run.mark_unpublished()
            restate_clock(connection, run.mappings)
            connection.execute("insert into raw.build_state values (true, ?, ?)", [settings, code])
            return True
        needed, built_settings, built_code = state[0]
        if built_settings != settings and not full_refresh and not (needed and _never_published(run.project, built_settings)):
            raise _settings_changed(run.project)
        if built_code != code and not needed:
            notice("The models or the sources changed since the last run: every table is rebuilt.")
        rebuild = bool(needed) or full_refresh or built_code != code
        if rebuild:
            run.mark_unpublished()
            restate_clock(connection, run.mappings)
        connection.execute("update raw.build_state set full_refresh_needed = ?, settings_digest = ?, build_digest = ?", [rebuild, settings, code])
        return rebuild


def _never_published(project: Project, settings_digest: object) -> bool:
    """Whether no snapshot stands that was made by these settings."""
    manifest = read_json(project.home.manifest) if project.home.published.exists() else None
    return manifest is None or manifest.get("settings_digest") != settings_digest


def _settings_changed(project: Project) -> SettingsError:
    return SettingsError(
        "a setting changed that binds tables already built (time, counting, identity, consent, money with its rates, goals, stages, micro_conversions or "
        "channels)",
        where=str(project.directory / "waymark.yml"), remedy="Run again with --full-refresh, or take the change back.",
    )  # fmt: skip


def refuse_changed_settings(project: Project) -> None:
    """What `prepare` would refuse, told from the published manifest, before an orchestrator is loaded. Raises SettingsError."""
    manifest = read_json(project.home.manifest) if project.home.published.exists() and not project.home.unpublished.exists() else None
    if manifest and manifest.get("settings_digest") != project.refresh_digest:
        raise _settings_changed(project)


_ASKED = "select (select count(*) from raw.lake_files where is_pending), (select count(*) from identity.restated_days)"


def restate_days(run: Run, first: date, last: date) -> int:
    """Asks that what touches these days (UTC, both included) is stated anew, by the steps that follow. Returns the number of events of those days.

    The days' events become pending again, so they take the path of new ones: one transaction, and a killed run is taken up by the next. Events stay
    what they are, so a re-statement of sound tables changes nothing.
    """
    with Stage("re-state days") as stage, run.open_warehouse() as connection:
        connection.begin()
        asked = rows(connection, _ASKED)
        stage.rows = mark_pending(connection, run.mappings, first, last)
        if stage.rows:
            run.mark_unpublished()
            request_days(connection, first, last)
            if rows(connection, _ASKED) != asked:  # else runs that make table after table for the same days would never come to an end
                _forget_stated(connection)
        connection.commit()
        stage.detail = f"{stage.rows:,} events of {first} to {last}"
    return stage.rows


def pending_days(run: Run) -> dict[date, int]:
    """Events by day (UTC) that no finished run has seen, sorted by day."""
    with run.open_warehouse() as connection:
        found = rows(connection, """
            select cast(regexp_extract(path, 'event_date=(\\d{4}-\\d{2}-\\d{2})', 1) as date) as day, sum(rows)::bigint
            from raw.lake_files where is_pending and list_contains($sources, source) group by day order by day
        """, {"sources": sorted(run.mappings)})  # fmt: skip
    return {date.fromisoformat(str(day)): int(str(count)) for day, count in found}


def ingest(run: Run, source: str) -> IngestReport:
    """Takes in the source's new files. Files that cannot be read are refused and listed in the report; the rest go on."""
    with Stage(f"ingest {source}") as stage, run.open_warehouse() as connection:
        report = ingest_source(run.project, source, connection, run.secret, progress=tell)
        stage.rows = report.rows_read
        stage.detail = f"{report.rows_accepted:,} accepted, {report.rows_duplicate:,} duplicate, {report.rows_quarantined:,} quarantined"
    for text in report.notes:
        notice(f"{source}: {text}")
    for refusal in report.refused:
        refuse(refusal)
    return report


def rebuilding(run: Run) -> bool:
    """Whether this run rebuilds every model (first run, `--full-refresh`, other code, or a killed rebuild)."""
    with run.open_warehouse() as connection:
        return bool(rows(connection, "select full_refresh_needed from raw.build_state")[0][0])


def transform_events(run: Run) -> list[NodeResult]:
    """dbt, first selection: events typed and classified, before people are resolved. First goes what is too old: all sources are taken in by now."""
    apply_retention(run)
    return _build(run, "events", select=BEFORE_IDENTITY)


def transform_marts(run: Run) -> list[NodeResult]:
    """dbt, second selection: sessions, journeys, marts."""
    return _build(run, "sessions, journeys, marts", exclude=BEFORE_IDENTITY)


def transform_models(run: Run, names: Collection[str]) -> list[NodeResult]:
    """dbt, some models or tests by name, with the tests that need nothing else. `stated` says what may be built by itself."""
    return _build(run, ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else ""), select=" ".join(sorted(names)), alone=True)


def _build(run: Run, name: str, *, select: str | None = None, exclude: str | None = None, alone: bool = False) -> list[NodeResult]:
    full_refresh = rebuilding(run)
    run.mark_unpublished()
    with Stage(name) as stage:
        run.dbt.assemble()
        results = run.dbt.build(select=select, exclude=exclude, full_refresh=full_refresh, alone=alone, on_node=lambda node: tell(f"{name}: {node.name}"))
        models = [node for node in results if node.kind in ("model", "seed")]
        checks = [node for node in results if node.kind == "test"]
        stage.detail = f"{len(models)} tables, {len(checks)} checks, {'rebuilt' if full_refresh else 're-stated'}"
    return results


def resolve(run: Run, *, quiet: bool = False, link: Link | None = None) -> IdentityReport:
    """Links, components, customer ids, and what the second selection must re-state; one transaction.

    quiet: is no stage of the run that is told. link: in the place of the project's own probable links.
    """
    full_refresh = rebuilding(run)
    run.mark_unpublished()
    with Stage("identity", quiet=quiet) as stage, run.open_warehouse() as connection:
        report = resolve_identities(
            connection, settings=run.project.settings, customer_id_pads=run.secret.pads, full_refresh=full_refresh,
            link=link or links_of(run), progress=tell,
        )  # fmt: skip
        stage.rows = report.nodes
        stage.detail = f"{report.customers:,} customers, {report.edges:,} links, {report.over_shared:,} identifiers shared by too many"
    return report


def finish(run: Run) -> None:
    """Clears what was pending, once every model holds it and its checks have passed: the caller sees to these, for what is cleared no increment checks again.

    Raises WaymarkError, and clears nothing, if pending events have not gone through the models.
    """
    with run.open_warehouse() as connection:
        for source in sorted(run.mappings):
            if unseen := _unseen(connection, source):
                raise WaymarkError(
                    f"{unseen} accepted events are not in the models yet", where=source, remedy="Materialize the models before the snapshot, or: waymark run"
                )
        connection.begin()
        mark_transformed(connection, run.mappings)
        clear_restatements(connection)
        settle_checks(connection, STAGES)
        _forget_stated(connection)
        connection.execute("update raw.build_state set full_refresh_needed = false")
        connection.commit()


def _forget_stated(connection: Connection) -> None:
    """What was made of what was pending says nothing of what is pending next, in however many files (waymark.pipeline.stated). Part of a transaction."""
    if has_table(connection, "raw.stated"):
        connection.execute("delete from raw.stated")


def _unseen(connection: Connection, source: str) -> int:
    """Pending events that the table of events lacks, or of which it holds another content."""
    if not _are_all_events(connection, source):
        # Counted, not asked row by row, so that the engine looks at the times of all events and at the text of few.
        missing = rows(connection, f"""
            select (select count(*) from raw."{source}_pending") - (
                select count(distinct event.event_id) from marts.fct_events event join raw."{source}_pending" pending using (occurred_at, event_id)
            )
        """)[0][0]  # fmt: skip
        if missing:
            return int(str(missing))
    # Only an id that arrived with several contents can stand there with another. They are few and noted first: the engine, left to guess how many there are
    # among a hundred million, sorts the others' contents, too.
    connection.execute(f"""
        create or replace temp table contested as
        select event_id from raw."{source}_pending" where event_id in (select event_id from raw.event_conflicts)
    """)
    if not rows(connection, "select 1 from contested limit 1"):
        return 0
    content = ", ".join(["event_id", *(f'"{column}"' for column in CONTENT_COLUMNS if column != "is_internal"), "coalesce(is_internal, false)"])
    changed = rows(connection, f"""
        select count(*) from (
            select {content} from raw."{source}_pending" where event_id in (select event_id from contested)
            except
            select {content} from marts.fct_events
            where event_id in (select event_id from contested) and occurred_at in (select occurred_at from raw.event_conflicts)
        )
    """)[0][0]  # fmt: skip
    return int(str(changed))


def _are_all_events(connection: Connection, source: str) -> bool:
    """The source's pending events are those of the table of events, all and no other: so after a rebuild, where a join of them with themselves would spill."""
    pending, held = f'raw."{source}_pending"', f"(from marts.fct_events where source = {literal(source)})"
    (pending_count,), (held_count,) = (rows(connection, f"select count(*) from {relation}")[0] for relation in (pending, held))
    key = ["occurred_at", "event_id"]
    return pending_count == held_count and table_sums(connection, pending, key) == table_sums(connection, held, key)


def audit_ingestion(connection: Connection, sources: Collection[str]) -> dict[str, int]:
    """The conservation law: rows read = accepted + duplicates + quarantined, a file; rows present = accepted - removed, a source.

    Returns present rows by source, for those that the project still names. Raises AuditError that names the file or the source.
    """
    broken = rows(connection, """
        select source, file from raw.ingestion_log
        where status = 'ingested' and rows_read <> rows_accepted + rows_duplicate + rows_quarantined
        order by source, file limit 1
    """)  # fmt: skip
    if broken:
        raise AuditError(
            "rows read are not accepted + duplicates + quarantined",
            where=f"{broken[0][0]}: {broken[0][1]}",
            remedy="Nothing was published. Run `waymark verify` and report this.",
        )
    accepted = {
        str(source): int(str(count or 0))
        for source, count in rows(connection, "select source, sum(rows_accepted)::bigint from raw.ingestion_log group by source order by source")
    }
    removed = removed_rows(connection)
    for source, count in accepted.items():
        if source not in sources:
            continue
        present = rows(connection, f'select count(*) from raw."{source}_events"')[0][0]
        if present != count - removed.get(source, 0):
            raise AuditError(
                f"{present} rows are in the lake, {count} were accepted" + (f" and {removed[source]} removed" if source in removed else ""),
                where=source,
                remedy="Nothing was published. A lake file was altered or removed: restore lake/raw, or ingest into a fresh home.",
            )
    return {source: count - removed.get(source, 0) for source, count in accepted.items() if source in sources}


def audit(connection: Connection, sources: Collection[str]) -> None:
    """What must hold before anything is published. Raises AuditError."""
    total = sum(audit_ingestion(connection, sources).values())
    stated = rows(connection, "select count(*) from marts.fct_events")[0][0]
    if stated != total:
        raise AuditError(
            f"marts.fct_events has {stated} rows, {total} are in the lake", remedy="Nothing was published. Run again with --full-refresh and report this."
        )
    audit_scores(connection)


# A score goes by its customer's id of today, the point that it was made at by the id of then (ml/models/propensity/score.py).
_UNFOUNDED_SCORES = """
    select count(*) from marts.fct_propensity_scores as score
    where not exists (
        select 1
        from features.score_points as point left join marts.dim_customer_aliases as alias on alias.alias_customer_id = point.customer_id
        where point.as_of_at = (select data_now from raw.run_clock) and point.as_of_at = score.as_of_at
            and coalesce(alias.customer_id, point.customer_id) = score.customer_id
    )
"""


def audit_scores(connection: Connection) -> None:
    """Every score is of somebody who may be scored as of data_now, and made at that point: none outlives a withdrawal because scoring failed.

    Raises AuditError.
    """
    if not rows(connection, "select 1 from information_schema.tables where table_schema = 'marts' and table_name = 'fct_propensity_scores'"):
        return
    if count := rows(connection, _UNFOUNDED_SCORES)[0][0]:
        raise AuditError(
            f"{count} scores are of an earlier point than data_now, or of persons who may not be scored (any more)",
            where="marts.fct_propensity_scores", remedy="Nothing was published. Score again: materialize marts/fct_propensity_scores, or `waymark run`.",
        )  # fmt: skip
