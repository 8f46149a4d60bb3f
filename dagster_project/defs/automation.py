"""Jobs, schedules and sensors. Their policies (what follows, what is fresh, what queues) stand in lib/policies.py and waymark.yml."""

from typing import Any

import dagster as dg

from dagster_project.lib.instance import abandoned_runs_sensor
from dagster_project.lib.landing import landing_files_sensor
from dagster_project.lib.notices import failure_notice_sensor
from dagster_project.lib.policies import today
from dagster_project.lib.project_resource import WHAT_IS_NEW, served_project
from dagster_project.lib.suite_checks import suite_selection
from expectations.rules import STAGES

_SETTINGS = served_project().settings.orchestration
_SCHEDULED = dg.DefaultScheduleStatus.RUNNING if _SETTINGS.run_schedules else dg.DefaultScheduleStatus.STOPPED
_WHOLE: dict[str, Any] = {"ops": {f"{stage}_checks": {"config": {"full": True}} for stage in STAGES}}

refresh = dg.define_asset_job("refresh", selection=dg.AssetSelection.all(), description="New files to a published snapshot.")

retrain = dg.define_asset_job(
    "retrain", selection=dg.AssetSelection.assets(["models", "propensity"], ["marts", "fct_propensity_scores"], ["published", "snapshot"]),
    config={"ops": {"models__propensity": {"config": {"force": True}}}},
    description="A training now, however young the champion is; then scores and a snapshot.",
)  # fmt: skip

full_audit = dg.define_asset_job("full_audit", selection=suite_selection(), config=_WHOLE, description="Every suite, over whole tables.")

publish = dg.define_asset_job(
    "publish", selection=dg.AssetSelection.assets(["published", "snapshot"]), description="A snapshot of what the warehouse holds, if all of it is whole.",
)  # fmt: skip



@dg.schedule(job=refresh, cron_schedule=_SETTINGS.refresh_cron, default_status=_SCHEDULED, description="Takes in new files, whether or not there are any.")
def hourly_refresh() -> dg.RunRequest:
    return dg.RunRequest(partition_key=today(), tags=WHAT_IS_NEW)


weekly_full_audit = dg.ScheduleDefinition(
    job=full_audit, name="weekly_full_audit", cron_schedule=_SETTINGS.audit_cron, default_status=_SCHEDULED, description="Every check over whole tables.",
)  # fmt: skip

landing_files = landing_files_sensor(refresh)
failure_notice = failure_notice_sensor()
abandoned_runs = abandoned_runs_sensor()
keep_up = dg.AutomationConditionSensorDefinition(
    "keep_up", target=dg.AssetSelection.all(), description="Makes what derives from something new, by the conditions of lib/policies.py.",
)  # fmt: skip
