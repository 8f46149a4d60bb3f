"""One worker of the crash proof: a process with everything imported that forks a child for each attempt, lets it die, and looks at what is left.

Started with boundary.so preloaded. Reads one JSON command a line, answers one JSON line: see `answer`. `python crash_driver.py FOLDER SEED`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from tests.integration.equality_logs import DAY, give, log, moment, shop
from tests.integration.stepwise import Stepwise
from waymark.core.digest import table_digest
from waymark.core.warehouse import connect, rows

W = TypeVar("W")
CELLS = 25
# The lake has a file a day, each with its own boundaries: a few days show all there is to see.
LAST = moment(4 * DAY)


def arm(boundary: int, project: Stepwise, log_file: Path | None) -> None:
    """From here on, calls on files under the home count; the process dies at number `boundary`."""
    home = f"{project.home.root}/"
    library = ctypes.CDLL(None)
    text = [part.encode() for part in (home, f"{home}dagster/", str(log_file or ""))]
    if hasattr(library, "boundary_arm"):
        library.boundary_arm(ctypes.c_long(boundary), *(ctypes.c_char_p(part) for part in text))
    else:
        _patch_python(boundary, home, log_file)


def _patch_python(boundary: int, home: str, log_file: Path | None) -> None:
    """Where no compiler made boundary.so: Python's own calls alone, without DuckDB's."""
    count = 0

    def counting(name: str, path_of: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            path = path_of(*arguments)
            if path.startswith(home) and not path.startswith(f"{home}dagster/"):
                count += 1
                if log_file:
                    with log_file.open("a") as handle:
                        handle.write(f"{count} {name} {path.removeprefix(home)}\n")
                if count == boundary:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, name, call)

    for name in ("fsync", "fdatasync"):
        counting(name, lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    for name in ("rename", "replace"):
        counting(name, lambda source, target: str(target))
    counting("unlink", str)


def start_child(work: Callable[[], object], answer_to: int | None = None) -> int:
    """Forks a child that runs `work` and writes what it returned, as JSON, to the file descriptor `answer_to`; returns its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            result = work()
            if answer_to is not None:
                with os.fdopen(answer_to, "wb") as handle:
                    handle.write(json.dumps(result).encode())
            code = 0
        except BaseException as error:
            with open(2, "w", closefd=False) as errors:
                errors.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    return child


