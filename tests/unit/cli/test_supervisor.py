"""The supervisor on tiny services: order, states, a death among them, and a stop that leaves nothing, whatever a service tries."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import psutil
import pytest

from tests.conftest import REPOSITORY
from waymark.cli.answers import free_port, listening, logged, page
from waymark.cli.supervisor import Answer, Service, Supervisor, Watched, noted_signals
from waymark.core.errors import LockHeldError, SettingsError
from waymark.core.home import Home
from waymark.core.processes import alive
from waymark.core.services import MARKER, claim, noted_services

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what leaves its session is found on Linux alone")
SAYS_UP = "print('up', flush=True); "
SLEEPS = SAYS_UP + "import time; time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def service(key: str, code: str = SLEEPS, *after: str) -> Service:
    return Service(key, f"the {key}", python(code), logged("up"), after=after)


class Watching:
    """A supervisor and the changes that it told, as `key state`."""

    def __init__(self, folder: Path, *services: Service) -> None:
        self.told: list[str] = []
        self.mark = uuid4().hex
        self.supervisor = Supervisor(
            services, environment={"PATH": os.environ["PATH"]}, folder=folder, logs=folder / "logs", mark=self.mark, changed=self._hear
        )

    def _hear(self, watched: Watched) -> None:
        self.told.append(f"{watched.service.key} {watched.state}")

    def until(self, condition: Callable[[], bool]) -> None:
        end = monotonic() + 20
        self.supervisor.watch(until=lambda: condition() or monotonic() > end)
        assert condition(), self.told

    def state(self, key: str) -> Watched:
        return next(watched for watched in self.supervisor.watched if watched.service.key == key)

    @property
    def processes(self) -> list[int]:
        """Found without the supervisor's own eyes."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    made: list[Watching] = []

    def make(*services: Service) -> Watching:
        made.append(Watching(tmp_path, *services))
        return made[-1]

    yield make
    for one in made:
        one.supervisor.stop(grace_seconds=0)
        assert one.processes == []


def test_services_start_when_what_they_need_is_up_and_a_stop_ends_all(watching: Callable[..., Watching]) -> None:
    found = watching(service("page", SLEEPS, "code"), service("code"))
    found.until(lambda: found.state("page").state == "up")
    assert found.told == ["code starting", "code up", "page starting", "page up"]
    assert len(found.processes) == 2 and found.state("page").seconds > 0
    assert found.supervisor.stop() == []  # asked, not killed
    assert found.processes == [] and found.supervisor.is_over
    assert found.state("page").exit_code == -signal.SIGTERM


def test_a_service_that_dies_is_told_with_the_end_of_its_log_and_the_others_go_on(watching: Callable[..., Watching]) -> None:
    dies = "print('up', flush=True); print('because of this'); raise SystemExit(3)"
    found = watching(service("dies", dies), service("waits", SLEEPS, "dies", "other"), service("other"))
    found.until(lambda: found.state("dies").state == "stopped" and found.state("other").state == "up" and found.state("waits").state == "stopped")
    assert found.state("dies").exit_code == 3 and found.state("dies").note == "exit code 3"
    assert found.state("dies").tail() == ["up", "because of this"]
    assert found.state("waits").note == "not started, because this stopped: the dies"
    assert not found.supervisor.is_over and len(found.processes) == 1


def test_a_service_that_a_signal_ended_says_which(watching: Callable[..., Watching]) -> None:
    found = watching(service("one"))
    found.until(lambda: found.state("one").state == "up")
    os.kill(found.supervisor.sessions[0], signal.SIGKILL)
    found.until(lambda: found.supervisor.is_over)
    assert found.state("one").note == "ended by SIGKILL"


def test_one_that_ignores_the_signal_is_killed_after_its_grace_or_when_somebody_is_in_a_hurry(watching: Callable[..., Watching]) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
    for hurry in (False, True):
        found = watching(service("deaf", deaf))
        found.until(lambda found=found: found.state("deaf").state == "up")  # type: ignore[misc]
        pid = found.supervisor.sessions[0]
        began = monotonic()
        assert found.supervisor.stop(grace_seconds=30 if hurry else 0.5, hurry=lambda hurry=hurry: hurry) == [pid]  # type: ignore[misc]
        assert monotonic() - began < 5 and found.processes == []


def test_a_terminal_that_went_away_keeps_nothing_alive(watching: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch) -> None:
    found = watching(service("one"), service("two"))
    found.until(lambda: found.state("one").state == found.state("two").state == "up")

    def gone(_: Watched) -> None:
        raise SystemExit(1)  # what rich makes of a closed pipe

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(found.supervisor, "_changed", gone)
        found.supervisor.stop()
    assert found.processes == []


