"""dbt's models, in the two selections between which people are resolved."""

from collections.abc import Iterator
from typing import Any

from dagster_dbt import dbt_assets

from dagster_project.lib.dbt_results import TRANSLATOR, as_dagster_results, manifest_path
from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import steps

MANIFEST = manifest_path()


@dbt_assets(manifest=MANIFEST, select=steps.BEFORE_IDENTITY, name="events", dagster_dbt_translator=TRANSLATOR)
def events(project: ProjectResource) -> Iterator[Any]:
    yield from as_dagster_results(steps.transform_events(project.run))


@dbt_assets(manifest=MANIFEST, exclude=steps.BEFORE_IDENTITY, name="journeys", dagster_dbt_translator=TRANSLATOR)
def journeys(project: ProjectResource) -> Iterator[Any]:
    yield from as_dagster_results(steps.transform_marts(project.run))