def in_child(work: Callable[[], object]) -> tuple[int, Any]:
    """Runs `work` in a forked child; returns its wait status and what it returned (None where it died)."""
    reader, writer = os.pipe()
    child = start_child(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as handle:
        answer = handle.read()
    _, status = os.waitpid(child, 0)
    return status, json.loads(answer) if answer else None


def published(project: Stepwise) -> dict[str, Any] | None:
    """What a reader sees: digests of all published tables but the snapshot's own line and the log, and whether the conservation law holds."""
    if not project.home.published.exists():
        return None
    with connect(project.home.published, read_only=True) as connection:
        names = rows(connection, "select table_name from information_schema.tables where table_schema = 'marts' order by 1")
        marts = {str(name): table_digest(connection, f"marts.{name}")[1] for (name,) in names}
        broken = rows(connection, "select count(*) from raw.ingestion_log where rows_read <> rows_accepted + rows_duplicate + rows_quarantined")
        tally = rows(connection, "select (select sum(rows_accepted) from raw.ingestion_log) = (select count(*) from marts.fct_events)")
        return {"marts": marts, "is_lawful": broken == [(0,)] and tally == [(True,)]}


class Worker:
    """A project whose home can be put back to what it was before the run that is to be killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        deliveries = [delivery for delivery in log(seed, cells=CELLS, batches=2) if str(delivery.record["at"]) < LAST]
        self.project = shop(folder / "project")
        self.empty, self.first = folder / "empty", folder / "first"
        shutil.copytree(self.project.home.root, self.empty)
        give(self.project, [delivery for delivery in deliveries if delivery.batch == 0], "b0")
        self.project.started()  # parses the models, once for all children
        shutil.rmtree(self.project.home.root)
        self._restore(self.empty)
        self.snapshot_1 = self._whole()["published"]["marts"]
        shutil.copytree(self.project.home.root, self.first)
        give(self.project, [delivery for delivery in deliveries if delivery.batch == 1], "b1")
        self.undisturbed = {base: self._undisturbed(base) for base in ("first", "empty")}

    def _restore(self, base: Path) -> None:
        shutil.rmtree(self.project.home.root, ignore_errors=True)
        shutil.copytree(base, self.project.home.root)

    def _whole(self, log_file: Path | None = None) -> dict[str, Any]:
        def work() -> object:
            began = monotonic()
            if log_file:
                arm(0, self.project, log_file)
            self.project.run(checks=False)
            seconds = monotonic() - began
            return {"pure": self.project.digests(), "published": published(self.project), "seconds": seconds}

        status, result = in_child(work)
        assert status == 0, f"the run ended with {status}"
        found: dict[str, Any] = result
        return found

    def _undisturbed(self, base: str) -> dict[str, Any]:
        self._restore(getattr(self, base))
        log_file = self.folder / f"{base}.log"
        result = self._whole(log_file)
        boundaries = [line.split(" ", 2) for line in log_file.read_text().splitlines()]
        return result | {"boundaries": [(int(number), call, path) for number, call, path in boundaries]}

    def attempt(self, base: str, *, boundary: int | None, after_seconds: float | None) -> dict[str, Any]:
        """Kills a run, looks at what a reader sees, runs again, and compares with the run that nobody disturbed."""
        self._restore(getattr(self, base))
        if boundary is not None:

            def dying() -> None:
                arm(boundary, self.project, None)
                self.project.run(checks=False)

            child = start_child(dying)
        else:
            child = start_child(lambda: self.project.run(checks=False))
            sleep(after_seconds or 0)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)

        def survivor() -> object:
            seen = published(self.project)
            self.project.run(checks=False)
            return {"seen": seen, "pure": self.project.digests(), "published": published(self.project)}

        ended, found = in_child(survivor)
        if ended != 0:
            return {"died": os.WIFSIGNALED(status), "problem": f"the run after it ended with {ended}"}
        expected, before, seen = self.undisturbed[base], self.snapshot_1 if base == "first" else None, found["seen"]
        problem = ""
        if seen is not None and not seen["is_lawful"]:
            problem = "a reader saw a snapshot that breaks the conservation law"
        elif (seen and seen["marts"]) not in (before, expected["published"]["marts"]):
            problem = "a reader saw neither the snapshot before nor the one after"
        elif found["pure"] != expected["pure"]:
            problem = f"differs after the next run: {sorted(name for name, digest in found['pure'].items() if digest != expected['pure'][name])}"
        elif found["published"] != expected["published"]:
            problem = "the next run published something else"
        return {"died": os.WIFSIGNALED(status), "saw": "none" if seen is None else "before" if seen["marts"] == before else "after", "problem": problem}


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    """{"do": "undisturbed"}: boundaries and seconds of both bases; {"do": "kill", "base", "boundary" | "after_seconds"}: one attempt."""
    if command["do"] == "undisturbed":
        return {base: {"boundaries": found["boundaries"], "seconds": found["seconds"]} for base, found in worker.undisturbed.items()}
    return command | worker.attempt(command["base"], boundary=command.get("boundary"), after_seconds=command.get("after_seconds"))


def serve(make: Callable[[Path, int], W], answering: Callable[[W, dict[str, Any]], dict[str, Any]]) -> None:
    """Makes a worker of the folder and the seed on the command line, and answers what it is asked."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = make(Path(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        answers.write(json.dumps(answering(worker, json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Worker, answer)
