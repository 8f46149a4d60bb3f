"""What a request of erasure writes down, and its passes over what is kept, each for itself and without a rebuild: as they are, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from waymark.core.clock import wall_now
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.home import Home
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import connect, rows
from waymark.identity import prepare_identity
from waymark.pipeline import erasure, steps
from waymark.pipeline.erasure import PHASES, ask, go_on, refuse_open
from waymark.pipeline.subjects import Subject
from waymark.pipeline.traces import landed_since, needles_of
from waymark.privacy import identifier_message
from waymark.privacy.audit import AuditLog
from waymark.privacy.requests import Request, Working, load_working, new_request, requests, save, save_working, unfinished, working_path
from waymark.privacy.struck import struck

MAPPING: dict[str, Any] = {
    "format": "ndjson",
    "columns": {
        "event_id": "id", "event_type": "type", "occurred_at": "at", "anonymous_id": {"column": "visitor", "optional": True},
        "user_id": {"column": "user", "optional": True},
    },
    "identifiers": {"email": {"column": "mail", "optional": True}},
}  # fmt: skip
ANN, COOKIE, OLD, OLDER, OTHERS = "ann.of.the.hill@example.org", "cookie-of-ann-one", "c_" + "1" * 24, "c_" + "2" * 24, "c_" + "3" * 24
NOW = wall_now()


def at(hours: float) -> str:
    return f"{NOW + timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}Z"


def record(number: int, hours: float = -100, **told: str) -> dict[str, str]:
    return {"id": f"id-of-event-{number:04d}", "type": "page_viewed", "at": at(hours), **told}


class Shop:
    """A project with one source or two, whose files lie in landing; nothing is built from what it takes in."""

    def __init__(self, folder: Path, *sources: str) -> None:
        self.folder = folder
        self.name(*sources)
        (folder / ".waymark").mkdir(exist_ok=True)
        (folder / ".waymark" / "secret").write_text("the secret of the tests, not of anybody's events\n")

    def name(self, *sources: str) -> None:
        document = {"name": "tiny", "sources": {source: {"mapping": f"{source}.yml", "files": ["{landing}/*"]} for source in sources}}
        for source in sources:
            (self.folder / f"{source}.yml").write_text(yaml.safe_dump({"source": source, **MAPPING}))
        (self.folder / "waymark.yml").write_text(yaml.safe_dump({**document, "engine": {"threads": 1, "memory_limit": "1GB"}}))

    @property
    def project(self) -> Project:
        return load_project(self.folder)

    @property
    def home(self) -> Home:
        return self.project.home

    def land(self, source: str, name: str, *records: dict[str, str]) -> Path:
        path = self.home.landing / source / f"{name}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
        return path

    def ingest(self, *sources: str) -> None:
        run = steps.preflight(self.project)
        steps.prepare(run)
        for source in sources:
            steps.ingest(run, source)

    def events(self, source: str) -> list[str]:
        with steps.preflight(self.project, erasing=True).open_warehouse() as connection:
            return [str(event) for (event,) in rows(connection, f"select source_event_id from raw.{source}_events order by 1")]

    def ann(self) -> Subject:
        keyed = steps.preflight(self.project, erasing=True).secret.hmac(identifier_message("email", ANN))
        return Subject(f"email:{ANN}", (("anonymous_id", f"web:{COOKIE}"), ("email", keyed)), (OLD,), (8_234_567_890_123_456_789,))

    def ask(self, because: str = "request 17") -> Request:
        return ask(self.project, [self.ann()], because=because, clear=[ANN])

    def done(self, request: Request, *phases: str) -> Working:
        """Does some phases, each as after a kill: from what is written down."""
        for phase in phases:
            work = erasure._Erasure(steps.preflight(self.project, erasing=True), request, load_working(self.home, request))
            work.step(phase)
            save_working(self.home, request, work.working)
        return load_working(self.home, request)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Shop(tmp_path_factory.mktemp("base"), "web")
    store.land("web", "a", record(1, visitor=COOKIE), record(2, mail=ANN), record(3, visitor="cookie-of-bob-x"))
    store.ingest("web")
    return store.folder


@pytest.fixture
def store(base: Path, tmp_path: Path) -> Shop:
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    return Shop(tmp_path, "web")


@pytest.mark.parametrize("because", [f"{ANN} asked", f"asked by <{ANN.upper()}>.", f"web:{COOKIE}", f"erase {OLD}_17"])
def test_a_reason_that_names_the_person_is_refused_and_nothing_is_written_down(store: Shop, because: str) -> None:
    with pytest.raises(WaymarkError, match="reason names"):
        store.ask(because)
    assert requests(store.home) == [] and list(store.home.privacy.glob("*working*")) == []
    assert store.ask("asked by dpo@example.org on 2026-03-01").because.startswith("asked")


def test_a_request_is_refused_before_it_is_written_down(store: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(erasure, "noted_services", lambda _: [SimpleNamespace(is_held=True, command="dev")])
        with pytest.raises(WaymarkError, match="waymark dev runs"):
            store.ask()
    assert unfinished(store.home) is None
    store.ask()
    with pytest.raises(WaymarkError, match="did not come to its end"):
        refuse_open(store.project)


def test_a_key_that_is_gone_is_not_made_again(store: Shop) -> None:
    request = store.ask()
    store.done(request, "collected")
    (store.home.privacy / "requests" / f"{request.request_id}.json").unlink()
    (store.home.privacy / "erasure_key").unlink()
    with pytest.raises(StorageError, match="gone"):
        store.ask()


def test_what_a_kill_left_of_an_asking_goes_with_the_next(store: Shop) -> None:
    left = new_request(1, "killed before it was written down")
    (store.home.privacy / "requests").mkdir(parents=True)
    save_working(store.home, left, Working(texts=[ANN]))
    request = store.ask()
    assert [path.name for path in store.home.privacy.glob(".working-*")] == [working_path(store.home, request).name]


def test_a_request_that_was_killed_at_its_very_end_is_done_by_the_next_attempt(store: Shop) -> None:
    """The last thing to be written is that it is done: then nothing else is left."""
    request = store.ask()
    request.phase = PHASES[-1]
    save(store.home, request)
    working_path(store.home, request).unlink()
    assert go_on(store.project, request).is_done and unfinished(store.home) is None


def test_who_has_the_same_id_in_another_source_is_not_looked_for(store: Shop) -> None:
    with steps.preflight(store.project).open_warehouse() as connection:
        prepare_identity(connection)
        connection.execute("insert into identity.nodes (node_id, identifier_type, identifier_value) values (7, 'user_id', ?)", [f"erp:{COOKIE}"])
    texts = load_working(store.home, store.ask()).texts
    assert f"web:{COOKIE}" in texts and COOKIE not in texts


def test_all_that_is_in_the_lake_is_from_before_the_erasure_whatever_its_time(tmp_path: Path) -> None:
    store = Shop(tmp_path, "web")
    store.land("web", "a", record(1, visitor=COOKIE), record(2, 1.5, visitor=COOKIE), record(3, visitor="cookie-of-bob-x"), record(4, 24 * 40, mail=ANN))
    store.land("web", "b", {**record(5, visitor=COOKIE), "at": "some day"}, {**record(6, visitor="cookie-of-bob-x"), "at": "some day"})
    store.ingest("web")
    request = store.ask()
    working = store.done(request, "collected")
    assert working.until.startswith(at(1.5)[:13].replace("T", " ")), "a time that is still to come says nothing of when"
    working = store.done(request, "landing", "quarantine", "quarantine", "lake", "lake")
    assert store.events("web") == ["id-of-event-0003"]
    assert [json.loads(line)["id"] for line in (store.home.landing / "web" / "a.ndjson").read_text().splitlines()] == ["id-of-event-0003"]
    assert working.found["refused_rows"] == 2 and working.found["events"] == {"web": 2}, "also where a kill came before a phase was written down"
    with steps.preflight(store.project, erasing=True).open_warehouse() as connection:
        assert rows(connection, "select distinct until::varchar from raw.tombstones") == [(working.until.removesuffix(".000000"),)]
    save(store.home, Request(**{**vars(request), "completed_at": at(0)}))
    store.land("web", "c", record(11, 1, visitor=COOKIE), record(12, 3, visitor=COOKIE))
    store.ingest("web")
    assert store.events("web") == ["id-of-event-0003", "id-of-event-0012"], "who comes back later is a new person"


def test_what_lands_while_an_erasure_is_open_is_left_to_the_next_run(store: Shop) -> None:
    struck = store.home.landing / "web" / "a.ndjson"
    request = store.ask()
    before = store.land("web", "before", record(1, visitor=COOKIE), record(8, visitor="cookie-of-bob-x"))
    working = store.done(request, "collected", "landing")
    since = store.land("web", "since", record(9, 3, visitor=COOKIE))
    digests = {str(copy["new_digest"]) for copy in working.found["landing"]}  # type: ignore[attr-defined]
    assert len(digests) == 2 and landed_since(store.home, working.landed_from, digests) == [since]
    assert COOKIE not in struck.read_text() + before.read_text() and landed_since(store.home, "", digests) == []
    struck.write_text(struck.read_text() + json.dumps(record(10, visitor=COOKIE)))
    assert set(landed_since(store.home, working.landed_from, digests)) == {since, struck}, "somebody went on writing it"


def test_sources_that_the_project_no_longer_names_are_erased_from_a_second_time(tmp_path: Path) -> None:
    store = Shop(tmp_path, "erp", "web")
    store.land("web", "a", record(1, visitor=COOKIE), record(3, visitor="cookie-of-bob-x"))
    store.land("erp", "a", record(5, mail=ANN), record(6, mail="bob@example.org"))
    store.ingest("erp", "web")
    store.name("web")
    with steps.preflight(store.project).open_warehouse() as connection:
        for view in ("erp_events", "erp_pending", "web_events", "web_pending", "quarantine"):  # as an earlier erasure left them
            connection.execute(f"drop view raw.{view}")
    working = store.done(store.ask(), "collected", "landing", "quarantine", "lake")
    assert working.found["events"] == {"erp": 1, "web": 1} and store.events("erp") == ["id-of-event-0006"]


@pytest.mark.parametrize("reason", ["retention", "consent"])
def test_after_retention_no_model_and_no_older_id_is_known_to_be_anothers(store: Shop, reason: str) -> None:
    request = store.ask()
    assert store.done(request, "collected").since.startswith(at(-100)[:13].replace("T", " "))
    with steps.preflight(store.project, erasing=True).open_warehouse() as connection:
        prepare_identity(connection)
        connection.execute("insert into raw.removals (removal_id, source, rows_removed, reason) values (1, 'web', 5, ?)", [reason])
        connection.execute("insert into identity.memberships values (9, ?)", [OTHERS])
        for pair in ([OLDER, OLD], [None, OLDER], [OLD, OTHERS]):
            connection.execute("insert into identity.restatements (customer_before, customer_after) values (?, ?)", pair)
    working = store.done(request, "collected")
    assert working.since == "0001-01-01 00:00:00" and working.customers == sorted([OLD, OLDER])
    assert needles_of(working).are_in(f"{OLDER}_17") and not needles_of(working).are_in(OTHERS)


def test_keys_in_results_of_checks_and_in_logs_are_found_inside_longer_ones_and_counted_once(store: Shop) -> None:
    request = store.ask()
    store.done(request, "collected", "landing", "quarantine", "lake")
    held, looks_alike = json.dumps([f"{OLD}_1700000000000000", "x"]), json.dumps([f"{OTHERS}_1700000000000000", "cookie-of-ann-ones"])
    with steps.preflight(store.project, erasing=True).open_warehouse() as connection:
        connection.execute("create table quality.check_results (rule varchar, failing_keys varchar)")
        connection.execute("insert into quality.check_results values ('a', ?), ('b', ?)", [held, looks_alike])
    log = store.home.dagster / "deep" / "runs.db"
    log.parent.mkdir(parents=True)
    with closing(sqlite3.connect(log)) as told, told:
        told.execute("create table event_logs (body text, n integer)")
        told.executemany("insert into event_logs values (?, ?)", [(held, 1), (looks_alike, 42)])
    store.done(request, "records")
    with connect(store.home.warehouse, read_only=True) as connection:
        assert rows(connection, "select * from quality.check_results order by rule") == [("a", "[]"), ("b", looks_alike)]
    assert store.done(request, "forgotten", "forgotten").found["log_rows"] == 1
    with closing(sqlite3.connect(log)) as told:
        assert told.execute("select body from event_logs").fetchall() == [(looks_alike,)]


def test_what_a_reader_wrote_into_the_log_of_a_role_stops_no_certificate(store: Shop) -> None:
    log = AuditLog(store.home, "analyst")
    for query in ("from t", f"from t where who = {OLD}", "from t"):
        log.append("sql", role="analyst", details={"query": query})
    with log.path.open("a") as handle:
        handle.write(f"{ANN} was here\n")
    request = store.ask()
    working = store.done(request, "collected", "landing", "quarantine", "lake", "records", "forgotten", "certified")
    assert working.found["lines_struck"] == {"analyst": 2} and OLD not in log.path.read_text() and ANN not in log.path.read_text()
    assert load_working(store.home, request) == working and log.verify(struck=struck(store.home, "analyst")).problems == ()
    (certified,) = [json.loads(path.read_text())["certificate"] for path in (store.home.privacy / "requests").glob("*.json")]
    assert certified["lines_struck"] == {"analyst": 2} and certified["scan"]["found"] == 0


def test_versions_are_written_down_before_they_go(store: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    request = store.ask()
    store.done(request, "collected")

    def killed(home: Home, model: str, since: str, *, told: Any) -> list[str]:
        told(["2", "3"])
        os.remove(home.root / "no such file")  # in the place of a kill
        return []

    monkeypatch.setattr("ml.registry.forget_trainings", killed)
    with pytest.raises(FileNotFoundError):
        store.done(request, "models")
    monkeypatch.setattr("ml.registry.forget_trainings", lambda *_, **__: [])
    assert store.done(request, "models").found["versions_deleted"] == ["2", "3"]
