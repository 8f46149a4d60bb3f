"""The project as a Dagster resource: it holds the writer lock for the whole run, so that UI, sensor and command line queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import cache, partial

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG
from pydantic import PrivateAttr

from dagster_project.lib.instance import process_tag
from waymark.core.errors import LockHeldError, StorageError, WaymarkError
from waymark.core.settings import Project, environment, load_project
from waymark.ingestion import Refusal
from waymark.pipeline.progress import Notice, listening
from waymark.pipeline.steps import Run, preflight, prepare, restate_days

PROJECT_VARIABLE = "WAYMARK_PROJECT"
# Dagster makes assets with days only in runs that name one. A refresh names today, and with this tag says that it does not ask for the day's re-statement.
WHAT_IS_NEW = {"waymark/states": "what is new"}
# Laid on a run that failed by what stays until somebody mends it: data, settings, a fault of ours. One that was killed, or met a full disk or a lock, lacks it.
FAILED_FOR_GOOD = {"waymark/failed": "for good"}
_PASSING = (StorageError, OSError, LockHeldError)


def project_directory() -> str:
    """The project folder that this code location serves: WAYMARK_PROJECT, else the current folder."""
    return environment().get(PROJECT_VARIABLE, ".")


@cache
def served_project() -> Project:
    """The project that this code location serves, as its settings stood when it was loaded."""
    return load_project(project_directory())


class ProjectResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """directory: the project folder. full_refresh: rebuild every model from raw. tries_again: whether a step that failed by a fault of the disk is repeated."""

    directory: str
    full_refresh: bool = False
    tries_again: bool = True
    _run: Run | None = PrivateAttr(default=None)
    _failed_for_good: bool = PrivateAttr(default=False)

    @property
    def run(self) -> Run:
        """The checked project; only inside a Dagster run."""
        if self._run is None:
            raise RuntimeError("the project resource is used outside of a run")
        return self._run

    @contextmanager
    def step(self) -> Iterator[Run]:
        """The checked project for one step. What the step raises is told in its own words, and tried again only where the disk or another process caused it."""
        try:
            yield self.run
        except Exception as error:
            self._failed_for_good |= not isinstance(error, _PASSING)
            said = str(error) if isinstance(error, WaymarkError) else f"{type(error).__name__}: {error}"
            raise dg.Failure(said, allow_retries=self.tries_again and isinstance(error, StorageError | OSError)) from error

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ProjectResource]:
        def lay(tags: dict[str, str]) -> None:
            if context.run and context.instance:
                context.instance.add_run_tags(context.run.run_id, tags)

        lay(process_tag())
        try:
            with listening(partial(_warn, context.log.warning if context.log else print)), self._prepared(context):
                yield self
        except Exception as error:  # of what comes before the first step
            self._failed_for_good |= not isinstance(error, _PASSING)
            raise
        finally:
            if self._failed_for_good:
                lay(FAILED_FOR_GOOD)

    @contextmanager
    def _prepared(self, context: dg.InitResourceContext) -> Iterator[None]:
        project = load_project(self.directory)
        say = context.log.info if context.log else print
        with project.home.writer_lock(
            timeout_seconds=project.settings.ingestion.lock_timeout_seconds, on_wait=lambda holder: say(f"waiting for {holder}"),
        ):  # fmt: skip
            self._run = preflight(project)
            prepare(self._run, full_refresh=self.full_refresh)
            if asked := asked_days(context.run.tags if context.run else {}):
                restate_days(self._run, *asked)
            yield


def _warn(say: Callable[[str], None], news: object) -> None:
    """What should be known when the run is over: on the command line it stays on the screen, in Dagster it stands in the run's log."""
    if isinstance(news, Notice):
        say(news.text)
    elif isinstance(news, Refusal):
        say(f"refused: {news}")


def named_days(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The first and the last day that a run's partitions name, both included; None for a run without partitions."""
    first = tags.get(ASSET_PARTITION_RANGE_START_TAG) or tags.get(PARTITION_NAME_TAG)
    last = tags.get(ASSET_PARTITION_RANGE_END_TAG) or tags.get(PARTITION_NAME_TAG)
    return (date.fromisoformat(first), date.fromisoformat(last)) if first and last else None


def asked_days(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The days that a run is to state anew, beside what is new: those that it names, unless it says that it is for what is new alone."""
    return None if WHAT_IS_NEW.items() <= tags.items() else named_days(tags)
