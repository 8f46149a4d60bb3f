"""The sensor of the landing files: asks for a run when there are new ones, once for each state of them, and again where a run left what it was asked for."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.lib.policies import today
from dagster_project.lib.project_resource import FAILED_FOR_GOOD, WHAT_IS_NEW, served_project
from waymark.core.clock import wall_now
from waymark.core.digest import text_digest
from waymark.ingestion import known_files, new_files
from waymark.ingestion.files import stamp

SETTLE_SECONDS = 2.0
# Asked again for the same files: five times in all, after waits of 1, 4, 16 and 64 minutes, since a verification or an erasure can hold the lock for long.
MOST_ASKED = 5
PAUSE_SECONDS, PAUSE_GROWS = 60.0, 4
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
_UNDER_WAY = [*_WAITING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def landing_files_sensor(job: Any) -> dg.SensorDefinition:
    """Looks at names, sizes and times of files alone. The cursor: a digest of those that the last ingestion has not seen, and how often it was asked for them.

    No run key goes with a request: Dagster refuses one that was used, for ever, and the same files can be asked for again.
    """
    settings = served_project().settings.orchestration
    status = dg.DefaultSensorStatus.RUNNING if settings.watch_files else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="landing_files", job=job, minimum_interval_seconds=settings.sensor_seconds, default_status=status,
        description="New, changed or renamed files of a source, or what a killed run left: asks for `refresh`. Files that a run refused are asked for once.",
    )  # fmt: skip
    def landing_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        home, known = served_project().home, known_files(served_project().home)
        unseen = {source: new_files(served_project(), source, known) for source in sorted(served_project().settings.sources)}
        young = {path for paths in unseen.values() for path in paths if _may_be_written(path)}
        found = {source: settled for source, paths in unseen.items() if (settled := [path for path in paths if path not in young])}
        state = text_digest("\n".join(f"{path}\t{stamp(path)}" for paths in found.values() for path in paths))
        is_left = home.unpublished.exists()
        said = "; ".join(_said(source, paths) for source, paths in found.items()) or "no new files, and the last run did not publish"
        written = f"; may still be written: {', '.join(sorted(path.name for path in young)[:3])}" if young else ""
        if not found and not is_left:
            context.update_cursor(f"{state} 0")
            return dg.SkipReason(f"no new files: {sum(map(len, known.values()))} are known{written}")
        if context.instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=_WAITING)):
            return dg.SkipReason(f"a run of {job.name} is queued and will take them in: {said}{written}")
        asked = _times_asked(context.cursor, state)
        if (asked or not found) and (reason := _why_not_again(context.instance, job.name, asked, is_left=is_left)):
            return dg.SkipReason(f"{reason}: {said}{written}")
        arrived = [] if asked else [dg.AssetObservation(["landing", source], metadata=_observed(paths)) for source, paths in found.items()]
        request = dg.RunRequest(partition_key=today(), tags={**WHAT_IS_NEW, "waymark/new_files": str(sum(map(len, found.values())))})
        return dg.SensorResult(run_requests=[request], cursor=f"{state} {asked + 1}", asset_events=arrived)

    return landing_files


def _times_asked(cursor: str | None, state: str) -> int:
    last, _, times = (cursor or "").partition(" ")
    return int(times or 1) if last == state else 0


def _why_not_again(instance: dg.DagsterInstance, job: str, asked: int, *, is_left: bool) -> str | None:
    """Why no run is asked for that takes up what the last one left; None where it is time for one.

    asked: how often it was, for these files. is_left: whether something is ingested and not published.
    """
    if instance.get_runs_count(dg.RunsFilter(statuses=_UNDER_WAY)):
        return "a run is under way"
    last = next(iter(instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)), None)
    if last is None:
        return None
    if last.dagster_run.status == dg.DagsterRunStatus.SUCCESS and not is_left:
        return "a run was asked for these files already, and refused them"
    if last.dagster_run.status == dg.DagsterRunStatus.CANCELED:
        return f"the last run of {job} was stopped by hand; start it by hand"
    if FAILED_FOR_GOOD.items() <= last.dagster_run.tags.items():
        return f"the last run of {job} failed, and would again; mend what it says, then start it by hand"
    if asked >= MOST_ASKED:
        return f"{asked} runs were asked for already, and left this; see what they say, then start {job} by hand"
    waits = PAUSE_SECONDS * PAUSE_GROWS ** (asked - 1) if asked else 0.0
    if last.end_time and _now() < last.end_time + waits:
        return f"the last run of {job} left this; the next is asked for {waits / 60:.0f} min after it"
    return None


def _said(source: str, paths: list[Path]) -> str:
    return f"{source}: {len(paths)} ({', '.join(path.name for path in paths[:3])}{', …' if len(paths) > 3 else ''})"


def _now() -> float:
    return wall_now().replace(tzinfo=UTC).timestamp()


def _may_be_written(path: Path) -> bool:
    """Whether a file changed in the last moments: taken in now, it might be half of itself. It keeps no other waiting."""
    return 0 <= _now() - stamp(path)[1] / 1e9 < SETTLE_SECONDS


def _observed(paths: list[Path]) -> dict[str, Any]:
    return {"new files": len(paths), "bytes": sum(max(stamp(path)[0], 0) for path in paths), "names": ", ".join(path.name for path in paths[:20])}
