"""Who is told of a run that failed: the log, and a webhook where the settings name one. Counts and names, never a secret, never a row."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Mapping

import dagster as dg
from dagster._core.events import JobFailureData
from dagster_shared.error import SerializableErrorInfo

from dagster_project.lib.project_resource import served_project
from waymark.core.settings import OrchestrationSettings
from waymark.privacy import redact_text

_log = logging.getLogger("dagster.waymark")
_LONGEST = 300


def failure_notice_sensor() -> dg.SensorDefinition:
    """Runs beside Dagster's daemon; tells of every failed run of this code location, whoever started it."""

    @dg.run_failure_sensor(
        name="failure_notice", default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of a failed run: in the log, and by the webhook of waymark.yml.",
    )  # fmt: skip
    def failure_notice(context: dg.RunFailureSensorContext) -> None:
        notice = notice_of(context)
        context.log.error(" ".join(f"{name}={value}" for name, value in notice.items()))
        _log.error("run failed: %s", json.dumps(notice))
        post(served_project().settings.orchestration, notice)

    return failure_notice


def notice_of(context: dg.RunFailureSensorContext) -> dict[str, str]:
    """run_id, job, failed_step ("" where the run failed before its first), error: the first line of what it said."""
    failures = context.get_step_failure_events()
    step = failures[0].step_key or "" if failures else ""
    said: str | None
    if failures:
        details = failures[0].step_failure_data
        said = details.user_failure_data.description if details.user_failure_data and details.user_failure_data.description else _own_words(details.error)
    else:  # a lock, the settings, the secret, the disk: said before the first step
        data = context.failure_event.event_specific_data
        said = _own_words(data.error if isinstance(data, JobFailureData) else None) or context.failure_event.message
    line = next((line.strip() for line in (said or "").splitlines() if line.strip()), "no message")
    return {"run_id": context.dagster_run.run_id, "job": context.dagster_run.job_name, "failed_step": step, "error": redact_text(line)[:_LONGEST]}


def _own_words(error: SerializableErrorInfo | None) -> str:
    """What was raised inside Dagster's own errors, which say that something was raised; ours without the name of their class."""
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return re.sub(r"^waymark(\.\w+)+: ", "", error.message) if error else ""


def post(settings: OrchestrationSettings, notice: Mapping[str, str]) -> bool:
    """Whether the webhook took it; False, and a warning without the address, where it did not, or where there is none."""
    if not settings.webhook_url:
        return False
    request = urllib.request.Request(settings.webhook_url, json.dumps(dict(notice)).encode(), {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=settings.webhook_timeout_seconds):
            return True
    except Exception as error:  # whatever is wrong with it: a notice fails nothing
        _log.warning("the webhook did not take the notice: %s", type(error).__name__)
        return False
