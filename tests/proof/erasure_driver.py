"""One worker of the proof of killed erasures: like crash_driver, with a home that holds a person in every store that an erasure changes.

Reads one JSON command a line, answers one JSON line: see `answer`. `python erasure_driver.py FOLDER SEED`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ml.registry import artifacts_of
from tests.integration.stepwise import share_manifest
from tests.integration.test_erasure import ANN, CALLED, HERS, OTHERS, WORDS, land, places, project_in
from tests.proof.crash_driver import arm, in_child, serve, start_child
from tests.unit.pipeline.test_registry import EARLY, LATE, STORE, TRIAL
from waymark.core.home import Home
from waymark.core.warehouse import OUTPUTS, connect, rows
from waymark.pipeline import quality, steps
from waymark.pipeline.erasure import ask, go_on
from waymark.pipeline.subjects import subjects_of
from waymark.privacy.requests import audited_digest, problems, requests, unfinished
from waymark.privacy.subjects import SubjectReferences

_COUNTS = ("events", "refused_rows", "log_rows", "versions_deleted", "landed_since", "outside", "tombstones")


class Worker:
    """A project whose home can be put back to what it was before the erasure."""

    def __init__(self, folder: Path, _: int) -> None:
        self.project, self.base, self.log = project_in(folder / "project"), folder / "base", folder / "boundaries.log"
        land(self.project, "erp/a", OTHERS["erp/a"] + HERS["erp/a"])
        land(self.project, "web/a", OTHERS["web/a"] + HERS["web/a"], packed=True)
        land(self.project, "web/b", OTHERS["web/b"] + HERS["web/b"])
        self.called = land(self.project, f"web/{CALLED}", OTHERS["web/c"] + HERS["web/c"])
        _skip_checks_and_parsing()
        self.project.started()  # parses the models, once for all children
        status, self.words = in_child(self._prepare)
        assert status == 0
        shutil.copytree(self.project.home.root, self.base)
        self.undisturbed = self._whole()

    def _prepare(self) -> list[str]:
        """Runs the project, and plants what a run of this size does not leave. Returns what must be nowhere after the erasure."""
        self.project.run(checks=False)
        self.called.rename(self.called.with_name("c.ndjson"))  # what log and refused rows say of it stays
        self.project.run(checks=False)
        home = self.project.home
        with home.writer_lock():
            (subject,) = subjects_of(self.project.project, [f"email:{ANN}"])
        customer = subject.customers[0]
        SubjectReferences(home).of(subject.customers)
        with connect(home.warehouse) as connection:
            connection.execute(f"create table if not exists {OUTPUTS}.{quality.TABLE} ({quality._COLUMNS})")
            keys = json.dumps([f"{customer}_1700000000000000"])
            connection.execute(f"insert into {OUTPUTS}.{quality.TABLE} (rule, failing_keys) values ('planted', ?)", [keys])
        for name in ("one", "two"):
            path = home.dagster / "storage" / f"{name}.db"
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path)) as store, store:
                store.execute("create table event_logs (body text)")
                store.executemany("insert into event_logs values (?)", [(keys,), (f"about {customer}",), ("about nobody",)])
        for run in (EARLY, LATE, TRIAL):
            artifacts_of(home, run).mkdir(parents=True)
            (artifacts_of(home, run) / "model.json").write_text("{}")
        with closing(sqlite3.connect(home.mlflow / "mlflow.db")) as store:
            store.executescript(f"{STORE}; delete from registered_model_aliases;")
        return [*WORDS, *subject.customers, *(value for _, value in subject.identifiers)]

    def _restore(self) -> None:
        shutil.rmtree(self.project.home.root, ignore_errors=True)
        shutil.copytree(self.base, self.project.home.root)

    def _erase(self, log: Path | None = None) -> None:
        """Asks for the erasure, or goes on with it; does nothing where it is done."""
        project = self.project.project

        def told(phase: str) -> None:
            if log:
                with log.open("a") as lines:
                    lines.write(f"phase {phase}\n")

        with project.home.writer_lock():
            request = unfinished(project.home)
            if request is None and requests(project.home):
                return
            request = request or ask(project, subjects_of(project, [f"email:{ANN}"]), because="a proof", clear=[ANN])
            go_on(project, request, after=told)

    def _facts(self) -> dict[str, Any]:
        home = self.project.home
        (request,) = requests(home)
        landing = request.certificate.get("landing", [])
        assert isinstance(landing, list)
        return {
            "is_done": request.is_done, "problems": problems(home, request, audited_digest(home, request.request_id)),
            "found": {word: sorted(where) for word, where in places(home, tuple(self.words)).items() if where},
            "counts": {name: request.certificate.get(name) for name in _COUNTS},
            "files": sorted([Path(copy["file"]).name, copy["struck"], copy["new_digest"]] for copy in landing),
            "left": sorted(path.name for path in home.privacy.iterdir()), "artifacts": sorted(path.name for path in (home.mlflow / "artifacts").iterdir()),
            "references": _references(home), "until": _until(home), "tables": self.project.digests(),
        }  # fmt: skip

    def _whole(self) -> dict[str, Any]:
        def work() -> object:
            arm(0, self.project, self.log)
            self._erase(self.log)
            return self._facts()

        status, facts = in_child(work)
        assert status == 0, f"the erasure ended with {status}"
        boundaries, phase = [], "asked"
        # A line that tells of a phase stands after the steps of it.
        for line in reversed(self.log.read_text().splitlines()):
            number, call, *path = line.split(" ", 2)
            if number == "phase":
                phase = call
            else:
                boundaries.append((int(number), phase, call, path[0] if path else ""))
        return {"facts": facts, "boundaries": boundaries[::-1]}

    def attempt(self, boundary: int) -> dict[str, Any]:
        """Kills an erasure, goes on with it, and compares with the one that nobody disturbed."""
        self._restore()

        def dying() -> None:
            arm(boundary, self.project, None)
            self._erase()

        _, status = os.waitpid(start_child(dying), 0)

        def survivor() -> object:
            self._erase()
            return self._facts()

        ended, facts = in_child(survivor)
        died = os.WIFSIGNALED(status)
        if ended != 0:
            return {"died": died, "problem": f"the attempt after it ended with {ended}"}
        expected = self.undisturbed["facts"]
        wrong = {name: (facts[name], expected[name]) for name in expected if name not in ("tables", "left") and facts[name] != expected[name]}
        tables = sorted(name for name, digest in facts["tables"].items() if digest != expected["tables"][name])
        return {"died": died, "problem": f"{wrong} {tables}" if wrong or tables or len(facts["left"]) != len(expected["left"]) else ""}


def _references(home: Home) -> int:
    with closing(sqlite3.connect(home.root / "audit" / "subjects.sqlite")) as store:
        return int(store.execute("select count(*) from subjects").fetchone()[0])


def _until(home: Home) -> int:
    """How many tombstones count for ever: none, once all is done."""
    with connect(home.warehouse, read_only=True) as connection:
        return int(str(rows(connection, "select count(*) from raw.tombstones where until > timestamp '2100-01-01'")[0][0]))


def _skip_checks_and_parsing() -> None:
    """Checks say nothing of an erasure, and models need be parsed once only."""
    preflight = steps.preflight

    def shared(*arguments: Any, **options: Any) -> steps.Run:
        run = preflight(*arguments, **options)
        share_manifest(run)
        return run

    steps.preflight = shared
    quality.check = lambda *_, **__: []


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    """{"do": "undisturbed"}: the steps of an erasure, each with its phase; {"do": "kill", "boundary"}: one attempt."""
    if command["do"] == "undisturbed":
        facts = worker.undisturbed["facts"]
        wrong = facts["problems"] or facts["found"] or facts["until"] or not facts["is_done"] or facts["artifacts"] != [EARLY]
        counts = {"refused_rows": 1, "log_rows": 4, "versions_deleted": ["2"]}
        wrong = wrong or {name: facts["counts"][name] for name in counts} != counts
        return {"boundaries": worker.undisturbed["boundaries"], "problem": str(facts) if wrong else ""}
    return command | worker.attempt(command["boundary"])


if __name__ == "__main__":
    serve(Worker, answer)
