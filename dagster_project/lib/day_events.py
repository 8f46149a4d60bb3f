"""Says in Dagster's history which days a run stated anew beside those that it names: those of the events that it took in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.lib.project_resource import named_days
from waymark.pipeline.steps import Run, pending_days

if TYPE_CHECKING:
    from datetime import date


def record_days(context: dg.AssetExecutionContext, run: Run, keys: Collection[dg.AssetKey]) -> None:
    """One materialization a day and asset, in one write. Call it before the step's own results, which are then the latest.

    Days that the run names are recorded by Dagster itself.
    """
    named = named_days(context.run.tags)
    days = {day: count for day, count in pending_days(run).items() if not (named and named[0] <= day <= named[1])}
    store = context.instance.event_log_storage
    store.store_event_batch([_entry(context, key, day, count) for key in sorted(keys) for day, count in days.items()])


def _entry(context: dg.AssetExecutionContext, key: dg.AssetKey, day: date, count: int) -> dg.EventLogEntry:
    from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

    materialization = dg.AssetMaterialization(key, partition=day.isoformat(), metadata={"new events of the day": count})
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value, job_name=context.run.job_name,
        step_key=context.op_execution_context.get_step_execution_context().step.key,
        event_specific_data=StepMaterializationData(materialization, []),
    )  # fmt: skip
    return dg.EventLogEntry(
        error_info=None, level="debug", user_message="", run_id=context.run.run_id, timestamp=_now(), step_key=event.step_key,
        job_name=context.run.job_name, dagster_event=event,
    )  # fmt: skip


def _now() -> float:
    from datetime import UTC

    from waymark.core.clock import wall_now

    return wall_now().replace(tzinfo=UTC).timestamp()
