"""Runs suites with Great Expectations over an open DuckDB connection, and writes its Data Docs."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from expectations.rules import CheckResult, Rule, Suite
from waymark.core.settings import quiet_libraries
from waymark.core.warehouse import Connection, rows

_KEYS_SHOWN = 10


def run_suites(
    connection: Connection, suites: Sequence[Suite], *, restated: bool, docs: Path | None = None, is_first: bool = True, is_last: bool = True
) -> list[CheckResult]:
    """Every rule of every suite, in order.

    restated: event-sized tables are checked on what the run re-stated; else whole. docs: folder in which the results stay and Data Docs are written.
    is_first: what an earlier run left in docs goes. is_last, or a failure: Data Docs are written, of all that stands in docs.
    A table that does not exist gives `not_applicable`.
    """
    quiet_libraries()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="great_expectations")
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager

    from expectations.duckdb_source import lending

    known = {f"{schema}.{name}" for schema, name in rows(connection, "select table_schema, table_name from information_schema.tables")}
    if docs:  # the history is kept in quality.check_results; here the last results stand, with the suites that gave them
        # A definition names its table, which may be another one by now (pending rows or all), and then GX could not even read it.
        for left in ("validation_definitions", *(("uncommitted/validations", "expectations") if is_first else ())):
            shutil.rmtree(docs / "gx" / left, ignore_errors=True)
    context: Any = _context_in(docs) if docs else gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    if docs:
        from expectations.data_docs import site

        context.update_data_docs_site("local_site", site())
    found: list[CheckResult] = []
    with lending(connection):
        context.data_sources.delete("warehouse") if "warehouse" in context.data_sources.all() else None
        source = context.data_sources.add_duckdb(name="warehouse", connection_string="duckdb:///:memory:")
        for suite in suites:
            if suite.table not in known:
                found += [_result(suite, rule, "not_applicable", restated=restated) for rule in suite.rules]
                continue
            found += _run_suite(context, source, connection, suite, restated=restated)
        context.data_sources.delete("warehouse")
    if docs and (is_last or any(result.status == "failed" for result in found)):
        context.build_data_docs()
    # GX keeps the context for the life of the process, and with it handles of DuckDB that complain when the interpreter ends.
    project_manager._ProjectManager__project = None  # type: ignore[attr-defined]
    return found


def _context_in(docs: Path) -> Any:
    """The folder's context; made anew where a killed run left its configuration half written: all that stands there comes from the last run's checks."""
    import great_expectations as gx

    try:
        return gx.get_context(mode="file", project_root_dir=docs)
    except Exception:  # whatever Great Expectations and its YAML reader say of half a file
        if not (docs / "gx").exists():
            raise
        shutil.rmtree(docs / "gx")
        return gx.get_context(mode="file", project_root_dir=docs)


def _run_suite(context: Any, source: Any, connection: Connection, suite: Suite, *, restated: bool) -> list[CheckResult]:
    import great_expectations as gx
    from great_expectations.expectations.metadata_types import FailureSeverity

    from expectations.expectation import NoBrokenRows

    found: dict[str, CheckResult] = {}
    applying: list[Rule] = []
    for rule in suite.rules:
        if rule.applies and rows(connection, rule.applies)[0][0] is not True:
            found[rule.name] = _result(suite, rule, "not_applicable", restated=restated)
        else:
            applying.append(rule)
    schema, table = suite.table.split(".")
    asset = source.add_table_asset(name=suite.table, schema_name=schema, table_name=table)
    batch = asset.add_batch_definition_whole_table("whole")
    scope = suite.scope if restated else "true"
    expectations = [
        NoBrokenRows(
            unexpected_rows_query=_query(rule, scope), description=f"{rule.name}: {rule.meaning}", meta={"rule": rule.name},
            severity=FailureSeverity.CRITICAL if rule.blocking else FailureSeverity.WARNING,
        )
        for rule in applying
    ]  # fmt: skip
    gx_suite = context.suites.add_or_update(gx.ExpectationSuite(name=suite.name, expectations=expectations))
    definition = context.validation_definitions.add_or_update(gx.ValidationDefinition(name=suite.name, data=batch, suite=gx_suite))
    began = monotonic()
    outcome = definition.run(result_format={"result_format": "BASIC"}, run_id=gx.RunIdentifier(run_name=suite.stage))
    seconds = (monotonic() - began) / max(len(applying), 1)
    for result in outcome.results:
        name = result.expectation_config.meta["rule"]
        rule = next(rule for rule in applying if rule.name == name)
        if not result.result:  # GX keeps an error as a failure without a result
            said = next((str(info.get("exception_message")) for info in result.exception_info.values() if isinstance(info, dict)), "")
            raise RuntimeError(f"rule {name} of {suite.table} cannot be run: {said[:500]}")
        count = int(result.result.get("observed_value") or 0)
        keys = _keys(connection, suite, rule, scope) if count else ()
        status = "passed" if result.success else "failed"
        found[name] = _result(suite, rule, status, failing=count, keys=keys, seconds=seconds, restated=restated)
    return [found[rule.name] for rule in suite.rules]


def _keys(connection: Connection, suite: Suite, rule: Rule, scope: str) -> tuple[str, ...]:
    """The first keys of failing rows. GX would keep whole rows of the answer, so it is asked for the count alone."""
    sql = rule.failing.replace("{scope}", f"({scope})").replace("{batch}", suite.table).replace("{{", "{").replace("}}", "}")
    return tuple(str(key) for (key,) in rows(connection, f"select distinct * from ({sql}) broken order by 1 nulls last limit {_KEYS_SHOWN}"))


def _query(rule: Rule, scope: str) -> str:
    """The rule's SQL for GX, which puts a sub-select with an alias of its own where {batch} stands."""
    return rule.failing.replace("{scope}", f"({scope})").replace("{batch}", "(select * from {batch})")


def _result(suite: Suite, rule: Rule, status: Any, *, failing: int = 0, keys: tuple[str, ...] = (), seconds: float = 0.0, restated: bool) -> CheckResult:
    said = "restated" if restated and suite.scope != "true" else "all"
    return CheckResult(suite.name, suite.stage, suite.table, rule.name, rule.meaning, status, rule.blocking, failing, keys, said, seconds)
