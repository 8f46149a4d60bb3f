"""Suites as Dagster asset checks: one check a rule, on the asset of the table that it looks at."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from dagster_project.lib.policies import STEP
from dagster_project.lib.project_resource import ProjectResource, served_project
from expectations import Bounds, CheckResult, suites_of
from expectations.rules import STAGES, Stage, Suite
from ml.features import VIEWS, model_fields
from waymark.pipeline import quality

_ANY_BOUNDS = Bounds(0, 0, 2, 0, 0, 0)  # names of rules do not depend on thresholds


class Checking(dg.Config):
    """full: event-sized tables whole; else what the run re-stated."""

    full: bool = False


def _suites(stage: Stage) -> list[Suite]:
    fields = [(field.table, field.name, field.dtype) for field in model_fields(VIEWS)]
    return suites_of(stage, sources=sorted(served_project().settings.sources), bounds=_ANY_BOUNDS, fields=fields, pending=False)


def checked_tables() -> list[dg.AssetKey]:
    """The assets that suites look at."""
    return sorted({dg.AssetKey(suite.table.split(".")) for stage in STAGES for suite in _suites(stage)})


def suite_selection() -> dg.AssetSelection:
    """All checks of all suites, and no asset."""
    suites = [suite for stage in STAGES for suite in _suites(stage)]
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(suite.table.split(".")), rule.name) for suite in suites for rule in suite.rules))


def _told(stage: Stage, results: Sequence[CheckResult]) -> dict[str, Any]:
    """What a stage found, for the page of the table that keeps it."""
    failed = [f"{result.table}: {result.rule}" for result in results if result.status == "failed"]
    silent = sum(result.status == "not_applicable" for result in results)
    return {"stage": stage, "rules": len(results), "failed": len(failed), "failed rules": ", ".join(failed) or "none", "with nothing to judge yet": silent}


def stage_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """The checks of a stage as one step. A blocking rule that fails stops every asset downstream; all results are kept before."""
    specs = [
        dg.AssetCheckSpec(rule.name, asset=dg.AssetKey(suite.table.split(".")), blocking=rule.blocking, description=rule.meaning)
        for suite in _suites(stage)
        for rule in suite.rules
    ]

    @dg.multi_asset_check(name=f"{stage}_checks", specs=specs, description=f"The suites of stage {stage}.", can_subset=True, **STEP)
    def checks(context: dg.AssetCheckExecutionContext, project: ProjectResource, config: Checking) -> Iterator[Any]:
        with project.step() as run:
            results = quality.check(run, stage, run_id=context.run.run_id, full=config.full)
            # The table that keeps them is written here, beside every stage: it has no step of its own.
            context.op_execution_context.log_event(dg.AssetMaterialization(["quality", "check_results"], metadata=_told(stage, results)))
            for result in results:
                table = result.table.removesuffix("_pending") + ("_events" if result.table.endswith("_pending") else "")
                key = dg.AssetCheckKey(dg.AssetKey(table.split(".")), result.rule)
                if key in context.selected_asset_check_keys:
                    yield dg.AssetCheckResult(
                        asset_key=key.asset_key, check_name=key.name, passed=result.status != "failed", description=result.meaning,
                        severity=dg.AssetCheckSeverity.ERROR if result.blocking else dg.AssetCheckSeverity.WARN,
                        metadata={
                            "status": result.status, "failing": result.failing, "keys": ", ".join(result.keys), "scope": result.scope,
                            "seconds": round(result.seconds, 3),
                        },
                    )  # fmt: skip
            quality.stop_if_broken(results)

    return checks
