"""The home's Dagster instance: where its runs and events are kept, and how runs queue."""

from __future__ import annotations

import json
import os

import dagster as dg
import yaml

from waymark.core.home import Home, write_atomically
from waymark.core.processes import exists

POOL = "warehouse"
PROCESS_TAG = "waymark/process"


def instance_folder(home: Home) -> str:
    """The home's Dagster instance, made if missing; telemetry and invitations off, one writing run at a time."""
    home.dagster.mkdir(parents=True, exist_ok=True)
    settings = home.dagster / "dagster.yaml"
    wanted = yaml.safe_dump(
        {
            "telemetry": {"enabled": False},
            "nux": {"enabled": False},  # no invitation to a newsletter before the first look
            "event_log_storage": {
                "module": "dagster_project.lib.event_log", "class": "HomeEventLogStorage", "config": {"base_dir": str(home.dagster / "history" / "runs")},
            },
            # By run, not by step: a run holds the writer lock from its first step to its last. A run that waits in the queue costs no process.
            "concurrency": {"pools": {"default_limit": 1, "granularity": "run"}},
            "run_monitoring": {"enabled": True, "start_timeout_seconds": 600},
            "freshness": {"enabled": True},
        },
        sort_keys=False,
    )  # fmt: skip
    if not settings.exists() or settings.read_text() != wanted:
        write_atomically(settings, wanted)
    return str(home.dagster)


def process_tag() -> dict[str, str]:
    """Names this process as the one that executes a run."""
    return {PROCESS_TAG: json.dumps({"id": os.getpid(), "started": _started(os.getpid())})}


def end_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs as failed whose process is gone: a killed command line cannot, and its run would hold the queue for ever. Returns their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])):
        process = json.loads(run.tags.get(PROCESS_TAG, "null"))
        if process and _started(int(process["id"])) != process["started"]:
            instance.report_run_failed(run, message="The process of this run was killed. The next run takes up what it left.")
            ended.append(run.run_id)
    return ended


def abandoned_runs_sensor() -> dg.SensorDefinition:
    """Looks every minute for runs whose process is gone: Dagster cannot see that of a run on this machine, and would keep the others waiting."""

    @dg.sensor(
        name="abandoned_runs", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process was killed, so that they do not hold the queue.",
    )  # fmt: skip
    def abandoned_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_abandoned_runs(context.instance)
        return dg.SkipReason(f"ended: {', '.join(ended)}" if ended else "every run that has started has its process")

    return abandoned_runs


def _started(process: int) -> str:
    """When a process began, in the kernel's count; "" where there is none, or no such count."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return "" if not exists(process) else "alive"