FORKS = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('up', flush=True)
        time.sleep(60)
    os._exit(0)
{then}
"""


@on_linux
@pytest.mark.parametrize("then", ["time.sleep(60)", "time.sleep(0.2)"])
def test_what_left_the_session_of_its_service_is_ended_too(watching: Callable[..., Watching], then: str) -> None:
    found = watching(service("forks", FORKS.format(then=then)))
    found.until(lambda: found.state("forks").state in ("up", "stopped") and "up" in found.state("forks").tail())
    session = found.supervisor.sessions[0]
    strays = [pid for pid in found.processes if os.getsid(pid) != session]
    assert len(strays) == 1
    assert set(strays) <= set(found.supervisor.stop(grace_seconds=0.3))
    assert found.processes == []


def test_a_log_begins_anew_and_is_cut_when_it_has_grown(watching: Callable[..., Watching], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waymark.cli.supervisor._LOG_BYTES", 1_000)
    monkeypatch.setattr("waymark.cli.supervisor._ASK_SECONDS", 0)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "talks.log").write_text("of the last time")
    found = watching(service("talks", SAYS_UP + "import time\nwhile True: print('x' * 100, flush=True); time.sleep(0.01)"))
    log = tmp_path / "logs" / "talks.log"
    sizes: list[int] = []

    def shrank() -> bool:
        sizes.append(log.stat().st_size if log.exists() else 0)
        return any(later < earlier for earlier, later in pairwise(sizes[2:]))

    found.until(shrank)
    assert "of the last time" not in log.read_text() and max(sizes) < 100_000
    end = log.stat().st_size
    found.until(lambda: log.stat().st_size > end)  # it is still being written
    assert b"\0" not in log.read_bytes()


def test_a_page_is_up_when_it_answers_and_says_meanwhile_what_it_waits_for() -> None:
    ready = threading.Event()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if ready.is_set() else 503)
            self.send_header("X-Waymark-Note", "" if ready.is_set() else "being written")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    ask = page(f"http://127.0.0.1:{server.server_port}/")
    assert ask(Path()) == Answer(False, "being written")
    ready.set()
    assert ask(Path()) == Answer(True, "")
    server.shutdown()
    server.server_close()
    assert ask(Path()) == Answer(False)


def test_a_socket_is_up_when_it_accepts(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not listening(path)(Path()).is_up
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert not listening(path)(Path()).is_up
        server.listen()
        assert listening(path)(Path()).is_up


def test_a_port_in_use_is_refused_by_number_and_option() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        busy = server.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {busy} on 127.0.0.1 is in use(.|\n)*--mlflow-port NUMBER"):
            free_port(busy, "--mlflow-port", taken=set())
    taken: set[int] = set()
    found = [free_port(0, "--port", taken=taken), free_port(0, "--docs-port", taken=taken)]
    assert len(set(found)) == 2 and taken == set(found)
    with pytest.raises(SettingsError, match=f"port {found[0]} on 127.0.0.1 is asked for twice"):
        free_port(found[0], "--docs-port", taken=taken)
    for number in (-1, 70_000):
        with pytest.raises(SettingsError, match=f"{number} is no port"):
            free_port(number, "--port", taken=taken)


def test_signals_are_noted_and_end_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    with noted_signals() as noted:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        sleep(0.01)
        assert noted == ["SIGINT", "SIGTERM", "SIGHUP"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_service_that_inherits_ignored_or_held_signals_is_stopped_by_asking(watching: Callable[..., Watching]) -> None:
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        found = watching(service("one"))
        found.until(lambda: found.state("one").state == "up")
        assert found.supervisor.stop() == [] and found.processes == []
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        signal.signal(signal.SIGTERM, handler)


CLAIMS = """
import os, subprocess, sys, time
from pathlib import Path
from waymark.core.home import Home
from waymark.core.services import claim
with claim(Home(Path(sys.argv[1])), "dev", "a-mark") as note:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], env={"WAYMARK_SERVICES": "a-mark"}, start_new_session=True)
    note.note([child.pid], {"Dagster's UI": "http://127.0.0.1:3000"})
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_one_on_a_home_is_told_of_the_first_and_a_killed_one_leaves_a_note(tmp_path: Path) -> None:
    home = Home(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = subprocess.Popen([sys.executable, "-c", CLAIMS, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout
    child = int(first.stdout.readline())
    try:
        with pytest.raises(LockHeldError, match=f"waymark dev runs already, process {first.pid}: Dagster's UI http://127.0.0.1:3000"), claim(home, "dev", "b"):
            pass
        [note] = noted_services(home)
        assert note.is_held and note.processes() == {child}
        with claim(home, "mlflow", "c"):  # another command is nobody's rival
            pass
        first.kill()
        first.wait()
        [note] = noted_services(home)
        assert not note.is_held and note.processes() == {child}
    finally:
        os.kill(child, signal.SIGKILL)
        first.kill()
        first.communicate()
    end = monotonic() + 5
    while noted_services(home)[0].processes() and monotonic() < end:
        sleep(0.02)
    assert noted_services(home)[0].processes() == set()
    with claim(home, "dev", "d"):
        assert [note.mark for note in noted_services(home)] == ["d"]
    assert noted_services(home) == []  # one that ends by itself leaves no note


def test_what_is_alive_is_found_by_session_and_never_this_process() -> None:
    child = subprocess.Popen(python("import time; time.sleep(60)"), start_new_session=True)
    try:
        assert alive([child.pid]) == {child.pid}
        assert os.getpid() not in alive([os.getsid(0)])
    finally:
        child.kill()
        child.wait()
    assert alive([child.pid]) == set()
