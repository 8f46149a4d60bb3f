"""Says in Dagster's history which days a run stated anew beside those that it names: those of the events that it took in."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

from dagster_project.lib.event_log import PATTERN_COUNT, PATTERN_DAY, HomeEventLogStorage
from dagster_project.lib.project_resource import named_days
from waymark.core.clock import wall_now
from waymark.pipeline.steps import Run, pending_days


def record_days(context: dg.AssetExecutionContext, run: Run, keys: Collection[dg.AssetKey]) -> None:
    """One materialization a day and asset, in one write. Call it before the step's own results, which are then the latest.

    Days that the run names are recorded by Dagster itself; and only a home's own event log takes so many at once, another is left as it is.
    """
    named, store = named_days(context.run.tags), context.instance.event_log_storage
    days = {day.isoformat(): count for day, count in pending_days(run).items() if not (named and named[0] <= day <= named[1])}
    if days and isinstance(store, HomeEventLogStorage):
        store.store_days([_pattern(context, key) for key in sorted(keys)], days)


def _pattern(context: dg.AssetExecutionContext, key: dg.AssetKey) -> dg.EventLogEntry:
    materialization = dg.AssetMaterialization(key, partition=PATTERN_DAY, metadata={"new events of the day": PATTERN_COUNT})
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value, job_name=context.run.job_name,
        step_key=context.op_execution_context.get_step_execution_context().step.key,
        event_specific_data=StepMaterializationData(materialization, []),
    )  # fmt: skip
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level="debug", user_message="", run_id=context.run.run_id, timestamp=wall_now().replace(tzinfo=UTC).timestamp(),
        step_key=event.step_key, job_name=context.run.job_name, dagster_event=event,
    )  # fmt: skip
