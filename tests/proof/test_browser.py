"""What a person does in the pages of `waymark dev`, done by a headless Chromium on a small world: what is asserted is what stands on the screen."""

from __future__ import annotations

import csv
import gzip
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import demo_project, run_project, waymark
from tests.integration.dev_process import DAGSTER, DOCS, MLFLOW, PATIENCE_SECONDS, Dev, dev
from tests.proof.browser import Looking, looking

if TYPE_CHECKING:
    from playwright.sync_api import Page

CUSTOMERS = 600
_RUNS = "query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results { runId status jobName } } } }"


@dataclass(frozen=True)
class Pages:
    """The running pages of a project that ran and trained twice, and a browser to look at them."""

    directory: Path
    dev: Dev
    looking: Looking

    @property
    def dagster(self) -> str:
        return self.dev.pages[DAGSTER]

    def runs(self, **filters: object) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.dev.graphql(_RUNS, filter=filters)["runsOrError"]["results"]
        return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    pictures = folder / "pictures"
    pictures.mkdir()
    with looking(pictures) as browser:  # first: where there is none, nothing else needs to be made
        directory = demo_project(folder / "project")
        _set(directory, "min_positives: 200 ", "min_positives: 20 ")
        _set(directory, "sensor_seconds: 60 ", "sensor_seconds: 5 ")
        assert waymark("world", "--project", directory, "--customers", CUSTOMERS).returncode == 0
        ran = run_project(directory)
        assert ran.code == 0, ran.errors
        _set(directory, "seed: 7 ", "seed: 8 ")
        trained = waymark("train", "--project", directory)
        assert trained.returncode == 0 and "version 2" in trained.stdout, trained.stdout + trained.stderr
        with dev(directory, folder / "said.txt") as started:
            started.until("All up")
            yield Pages(directory, started, browser)
            assert started.stop(signal.SIGINT) == 0, started.said


@pytest.fixture(autouse=True)
def _pictures(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    record_property("pictures", pages.looking.folder)


def _set(directory: Path, old: str, new: str) -> None:
    settings = directory / "waymark.yml"
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))


def _drop(directory: Path, name: str, **columns: str) -> int:
    """Puts a file of the world's first orders under new event ids into the landing folder; columns: what differs. Returns its rows."""
    landing = directory / ".waymark" / "landing" / "waymark_world"
    first = min(landing.glob("*.csv.gz"))
    with gzip.open(first, "rt", newline="") as file:
        read = csv.DictReader(file)
        rows = [row for row in read if row["event_name"] in ("order_placed", "order_completed")][:5]
    assert rows and read.fieldnames
    with gzip.open(landing / f".{name}", "wt", newline="") as file:
        written = csv.DictWriter(file, read.fieldnames)
        written.writeheader()
        written.writerows({**row, **columns, "event_id": f"{name}-{number}"} for number, row in enumerate(rows))
    (landing / f".{name}").rename(landing / f"{name}.csv.gz")
    return len(rows)
