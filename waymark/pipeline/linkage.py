"""Probabilistic links in a project: estimated when somebody asks for it, brought up to date with the events."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from waymark.core.clock import wall_now
from waymark.core.errors import MappingError, WaymarkError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, first_line, has_table, rows
from waymark.identity.linkage import (
    EstimateReport,
    LinkageReport,
    Part,
    current_estimation,
    estimate,
    estimation_charts,
    facts_sql,
    is_linked_by,
    keep_estimation,
    link_records,
    put_in_force,
    records_sql,
    remove_links,
    version_in_force,
)  # fmt: skip
from waymark.identity.probable import Link
from waymark.ingestion import Mapping as SourceMapping
from waymark.ingestion.tables import comparables_sql
from waymark.pipeline.progress import notice
from waymark.privacy.audit import AuditLog

if TYPE_CHECKING:
    from waymark.pipeline.steps import Run

LOG = "estimations.jsonl"
EXPERIMENT = "identity_linkage"


def compared_parts(mappings: Mapping[str, SourceMapping]) -> list[Part]:
    """The parts that the sources compare, each once. Raises MappingError where two sources say different things of one."""
    found: dict[str, tuple[Part, str]] = {}
    for source, mapping in sorted(mappings.items()):
        for name, compared in mapping.compare.items():
            part = Part(name, compared.kind, compared.household)
            known, other = found.setdefault(name, (part, source))
            if known != part:
                raise MappingError(
                    f"compare.{name}: '{source}' and '{other}' say different things of it",
                    where=str(mapping.path), remedy="Give it the same kind and household in both, or two names.",
                )  # fmt: skip
    return [part for part, _ in found.values()]


def estimate_links(run: Run, progress: Callable[[str], None] | None = None) -> EstimateReport:
    """Estimates from the events of the last run, logs it, and puts it in force: the next run links by it, whether or not it has new files.

    That MLflow does not take its charts is told and no error. Raises NothingToEstimateError where nothing is compared or too little is known, and WaymarkError
    where no run has been finished or the audit log cannot be written: then the estimation before stays in force.
    """
    with run.open_warehouse() as connection:
        _require_events(connection)
        connection.execute(f"create or replace temp table linkage_facts as {facts_sql(comparables_sql(connection))}")
        connection.execute(f"create or replace temp table linkage_known as {records_sql('temp.linkage_facts')}")
        report = estimate(connection, "temp.linkage_known", compared_parts(run.mappings), fingerprint=run.secret.fingerprint, progress=progress)
    _put_in_force(run.project.home, report)
    if progress:
        progress("linkage: charts")
    _record(run.project.home, report)
    return report


def _put_in_force(home: Home, report: EstimateReport) -> None:
    """In this order, so that nothing is in force that no log tells of."""
    estimation = report.estimation
    path = keep_estimation(home, estimation)
    _log(home, path, report)
    details = {"before": version_in_force(home), "after": estimation.version, "number": estimation.number, "records": report.records}
    AuditLog(home).append("links_estimated", details=details)
    home.mark_unpublished()
    put_in_force(home, estimation)


def _record(home: Home, report: EstimateReport) -> None:
    """A run of MLflow's experiment EXPERIMENT: what was estimated from what, and Splink's charts of it. Aggregates alone."""
    try:
        _record_charts(home, report)
    except Exception as error:  # the estimation is in force by now
        notice(f"The estimation {report.estimation.version} is in force and logged; MLflow did not take its charts: {first_line(error)}")


def _record_charts(home: Home, report: EstimateReport) -> None:
    from ml.registry import Recorder

    estimation = report.estimation
    recorder = Recorder(home, EXPERIMENT, name=f"estimation {estimation.version}", tags={"waymark.estimation_version": estimation.version})
    try:
        counts = {"records": report.records, "candidates": report.candidates, "matches": round(report.matches), "em_steps": report.steps}
        shares = {f"known_{name}": round(share, 4) for name, share in report.known.items()}
        recorder.log(params={**counts, **shares, "seed": estimation.seed, "block_limit": estimation.block_limit}, metrics={})
        for name, page in estimation_charts(estimation).items():
            recorder.artifact(f"charts/{name}", page)
        recorder.finished()
    except BaseException:
        recorder.failed()
        raise


def compares(connection: Connection, events: str) -> bool:
    """Whether parts of names stand on any of these events (a relation of event_ids)."""
    return bool(rows(connection, f"select 1 from ({comparables_sql(connection)}) where event_id in (select event_id from {events}) limit 1"))


def is_estimation_waiting(run: Run, connection: Connection) -> bool:
    """Whether the next run links everybody anew, by an estimation that no run has linked by yet."""
    estimation = current_estimation(run.project.home, run.secret.fingerprint) if compared_parts(run.mappings) else None
    return estimation is not None and not is_linked_by(connection, estimation)


def links_of(run: Run) -> Link:
    """`update_links` as identity calls it."""
    return lambda connection, pending_only: update_links(run, connection, pending_only=pending_only)


def update_links(run: Run, connection: Connection, *, pending_only: bool = False) -> LinkageReport | None:
    """Brings identity.probable_links up to date in the caller's transaction; None where nothing was estimated yet, or nothing is compared: then none stands.

    pending_only: the events that no finished run has seen, and those of their ids that changed; else all.
    """
    parts = compared_parts(run.mappings)
    estimation = current_estimation(run.project.home, run.secret.fingerprint) if parts else None
    if estimation is None:
        remove_links(connection)
        return None
    if {told.part for told in estimation.parts} != set(parts):
        raise WaymarkError(
            "the mappings compare other parts than the estimation in force knows", where=", ".join(sorted(part.name for part in parts)),
            remedy="Estimate anew: waymark identity estimate",
        )  # fmt: skip
    touched = "(select event_id from staging.stg_pending_events)" if pending_only else None
    return link_records(connection, estimation, facts_sql(comparables_sql(connection)), touched_events=touched)


def _require_events(connection: Connection) -> None:
    if not has_table(connection, "intermediate.int_events"):
        raise WaymarkError("no run has been finished, so nobody is known", where="intermediate.int_events", remedy="waymark run")


def _log(home: Home, path: Path, report: EstimateReport) -> None:
    line = {
        "estimated_at": wall_now().isoformat(timespec="seconds"), "version": report.estimation.version, "number": report.estimation.number,
        "records": report.records, "candidates": report.candidates, "matches": round(report.matches), "alike": [round(count) for count in report.alike],
        "known": report.known,
    }  # fmt: skip
    handle = os.open(path.with_name(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")
