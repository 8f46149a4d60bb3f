"""A run from the command line: the same job that the Dagster UI launches, in this process, recorded in the home's Dagster instance."""

from __future__ import annotations

import dagster as dg

from dagster_project.lib.instance import end_abandoned_runs, instance_folder, process_tag
from waymark.core.errors import WaymarkError
from waymark.core.settings import Project

__all__ = ["instance_folder", "run_refresh", "waymark_cause"]

def run_refresh(project: Project, *, full_refresh: bool = False) -> str:
    """Materializes every asset; returns the Dagster run id.

    Raises the WaymarkError that stopped the run.
    """
    from dagster_project.definitions import defs
    from dagster_project.lib.policies import today
    from dagster_project.lib.project_resource import WHAT_IS_NEW

    quiet = {"console": {"config": {"log_level": "CRITICAL"}}}  # the event log has it all; the command line shows its own progress
    # Whoever started it is there to start it again, so nothing is tried twice.
    settings = {"directory": str(project.directory), "full_refresh": full_refresh, "tries_again": False}
    config = {"loggers": quiet, "resources": {"project": {"config": settings}}}
    with dg.DagsterInstance.from_config(instance_folder(project.home)) as instance:
        end_abandoned_runs(instance)
        try:
            job = defs().resolve_job_def("refresh")
            result = job.execute_in_process(instance=instance, run_config=config, partition_key=today(), tags={**process_tag(), **WHAT_IS_NEW})
        except Exception as error:
            if cause := waymark_cause(error):
                raise cause from error
            if isinstance(error, dg.Failure) and error.__cause__:
                raise error.__cause__ from None
            raise
    return result.run_id


def waymark_cause(error: BaseException | None) -> WaymarkError | None:
    """The WaymarkError that an orchestrator's exception wraps, if any."""
    seen = 0
    while error is not None and seen < 20:
        if isinstance(error, WaymarkError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
