"""Checks as steps of a run: suites by stage, results kept in quality.check_results, a failed blocking rule stops what comes after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from expectations.rules import STAGES, Bounds, CheckResult, Stage, Suite
from waymark.core.clock import wall_now
from waymark.core.errors import AuditError
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, rows
from waymark.ingestion import owe_checks, owed_checks, settle_checks
from waymark.pipeline import stated
from waymark.pipeline.progress import Stage as Timed
from waymark.pipeline.steps import Run, rebuilding

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TABLE = "quality.check_results"
_COLUMNS = """
    run_id VARCHAR, checked_at TIMESTAMP, stage VARCHAR, suite VARCHAR, table_name VARCHAR, rule VARCHAR, meaning VARCHAR, status VARCHAR, is_blocking BOOLEAN,
    failing_count BIGINT, failing_keys VARCHAR, scope VARCHAR, seconds DOUBLE
"""
DESCRIPTIONS = {
    "run_id": "The Dagster run that checked; empty for a check outside of one.",
    "checked_at": "When, UTC.",
    "stage": "raw, journeys, features or scores: what the run checks together.",
    "suite": "The suite that holds the rule, as Data Docs name it.",
    "table_name": "What was checked, schema and table.",
    "rule": "The rule's name.",
    "meaning": "What the rule promises, and what to do where it fails.",
    "status": "passed, failed, or not_applicable where there is nothing to judge yet.",
    "is_blocking": "Whether a failure stops the run before anything is published.",
    "failing_count": "Rows that break the rule.",
    "failing_keys": "JSON list of keys of some of them; never values of theirs.",
    "scope": "What the rule looked at: the whole table, or what the run re-stated.",
    "seconds": "How long the check took.",
}


def bounds(run: Run) -> Bounds:
    """The thresholds that waymark.yml states."""
    settings = run.project.settings
    quality = settings.quality
    return Bounds(
        settings.time.max_future_skew_days, quality.max_value, quality.volume_factor, quality.least_weekly_events, quality.max_category_shift,
        quality.max_null_rate_shift,
    )  # fmt: skip


def check(run: Run, stage: Stage, *, run_id: str = "", full: bool = False) -> list[CheckResult]:
    """Runs the suites of a stage and keeps what they found.

    full: event-sized tables whole; else what the run re-stated, and whole where the run rebuilt them. Does not raise where a rule is broken: see
    `stop_if_broken` and, for what comes in another run, `require_passed`.
    """
    from expectations.runner import run_suites
    from expectations.suites import suites_of
    from ml.features import VIEWS, model_fields

    full = full or rebuilding(run)
    fields = [(field.table, field.name, field.dtype) for field in model_fields(VIEWS)]
    suites = suites_of(stage, sources=list(run.mappings), bounds=bounds(run), fields=fields, pending=not full)
    with Timed(f"checks: {stage}") as timed:
        with run.open_warehouse() as connection:
            results = run_suites(connection, suites, restated=not full, docs=docs_folder(run), is_first=stage == STAGES[0], is_last=stage == STAGES[-1])
            keep(connection, results, run_id=run_id, history_days=run.project.settings.quality.history_days)
            _settle(connection, stage, suites, results)
        failed = [result for result in results if result.status == "failed"]
        silent = sum(result.status == "not_applicable" for result in results)
        warned = "".join(f"; {result.rule}: {result.failing}" for result in failed if not result.blocking)
        timed.detail = f"{len(results)} rules, {len(failed)} failed, {silent} with nothing to say yet{warned}"
    return results


def _settle(connection: Connection, stage: Stage, suites: Sequence[Suite], results: Sequence[CheckResult]) -> None:
    """What fails is owed until it passes; and what passes on tables that are yet to be made says nothing of them."""
    if any(result.stops for result in results):
        owe_checks(connection, [stage])
    elif stage == "raw" or stated.hold_what_is_pending(connection, {suite.table for suite in suites}):
        settle_checks(connection, [stage])


def require_passed(run: Run, stages: Collection[Stage], *, of: str) -> None:
    """Raises AuditError, naming the rules that failed, unless the checks of these stages have passed since what they look at changed.

    of: what would be made of it. Before `finish`, which clears what an increment checks.
    """
    with run.open_warehouse() as connection:
        if not (owed := sorted(owed_checks(connection) & set(stages))):
            return
        prepare_quality(connection)
        failed = rows(connection, f"""
            select rule, failing_count from {TABLE} as result
            where list_contains(?, stage) and status = 'failed' and is_blocking
                and checked_at = (select max(checked_at) from {TABLE} as other where other.stage = result.stage)
            order by stage nulls last, table_name nulls last, rule nulls last
        """, [owed])  # fmt: skip
    said = "; ".join(f"{rule} ({count} rows)" for rule, count in failed[:5])
    raise AuditError(
        f"it waits for checks to pass: {', '.join(owed)}" + (f"; blocking rules failed: {said}" if said else ""), where=of,
        remedy="The last good snapshot stands. Mend what `waymark quality` names, then: job `refresh`, or `waymark run`; to check alone: job `full_audit`.",
    )  # fmt: skip


def docs_folder(run: Run) -> Path:
    """Where Great Expectations keeps the last run's results and Data Docs."""
    run.project.home.quality.mkdir(parents=True, exist_ok=True)
    return run.project.home.quality


