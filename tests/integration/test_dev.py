"""`waymark dev` for real: every page answers, and Ctrl-C and SIGTERM leave no process, no lock and no port, also in the midst of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from tests.integration.conftest import demo_project, waymark
from tests.integration.dev_process import DAGSTER, DOCS, MLFLOW, PATIENCE_SECONDS, Dev, dev, marked


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        assert response.status == 200
        return str(response.read().decode("utf-8", "replace"))


def assert_nothing_left(stopped: Dev, mark: str, sessions: list[int], ports: list[int], seen: set[int]) -> None:
    assert marked(mark) == [] and not any(psutil.pid_exists(pid) for pid in sessions)
    assert not [pid for pid in seen if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    with stopped.home.writer_lock(timeout_seconds=0):
        pass
    assert (stopped.home.services / "dev.lock").read_text() == ""
    assert not list(Path(tempfile.gettempdir()).glob("waymark-*/code.sock"))


@pytest.mark.prove
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_page_answers_and_a_signal_leaves_no_process_no_port_and_no_lock(
    number: signal.Signals, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """First on a home that had no run: its assets are shown all the same. Then in the midst of a run that the UI launched."""
    project = demo_project(tmp_path / "project")
    assert waymark("world", "--project", project, "--customers", "300").returncode == 0
    with dev(project, tmp_path / "said.txt") as started:
        started.until("All up")
        up, code = started.seconds_until_up, started.seconds_of_the_code
        # Thirty seconds are of a machine that does nothing else; what else runs takes its share.
        assert up < 30 * max(1.0, os.getloadavg()[0]), started.said
        mark, sessions = started.mark, json.loads((started.home.services / "dev.lock").read_text())["sessions"]
        seen = set(marked(mark))
        assert len(sessions) == 5 and seen > set(sessions), started.said
        pages = started.pages
        assert "Dagster" in text_of(pages[DAGSTER]) and "MLflow" in text_of(pages[MLFLOW])
        assert "fct_journeys" in text_of(pages[DOCS]) and not started.home.warehouse.exists()  # looking makes no warehouse
        assets = started.graphql("{ assetNodes { assetKey { path } } }")["assetNodes"]
        assert {"raw/waymark_world_events", "marts/fct_journeys", "published/snapshot"} <= {"/".join(asset["assetKey"]["path"]) for asset in assets}
        second = waymark("dev", "--project", project)
        assert second.returncode == 1 and pages[DAGSTER] in second.stderr, second.stderr

        launched = started.graphql(_LAUNCH, selector={"repositoryLocationName": "waymark", "repositoryName": "__repository__", "jobName": "refresh"})
        run_id = launched["launchRun"]["run"]["runId"]
        end = monotonic() + PATIENCE_SECONDS
        while started.home.writer() is None:
            assert monotonic() < end, started.graphql(_STATUS, run=run_id)
            sleep(0.05)
        seen |= set(marked(mark))
        began = monotonic()
        assert started.stop(number) == 0, started.said
        assert monotonic() - began < 30
    assert f"{number.name}: stopping all" in started.said and "All stopped" in started.said
    assert_nothing_left(started, mark, sessions, [int(url.rsplit(":", 1)[1]) for url in pages.values()], seen)
    ran = waymark("run", "--project", project)
    assert ran.returncode == 0, ran.stderr
    pages_up = f"`waymark dev`: every page answers {up} s after its start on an empty home, of which Dagster's code takes {code:.0f} s"
    record_property("claim", f"{pages_up}; {number.name} in the midst of a run leaves no process, no port, no lock")
    record_property("n", "5 services")


@pytest.mark.prove
def test_one_that_is_killed_leaves_what_the_next_one_ends_and_a_page_that_falls_is_named(tmp_path: Path) -> None:
    project = demo_project(tmp_path / "project")
    with dev(project, tmp_path / "first.txt") as first:
        first.until("Dagster's code: up")
        mark = first.mark
        first.process.kill()
        first.process.wait()
        assert marked(mark) != []
        diagnosis = json.loads(waymark("doctor", "--json", "--project", project).stdout)
        [found] = [check for check in diagnosis["checks"] if check["check"] == "services"]
        assert found["verdict"] == "warning" and str(marked(mark)[0]) in found["remedy"], found
        with dev(project, tmp_path / "second.txt") as second:
            second.until("All up")
            assert "that a killed waymark dev left" in second.said and marked(mark) == []
            sessions = json.loads((second.home.services / "dev.lock").read_text())["sessions"]
            os.kill(sessions[0], signal.SIGKILL)
            second.until("MLflow stopped: ended by SIGKILL")
            assert str(second.home.logs / "mlflow.log") in second.said
            assert "Dagster" in text_of(second.pages[DAGSTER])  # the others go on
            mark = second.mark
            assert second.stop(signal.SIGINT) == 1
    assert marked(mark) == []


def test_a_port_in_use_is_named_with_its_option_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "waymark.yml").write_text("name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\n")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        busy = server.getsockname()[1]
        refused = waymark("dev", "--project", tmp_path, "--port", 0, "--mlflow-port", busy)
    assert refused.returncode == 1 and f"port {busy}" in refused.stderr and "--mlflow-port" in refused.stderr
    assert not (tmp_path / ".waymark" / "services").exists()


_LAUNCH = """
mutation($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, mode: "default"}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
