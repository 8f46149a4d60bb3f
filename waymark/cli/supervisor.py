"""Several services under one command: each started when what it needs is up, watched, and all of them stopped with everything that they started.

Decision: every service leads a session of its own and carries a marker in its environment. Context: `dagster dev` can outlive its SIGTERM, because it
starts code servers that start runs; a group alone misses what leaves it. Consequence: on Linux a stop ends whatever carries the marker or descends from
it; elsewhere it ends the groups.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from waymark.core.errors import StorageError
from waymark.core.processes import alive, reap, send
from waymark.core.services import MARKER

State = Literal["waiting", "starting", "up", "silent", "stopped"]
# How long a service may take to end before it is killed; a second signal shortens it to nothing.
GRACE_SECONDS = 15.0
# A service that is up is asked again so often; one that keeps silent is shown as such, and left alone.
_ASK_SECONDS = 10.0
_PAUSE_SECONDS = 0.1
_LOG_BYTES = 5_000_000
_TAIL_LINES = 15


@dataclass(frozen=True)
class Answer:
    """What asking a service gave. is_up: it does its work; note: what it says about that, if anything."""

    is_up: bool
    note: str = ""


@dataclass(frozen=True)
class Service:
    """One program. key: its name in file names; answers: asks it, given its log; url: what a person opens; after: keys of what must be up before it."""

    key: str
    name: str
    command: Sequence[str]
    answers: Callable[[Path], Answer]
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass
class Watched:
    """A service as it stands. seconds: from its start until it was up; exit_code: negative where a signal ended it."""

    service: Service
    log: Path
    state: State = "waiting"
    note: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    asked: float = 0.0

    def age(self) -> float:
        """Seconds that the start took, or has taken so far."""
        return monotonic() - self.started if self.state == "starting" else self.seconds

    def tail(self) -> list[str]:
        """The end of its log."""
        try:
            with self.log.open("rb") as handle:
                handle.seek(max(0, self.log.stat().st_size - 20_000))
                return handle.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            return []


class Supervisor:
    """Starts, watches and stops services.

    environment: of all of them; folder: their working folder; logs: where `<key>.log` goes, begun anew at each start and kept under 5 MB;
    mark: tells these processes from all others; changed: called when a service's state changes.
    """

    def __init__(
        self, services: Sequence[Service], *, environment: Mapping[str, str], folder: Path, logs: Path, mark: str, changed: Callable[[Watched], None]
    ) -> None:
        self.watched = [Watched(service, logs / f"{service.key}.log") for service in services]
        self._environment, self._folder, self._mark, self._changed = dict(environment), folder, mark, changed

    @property
    def sessions(self) -> list[int]:
        """Process ids of what was started: each leads its session and its group."""
        return [watched.process.pid for watched in self.watched if watched.process]

    @property
    def is_over(self) -> bool:
        """Whether nothing runs, or will."""
        return all(watched.state == "stopped" for watched in self.watched)

    def look(self) -> None:
        """One round: starts what can be started, notes what has ended, asks what has not answered yet."""
        by_key = {watched.service.key: watched for watched in self.watched}
        for watched in self.watched:
            if watched.process and watched.state != "stopped" and (code := watched.process.poll()) is not None:
                watched.exit_code = code
                send([watched.process.pid], [], signal.SIGTERM)  # what it leaves behind does no work
                self._become(watched, "stopped", f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}")
            elif watched.state == "waiting":
                needed = [by_key[key] for key in watched.service.after]
                if gone := [one for one in needed if one.state == "stopped"]:
                    self._become(watched, "stopped", f"not started, because this stopped: {gone[0].service.name}")
                elif all(one.state in ("up", "silent") for one in needed):
                    self._start(watched)
            elif watched.state == "starting" or (watched.process and watched.state != "stopped" and monotonic() - watched.asked > _ASK_SECONDS):
                self._ask(watched)

    def watch(self, *, until: Callable[[], bool], each: Callable[[], None] = lambda: None) -> None:
        """Rounds until `until` says so, or nothing runs any more."""
        while not until() and not self.is_over:
            self.look()
            each()
            sleep(_PAUSE_SECONDS)

    def stop(self, *, grace_seconds: float = GRACE_SECONDS, hurry: Callable[[], bool] = lambda: False) -> list[int]:
        """Ends everything: asks first, and kills what is still there after the grace, or as soon as `hurry` says so. Returns what had to be killed.

        Tells nobody before all is over: the terminal may be what went away.
        """
        end = monotonic() + grace_seconds
        left = self._left()
        for watched in self.watched:
            if watched.process and watched.state != "stopped":
                watched.note = "stopping"
        send(self.sessions, left, signal.SIGTERM)
        while (left := self._left()) and monotonic() < end and not hurry():
            sleep(_PAUSE_SECONDS / 2)
        killed = sorted(left)
        end = monotonic() + 5
        while (left := self._left()) and monotonic() < end:
            send(self.sessions, left, signal.SIGKILL)
            sleep(_PAUSE_SECONDS / 2)
        for watched in self.watched:
            if watched.process:
                watched.exit_code = watched.process.wait(5)
        for watched in self.watched:
            if watched.state != "stopped":
                self._become(watched, "stopped", "")
        return killed

    def _left(self) -> set[int]:
        for watched in self.watched:
            if watched.process:
                watched.process.poll()
        reap(self.sessions)
        return alive(self.sessions, f"{MARKER}={self._mark}")

    def _start(self, watched: Watched) -> None:
        service = watched.service
        try:
            watched.log.parent.mkdir(parents=True, exist_ok=True)
            watched.log.unlink(missing_ok=True)
            with watched.log.open("ab") as log:
                watched.process = subprocess.Popen(
                    list(service.command), env={**self._environment, **service.environment, MARKER: self._mark}, cwd=self._folder, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
                    preexec_fn=_default_signals,  # noqa: PLW1509 - nothing else runs in this process meanwhile
                )  # fmt: skip
        except OSError as error:
            raise StorageError(
                f"{service.name} cannot be started ({error.strerror})", where=str(error.filename or watched.log), remedy="Free space, or install again."
            ) from error
        watched.started = monotonic()
        self._become(watched, "starting")

    def _ask(self, watched: Watched) -> None:
        watched.asked = monotonic()
        answer = watched.service.answers(watched.log)
        if watched.state == "starting":
            if answer.is_up:
                watched.seconds = monotonic() - watched.started
                self._become(watched, "up", answer.note)
            elif answer.note != watched.note:
                self._become(watched, "starting", answer.note)
            return
        self._become(watched, "up" if answer.is_up else "silent", answer.note)
        if watched.log.exists() and watched.log.stat().st_size > _LOG_BYTES:
            os.truncate(watched.log, 0)  # opened for appending: its writer goes on at the new end

    def _become(self, watched: Watched, state: State, note: str = "") -> None:
        changed = (watched.state, watched.note) != (state, note)
        watched.state, watched.note = state, note
        if changed:
            self._changed(watched)


def _default_signals() -> None:
    """A shell's background job ignores Ctrl-C, and what it starts inherits that; a signal that is ignored or held back could not stop a service."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


@contextmanager
def noted_signals() -> Iterator[list[str]]:
    """Inside, SIGINT, SIGTERM and SIGHUP end nothing: their names are appended to the list that this gives."""
    noted: list[str] = []
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, lambda given, _: noted.append(signal.Signals(given).name)) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
