"""The project as a Dagster resource: it holds the writer lock for the whole run, so that UI, sensor and command line queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import PrivateAttr

from waymark.core.settings import environment, load_project
from waymark.pipeline.steps import Run, preflight, prepare

PROJECT_VARIABLE = "WAYMARK_PROJECT"


def project_directory() -> str:
    """The project folder that this code location serves: WAYMARK_PROJECT, else the current folder."""
    return environment().get(PROJECT_VARIABLE, ".")


class ProjectResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """directory: the project folder. full_refresh: rebuild every model from raw."""

    directory: str
    full_refresh: bool = False
    _run: Run | None = PrivateAttr(default=None)

    @property
    def run(self) -> Run:
        """The checked project; only inside a Dagster run."""
        if self._run is None:
            raise RuntimeError("the project resource is used outside of a run")
        return self._run

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ProjectResource]:
        project = load_project(self.directory)
        say = context.log.info if context.log else print
        with project.home.writer_lock(
            timeout_seconds=project.settings.ingestion.lock_timeout_seconds, on_wait=lambda holder: say(f"waiting for {holder}"),
        ):  # fmt: skip
            self._run = preflight(project)
            prepare(self._run, full_refresh=self.full_refresh)
            yield self
