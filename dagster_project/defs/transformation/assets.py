"""dbt's models, in the two selections between which people are resolved."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets

from dagster_project.lib.dbt_results import TRANSLATOR, build_selected, manifest
from dagster_project.lib.policies import DAILY
from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import steps

MANIFEST = manifest()


@dbt_assets(manifest=MANIFEST, select=steps.BEFORE_IDENTITY, name="events", dagster_dbt_translator=TRANSLATOR, **DAILY)
def events(context: dg.AssetExecutionContext, project: ProjectResource) -> Iterator[Any]:
    with project.step() as run:
        yield from build_selected(context, run, steps.transform_events)


@dbt_assets(manifest=MANIFEST, exclude=steps.BEFORE_IDENTITY, name="journeys", dagster_dbt_translator=TRANSLATOR, **DAILY)
def journeys(context: dg.AssetExecutionContext, project: ProjectResource) -> Iterator[Any]:
    with project.step() as run:
        yield from build_selected(context, run, steps.transform_marts, after_identity=True)
