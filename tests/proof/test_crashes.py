"""Kill -9 at every durable step of a run and at random moments: the next run gives what an undisturbed one gives, and no reader ever sees a torn state."""

from __future__ import annotations

import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO, Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.prove

SEED = 20_240_301
WORKERS = 2
MOMENTS = 50
# Of steps that differ in the numbers in their files' names alone (the lake has a file a day), so many are tried; of those on DuckDB's own files so many in all.
MOST_OF_A_KIND, MOST_OF_THE_ENGINE = 2, 40
FIRST_RUN_ATTEMPTS = 40


@pytest.fixture(scope="module")
def boundary_library(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return compiled(tmp_path_factory.mktemp("boundary"))


def compiled(folder: Path) -> Path | None:
    """boundary.c, compiled into a folder; None where there is no compiler: then only Python's own calls are boundaries."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    library = folder / "boundary.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("boundary.c")), "-ldl"], check=True)
    return library


class Driver:
    """A process of crash_driver, or of another module that serves as it does, asked one command at a time."""

    def __init__(self, folder: Path, library: Path | None, module: str = "tests.proof.crash_driver") -> None:
        folder.mkdir(parents=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME", "LD_PRELOAD"))}
        preload = {"LD_PRELOAD": str(library)} if library else {}
        # Libraries' own thread pools must not be there when the process forks.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
        self.errors: IO[str] = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(SEED)],
            cwd=REPOSITORY, env={**clean, **preload, **single, "PYTHONPATH": str(REPOSITORY)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise AssertionError(f"the worker ended: {self.errors.read()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.errors.close()


@contextmanager
def drivers(folder: Path, library: Path | None, module: str = "tests.proof.crash_driver") -> Iterator[list[Driver]]:
    started = [Driver(folder / f"worker{number}", library, module) for number in range(WORKERS)]
    try:
        yield started
    finally:
        for driver in started:
            driver.close()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, boundary_library: Path | None) -> Iterator[list[Driver]]:
    with drivers(tmp_path_factory.mktemp("crashes"), boundary_library) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(workers: list[Driver]) -> dict[str, Any]:
    return workers[0].ask({"do": "undisturbed"})


def kill_all(workers: list[Driver], commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Asks every command of whichever worker is free; the answers in no order."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for command in commands:
        waiting.put({"do": "kill", **command})
    answers: list[dict[str, Any]] = []
    failed: list[BaseException] = []

    def work(driver: Driver) -> None:
        try:
            while not failed:
                answers.append(driver.ask(waiting.get_nowait()))
        except queue.Empty:
            return
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(driver,)) for driver in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return answers


def evenly(items: list[Any], count: int) -> list[Any]:
    """At most `count` of the items at even distances, the first and, of more than one, the last among them."""
    return items if len(items) <= count else [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def of_each_kind(steps: Iterable[tuple[int, str, str]], most: int) -> list[int]:
    """Numbers of at most `most` steps of a kind, evenly spread: a call on files whose names differ in numbers and digests alone. steps: number, call, path."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for number, call, path in steps:
        kinds.setdefault((call, re.sub("[0-9a-f]*[0-9][0-9a-f-]*", "#", path)), []).append(number)
    return sorted(number for numbers in kinds.values() for number in evenly(numbers, most))


def _is_the_engines(path: str) -> bool:
    return path.startswith(("warehouse.duckdb", "outputs.duckdb", ".anew-")) or "/.building-" in path


def _judge(answers: list[dict[str, Any]], expected: int) -> None:
    assert len(answers) == expected
    problems = [answer for answer in answers if answer["problem"]]
    assert not problems, problems[:5]


def test_killed_at_every_durable_step_of_an_increment(
    workers: list[Driver], undisturbed: dict[str, Any], boundary_library: Path | None, record_property: Callable[[str, object], None]
) -> None:
    began = monotonic()
    boundaries = undisturbed["first"]["boundaries"]
    assert len(boundaries) > (60 if boundary_library else 20)
    engines = [number for number, _, path in boundaries if _is_the_engines(path)]
    others = of_each_kind([(number, call, path) for number, call, path in boundaries if not _is_the_engines(path)], MOST_OF_A_KIND)
    tried = sorted([*others, *evenly(engines, MOST_OF_THE_ENGINE)])
    answers = kill_all(workers, [{"base": "first", "boundary": number} for number in tried])
    print(f"\n{len(boundaries)} boundaries ({len(engines)} on DuckDB's files), {len(tried)} attempts, {monotonic() - began:.0f} s")
    _judge(answers, len(tried))
    died = sum(1 for answer in answers if answer["died"])
    # Where DuckDB writes at another moment than in the counted run there may be a boundary less; hardly more than a few.
    assert died >= 0.95 * len(tried)
    saw = {state: sum(1 for answer in answers if answer.get("saw") == state) for state in ("before", "after")}
    assert min(saw.values()) > 0, saw
    record_property("claim", "A run killed at a durable step (fsync, truncate, rename, unlink): readers see whole snapshots, the next run's tables are right")
    record_property("n", f"{len(tried)} of {len(boundaries)} steps ({len(others)} outside DuckDB's own files, some of every kind), {died} died there")
    record_property("seed", SEED)


def test_killed_at_random_moments_of_an_increment(workers: list[Driver], undisturbed: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    rng = random.Random(SEED)
    last = undisturbed["first"]["seconds"]
    answers = kill_all(workers, [{"base": "first", "after_seconds": rng.uniform(0, last)} for _ in range(MOMENTS)])
    _judge(answers, MOMENTS)
    record_property("claim", "A run killed at a random moment: readers see whole snapshots, the next run's tables are right")
    record_property("n", f"{MOMENTS} moments, {sum(1 for answer in answers if answer['died'])} before its end")
    record_property("seed", SEED)


def test_killed_during_a_first_run(workers: list[Driver], undisturbed: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    boundaries = undisturbed["empty"]["boundaries"]
    tried = evenly([number for number, _, _ in boundaries], FIRST_RUN_ATTEMPTS)
    answers = kill_all(workers, [{"base": "empty", "boundary": number} for number in tried])
    _judge(answers, len(tried))
    assert any(answer.get("saw") == "none" for answer in answers)
    record_property("claim", "A first run killed at a durable step: readers see nothing or a whole snapshot, the next run's tables are right")
    record_property("n", f"{len(tried)} of {len(boundaries)} steps, evenly spread")
    record_property("seed", SEED)