def stop_if_broken(results: Sequence[CheckResult]) -> None:
    """Raises AuditError that names the blocking rules that failed, with counts and keys."""
    broken = [result for result in results if result.stops]
    if not broken:
        return
    said = "; ".join(f"{result.rule} ({result.failing} rows{': ' + ', '.join(result.keys[:3]) if result.keys else ''})" for result in broken[:5])
    raise AuditError(
        f"{len(broken)} blocking checks failed: {said}",
        where=broken[0].table,
        remedy=f"Nothing was published; the last good snapshot stands. {broken[0].meaning} See: waymark quality",
    )


def prepare_quality(connection: Connection) -> None:
    """Makes the table of results where it does not exist."""
    connection.execute(f"create table if not exists {TABLE} ({_COLUMNS})")
    for name, text in DESCRIPTIONS.items():
        connection.execute(f"comment on column {TABLE}.{name} is {literal(text)}")


def keep(connection: Connection, results: Sequence[CheckResult], *, run_id: str, history_days: int) -> None:
    """Adds results to the history, and drops what is older than history_days."""
    prepare_quality(connection)
    now = wall_now()
    connection.begin()
    try:
        for result in results:
            connection.execute(
                f"insert into {TABLE} values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    run_id, now, result.stage, result.suite, result.table, result.rule, result.meaning, result.status, result.blocking, result.failing,
                    json.dumps(list(result.keys)), result.scope, result.seconds,
                ],
            )  # fmt: skip
        connection.execute(f"delete from {TABLE} where checked_at < ?::timestamp - to_days({history_days})", [now])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def audit_all(run: Run) -> list[CheckResult]:
    """Every suite over whole tables, whatever the last run re-stated."""
    return [result for stage in STAGES for result in check(run, stage, full=True)]


def latest(connection: Connection) -> list[tuple[object, ...]]:
    """The last result of each rule: stage, table_name, rule, status, is_blocking, failing_count, scope, checked_at; failures first."""
    return rows(connection, f"""
        select stage, table_name, rule, status, is_blocking, failing_count, scope, strftime(checked_at, '%Y-%m-%d %H:%M') from {TABLE}
        qualify row_number() over (partition by table_name, rule order by checked_at desc) = 1
        order by status <> 'failed', not is_blocking, stage, table_name, rule
    """)  # fmt: skip


def history(connection: Connection, rule: str) -> list[tuple[object, ...]]:
    """All kept results of a rule, latest first: checked_at, table_name, status, failing_count, failing_keys, scope."""
    return rows(
        connection,
        f"""
        select strftime(checked_at, '%Y-%m-%d %H:%M:%S'), table_name, status, failing_count, failing_keys, scope
        from {TABLE} where rule = ? order by checked_at desc, table_name
        """,
        [rule],
    )
