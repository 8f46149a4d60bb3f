"""The sensor of the landing files: asks for a run when there are new ones, once for each state of them."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.lib.policies import today
from dagster_project.lib.project_resource import WHAT_IS_NEW, served_project
from waymark.core.clock import wall_now
from waymark.core.digest import text_digest
from waymark.ingestion import known_files, new_files
from waymark.ingestion.files import stamp

SETTLE_SECONDS = 2.0
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]


def landing_files_sensor(job: Any) -> dg.SensorDefinition:
    """Looks at names, sizes and times of files alone. The cursor is a digest of those that the last ingestion has not seen."""
    settings = served_project().settings.orchestration
    status = dg.DefaultSensorStatus.RUNNING if settings.watch_files else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="landing_files", job=job, minimum_interval_seconds=settings.sensor_seconds, default_status=status,
        description="New, changed or renamed files of a source: asks for `refresh`. The same files are asked for once, though a run that failed left them.",
    )  # fmt: skip
    def landing_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        known = known_files(served_project().home)
        found = {source: new_files(served_project(), source, known) for source in sorted(served_project().settings.sources)}
        found = {source: paths for source, paths in found.items() if paths}
        said = "; ".join(_said(source, paths) for source, paths in found.items())
        if not found:
            return dg.SkipReason(f"no new files: {sum(map(len, known.values()))} are known")
        if youngest := _still_written(found):
            return dg.SkipReason(f"{youngest.name} may still be written; new files: {said}")
        state = text_digest("\n".join(f"{path}\t{stamp(path)}" for paths in found.values() for path in paths))
        if state == context.cursor:
            return dg.SkipReason(f"a run was asked for these files already, and left them (refused, or the run failed): {said}")
        if context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=_WAITING)):
            return dg.SkipReason(f"a run of {job.name} is queued and will take them in; new files: {said}")
        arrived = [dg.AssetObservation(["landing", source], metadata=_observed(paths)) for source, paths in found.items()]
        request = dg.RunRequest(run_key=state, partition_key=today(), tags={**WHAT_IS_NEW, "waymark/new_files": str(sum(map(len, found.values())))})
        return dg.SensorResult(run_requests=[request], cursor=state, asset_events=arrived)

    return landing_files


def _said(source: str, paths: list[Path]) -> str:
    return f"{source}: {len(paths)} ({', '.join(path.name for path in paths[:3])}{', …' if len(paths) > 3 else ''})"


def _still_written(found: dict[str, list[Path]]) -> Path | None:
    """A file that changed in the last moments: taken in now, it might be half of itself."""
    now = wall_now().replace(tzinfo=UTC).timestamp()
    return next((path for paths in found.values() for path in paths if 0 <= now - stamp(path)[1] / 1e9 < SETTLE_SECONDS), None)


def _observed(paths: list[Path]) -> dict[str, Any]:
    return {"new files": len(paths), "bytes": sum(max(stamp(path)[0], 0) for path in paths), "names": ", ".join(path.name for path in paths[:20])}
