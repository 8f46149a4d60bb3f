"""A copy of the demo that ran, whose assets are made in this process, some or all, with days or without."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.integration.conftest import Ran
from waymark.core.digest import table_digest
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import Connection
from waymark.pipeline import steps
from waymark.pipeline.dbt_project import DbtProject
from waymark.pipeline.verify import pure_tables


@dataclass
class Orchestrated:
    """A project and the definitions that serve it. Runs are kept in the home's own Dagster instance."""

    directory: Path
    definitions: dg.Definitions

    @property
    def project(self) -> Project:
        return load_project(self.directory)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        from dagster_project.run import instance_folder

        with dg.DagsterInstance.from_config(instance_folder(self.project.home)) as instance:
            yield instance

    @contextmanager
    def warehouse(self) -> Iterator[Connection]:
        with steps.preflight(self.project).open_warehouse() as connection:
            yield connection

    def digests(self) -> dict[str, tuple[int, str]]:
        run = steps.preflight(self.project)
        run.dbt.assemble()
        with run.open_warehouse() as connection:
            return {table: table_digest(connection, table) for table in pure_tables(run.dbt)}

    def run(
        self, *assets: str, job: str = "", first: str = "", last: str = "", tags: dict[str, str] | None = None, resource: dict[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """A run of a job, or of assets by "schema/table"; first, last: the days that it names. Never raises for a step that failed."""
        found = self.definitions.resolve_job_def(job) if job else self.definitions.resolve_implicit_global_asset_job_def()
        named = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if first else {}
        settings = {"directory": str(self.directory), "tries_again": False, **(resource or {})}
        config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "resources": {"project": {"config": settings}}}
        chosen: Sequence[dg.AssetKey] | None = [dg.AssetKey(asset.split("/")) for asset in assets] or None
        with self.instance() as instance:
            run_config: Any = {**dict(found.run_config or {}), **config} if job else config
            return found.execute_in_process(
                instance=instance, run_config=run_config, asset_selection=chosen, tags={**named, **(tags or {})}, raise_on_error=False
            )


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What the steps that failed said."""
    return [
        str(event.step_failure_data.user_failure_data.description) if event.step_failure_data.user_failure_data else str(event.step_failure_data.error)
        for event in result.all_events
        if event.is_step_failure
    ]


def served(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """The definitions that serve the demo; loaded once in a process."""
    monkeypatch.setenv("WAYMARK_PROJECT", str(ran.directory))
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    from dagster_project.definitions import defs

    return defs()


def copied(ran: Ran, folder: Path, definitions: dg.Definitions) -> Orchestrated:
    """The demo as it stood after its run."""
    shutil.copytree(ran.directory, folder / "project", ignore=shutil.ignore_patterns("truth", "landing"))
    shutil.copytree(ran.home.landing, folder / "project" / ".waymark" / "landing", copy_function=shutil.copy2)
    shutil.copytree(ran.directory.parent / "sources", folder / "sources")
    return Orchestrated(folder / "project", definitions)


def fresh(ran: Ran, folder: Path, definitions: dg.Definitions) -> Orchestrated:
    """The demo's project with an empty home."""
    shutil.copytree(ran.directory, folder / "project", ignore=shutil.ignore_patterns("truth", ".waymark"))
    shutil.copytree(ran.directory.parent / "sources", folder / "sources")
    return Orchestrated(folder / "project", definitions)


def parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt parses the models once, however many runs follow: they differ in their home alone."""
    parsed: dict[str, Any] = {}
    parse = DbtProject.manifest

    def manifest(self: DbtProject) -> Any:
        key = str(sorted(self.vars.items()))
        if key not in parsed:
            parsed[key] = parse(self)
        return parsed[key]

    monkeypatch.setattr(DbtProject, "manifest", manifest)
