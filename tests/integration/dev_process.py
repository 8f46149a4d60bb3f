"""`waymark dev` as a process of its own: started on free ports, asked by its pages, ended whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from waymark.core.home import Home
from waymark.core.services import noted_services

DAGSTER, MLFLOW, DOCS = "Dagster's UI", "MLflow", "Tables' documentation"
# On an idle machine of two cores it is up in 20 s; this is for one that has other work.
PATIENCE_SECONDS = 240


@dataclass
class Dev:
    process: subprocess.Popen[str]
    home: Home
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def pages(self) -> dict[str, str]:
        return dict(re.findall(r"^(Dagster's UI|MLflow|Tables' documentation): (http://127\.0\.0\.1:\d+)", self.said, flags=re.MULTILINE))

    @property
    def mark(self) -> str:
        return noted_services(self.home)[0].mark

    @property
    def seconds_until_up(self) -> int:
        return int(self._number(r"^All up in (\d+) s"))

    @property
    def seconds_of_the_code(self) -> float:
        """How long Dagster's code location took to load."""
        return float(self._number(r"^Dagster's code: up ([\d.]+) s"))

    def _number(self, pattern: str) -> str:
        found = re.search(pattern, self.said, flags=re.MULTILINE)
        assert found, self.said
        return found.group(1)

    def until(self, text: str) -> None:
        end = monotonic() + PATIENCE_SECONDS
        while text not in self.said:
            assert self.process.poll() is None and monotonic() < end, self.said
            sleep(0.1)

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def graphql(self, query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.pages[DAGSTER]}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]


@contextmanager
def dev(project: Path, output: Path) -> Iterator[Dev]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_"))}
    command = [str(Path(sys.executable).parent / "waymark"), "dev", "--project", str(project), "--port", "0", "--mlflow-port", "0", "--docs-port", "0"]
    with output.open("w") as handle:
        process = subprocess.Popen(command, env={**environment, "COLUMNS": "300"}, stdout=handle, stderr=handle, text=True)
    started = Dev(process, Home(project / ".waymark"), output)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            for pid in marked(started.mark):
                os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Processes of a `waymark dev`, by what stands in their environment: found without its own means."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WAYMARK_SERVICES") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
