"""Each policy once: who owns what, what is tried again, what queues, what is fresh, what follows by itself, which days there are.

What Dagster keeps with an asset is mapped over all assets by `with_policies`; what it keeps with a step stands in STEP and DAILY, which every step spreads.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import dagster as dg

from dagster_project.lib.instance import POOL
from dagster_project.lib.project_resource import served_project
from waymark.core.clock import wall_now

# Of assets that dbt does not make; a model's owner stands in its own yml.
OWNERS = {
    "landing": "team:data-engineering", "ingestion": "team:data-engineering", "identity": "team:data-engineering", "restatement": "team:data-engineering",
    "training": "team:data-science", "scoring": "team:data-science", "publishing": "team:data-engineering", "quality": "team:data-engineering",
    "privacy": "team:data-engineering",
}  # fmt: skip
PROMISED_FRESH = (dg.AssetKey(["published", "snapshot"]),)
LONGEST_HISTORY = timedelta(days=3650)

_SETTINGS = served_project().settings.orchestration
# Only a fault of disk or process is tried again: ProjectResource.step says which.
RETRIES = dg.RetryPolicy(max_retries=_SETTINGS.max_retries, delay=_SETTINGS.retry_seconds, backoff=dg.Backoff.EXPONENTIAL)
STEP: dict[str, Any] = {"pool": POOL, "retry_policy": RETRIES}


@cache
def days() -> dg.DailyPartitionsDefinition:
    """The days (UTC) that can be re-stated: from the setting or the data's first day to today. One that is asked for later is seen when Dagster reloads.

    Where nothing is ingested these are all of LONGEST_HISTORY: whatever is taken in next can be chosen without a reload.
    """
    first = min(_SETTINGS.first_day or _first_day(), wall_now().date())
    return dg.DailyPartitionsDefinition(datetime.combine(first, datetime.min.time()), timezone="UTC", end_offset=1)


def days_before() -> str:
    """What to say where there are events of days before the first that can be chosen, since Dagster loaded the code before they came; else nothing."""
    first, stored = days().start.date(), _SETTINGS.first_day or _first_day()
    said = f"There are events from {stored} on; the first day that can be chosen is {first}: to choose earlier ones, reload the code location in Dagster's UI."
    return said if stored < first else ""


def today() -> str:
    """The partition that a refresh names, whatever days its new events are of."""
    return str(days().get_last_partition_key())


def _first_day() -> date:
    """By the lake's folders; a broken clock's 1970 makes no twenty thousand days."""
    found = sorted({folder.name.removeprefix("event_date=") for folder in served_project().home.raw_lake.glob("*_events/event_date=*")})
    return max(date.fromisoformat(found[0]), date.fromisoformat(found[-1]) - LONGEST_HISTORY) if found else wall_now().date() - LONGEST_HISTORY


# From staging on: materializing days means to state anew what touches them, in one run however many they are.
DAILY: dict[str, Any] = {**STEP, "partitions_def": days(), "backfill_policy": dg.BackfillPolicy.single_run()}

# A check that has never run stops nothing here: the snapshot itself asks for it.
_REFUSED = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.any_checks_match(dg.AutomationCondition.check_failed(), blocking_only=True))
# What derives from something new follows, unless its inputs are being made, or failed a blocking check. Days that hold no event are never made, so their
# absence stops nothing.
FOLLOWS = (dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing()) & ~_REFUSED).with_label("follows what it is made of")


def with_policies(definitions: dg.Definitions) -> dg.Definitions:
    """The same definitions with owner, tags, freshness and automation of each asset's stage."""
    return definitions.permissive_map_resolved_asset_specs(func=_with_policies, selection=None)


def _with_policies(spec: dg.AssetSpec) -> dg.AssetSpec:
    group = spec.group_name or "default"
    owners = spec.owners or [OWNERS[group]]
    laid: dict[str, Any] = {"owners": owners, "tags": {**spec.tags, "waymark/stage": group}}
    if group not in ("landing", "ingestion", "quality"):
        laid["automation_condition"] = FOLLOWS
    if spec.key in PROMISED_FRESH:
        laid["freshness_policy"] = dg.FreshnessPolicy.time_window(timedelta(hours=_SETTINGS.freshness_hours))
    return spec.replace_attributes(**laid)
