"""Suites as Dagster asset checks: one check a rule, on the asset of the table that it looks at."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.project_resource import ProjectResource, project_directory
from expectations import Bounds, suites_of
from expectations.rules import Stage
from ml.features import VIEWS, model_fields
from waymark.core.settings import load_project
from waymark.pipeline import quality

_ANY_BOUNDS = Bounds(0, 0, 2, 0, 0, 0)  # names of rules do not depend on thresholds


def stage_checks(stage: Stage) -> dg.AssetChecksDefinition:
    """The checks of a stage as one step. A blocking rule that fails stops every asset downstream; all results are kept before."""
    sources = sorted(load_project(project_directory()).settings.sources)
    fields = [(field.table, field.name, field.dtype) for field in model_fields(VIEWS)]
    suites = suites_of(stage, sources=sources, bounds=_ANY_BOUNDS, fields=fields, pending=False)
    specs = [
        dg.AssetCheckSpec(rule.name, asset=dg.AssetKey(suite.table.split(".")), blocking=rule.blocking, description=rule.meaning)
        for suite in suites
        for rule in suite.rules
    ]

    @dg.multi_asset_check(name=f"{stage}_checks", specs=specs)
    def checks(context: dg.AssetCheckExecutionContext, project: ProjectResource) -> Iterator[Any]:
        results = quality.check(project.run, stage, run_id=context.run.run_id)
        for result in results:
            table = result.table.removesuffix("_pending") + ("_events" if result.table.endswith("_pending") else "")
            yield dg.AssetCheckResult(
                asset_key=dg.AssetKey(table.split(".")), check_name=result.rule, passed=result.status != "failed",
                severity=dg.AssetCheckSeverity.ERROR if result.blocking else dg.AssetCheckSeverity.WARN,
                metadata={"status": result.status, "failing": result.failing, "keys": ", ".join(result.keys), "scope": result.scope},
            )  # fmt: skip
        quality.stop_if_broken(results)

    return checks
