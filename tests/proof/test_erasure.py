"""Erasure of persons with a model that learnt from them; killed anywhere and at every durable step, and then taken up again."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from ml.registry import champion
from tests.conftest import REPOSITORY
from tests.integration.conftest import Ran, demo_project, run_project, waymark
from tests.integration.stepwise import Stepwise, assert_equal
from tests.integration.test_erasure import CALLED, HERS, OTHERS, land, places, project_in
from tests.proof.test_crashes import compiled, drivers, evenly, kill_all, of_each_kind
from waymark.core.digest import table_digest
from waymark.core.home import Home
from waymark.core.warehouse import connect
from waymark.privacy.requests import audited_digest, problems, requests

pytestmark = pytest.mark.prove

PERSONS = 3
TRIALS, MOST_KILLS = 4, 3
SEED = 20_261_127
# Steps on DuckDB's own files and those of the rebuild, which tests/proof/test_crashes.py kills at, are sampled; of the rest so many of each kind and phase.
MOST_OF_A_KIND, SAMPLED = 1, 16
TABLES = (
    "marts.dim_customers", "marts.fct_sessions", "marts.fct_journeys", "marts.fct_conversions", "features.feat_customer_behavior", "features.label_conversion",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo's world of 1,000 persons, with a champion."""
    directory = demo_project(tmp_path_factory.mktemp("erasure") / "project")
    settings = directory / "waymark.yml"
    settings.write_text(settings.read_text().replace("min_positives: 200 ", "min_positives: 30 "))
    assert waymark("world", "--project", directory, "--customers", "1000").returncode == 0
    ran = run_project(directory)
    assert ran.code == 0, ran.errors
    return ran


def everything_of(ran: Ran, customers: list[str]) -> tuple[str, ...]:
    """Identifiers, event ids and ids of marts of these customers, as the published tables have them."""
    listed = ", ".join(f"'{customer}'" for customer in customers)
    found = ran.rows(f"""
        select identifier from marts.dim_identity_clusters where customer_id in ({listed})
        union select event_id from marts.fct_events where customer_id in ({listed})
        union select session_id from marts.fct_sessions where customer_id in ({listed})
        union select journey_id from marts.fct_journeys where customer_id in ({listed})
        union select split_part(identifier, ':', 2) from marts.dim_identity_clusters where customer_id in ({listed}) and contains(identifier, ':')
    """)
    return (*customers, *(str(value) for (value,) in found if value))


def test_persons_a_model_learnt_from_are_gone_and_the_champion_is_the_one_that_never_knew_them(world: Ran, tmp_path: Path) -> None:
    chosen = world.rows(f"""
        select customer_id from marts.dim_customers where conversion_count > 0 and identifier_count > 2 order by event_count desc, customer_id limit {PERSONS}
    """)
    customers = [str(customer) for (customer,) in chosen]
    words = everything_of(world, customers)
    before = places(world.home, words)
    stores = {where.split("/")[0].split(" ")[0] for found in before.values() for where in found}
    assert {"landing", "lake", "warehouse.duckdb", "outputs.duckdb", "published"} <= stores
    identifiers = ", ".join(f"'{word}'" for word in words)
    named = f"len(list_intersect(list_transform(identifiers, lambda i: i.value), [{identifiers}])) > 0"
    theirs = {str(event) for (event,) in world.rows(f"select source_event_id from marts.fct_events where {named}")}
    old_files = {path.name: path.read_bytes() for path in world.home.landing.rglob("*.gz")}
    known = champion(world.home, "propensity")
    assert known and known.folder.is_dir()

    asked = waymark("privacy", "erase", *customers, "--project", world.directory, "--because", "a proof", "--yes")
    assert asked.returncode == 0, asked.stderr
    assert {word: where for word, where in places(world.home, words).items() if where} == {}
    (request,) = requests(world.home)
    assert problems(world.home, request, audited_digest(world.home, request.request_id)) == [] and request.persons == PERSONS
    assert not known.folder.exists()
    successor = champion(world.home, "propensity")
    assert successor and successor.version != known.version and successor.data_now == known.data_now

    # A home that was only ever given files without them. (What is left in the first home's files lacks records of others, too, that mention their address.)
    other = demo_project(tmp_path / "other" / "project")
    shutil.copy(world.directory / "waymark.yml", other / "waymark.yml")
    landing = other / ".waymark" / "landing" / "waymark_world"
    landing.mkdir(parents=True)
    shutil.copy(world.home.world, other / ".waymark" / "world.json")
    for name, content in old_files.items():
        lines = gzip.decompress(content).split(b"\n")  # some of them are no text
        (landing / name).write_bytes(gzip.compress(b"\n".join(line for line in lines if line.split(b",", 1)[0].decode("latin-1") not in theirs)))
    never = run_project(other)
    assert never.code == 0, never.errors
    theirs = champion(never.home, "propensity")
    assert theirs and _model_digest(world.home, successor.run_id) == _model_digest(never.home, theirs.run_id)
    for table in TABLES:
        assert _digest(world.home, table) == _digest(never.home, table), table

    # The old files come again.
    count = world.value("select count(*) from marts.fct_events")
    for name, content in old_files.items():
        (world.home.landing / "waymark_world" / f"again_{name}").write_bytes(content)
    again = run_project(world.directory)
    assert again.code == 0, again.errors
    assert again.value("select count(*) from marts.fct_events") == count
    found = {word: {where for where in there if not where.startswith("landing/")} for word, there in places(world.home, words).items()}
    assert {word: where for word, where in found.items() if where} == {}


def _model_digest(home: Home, run_id: str) -> str:
    store = sqlite3.connect(home.mlflow / "mlflow.db")
    (digest,) = store.execute("select value from tags where run_uuid = ? and key = 'waymark.model_digest'", (run_id,)).fetchone()
    store.close()
    return str(digest)


def _digest(home: Home, table: str) -> tuple[int, str]:
    with connect(home.published, read_only=True) as connection:
        return table_digest(connection, table)


def _landed(folder: Path) -> Stepwise:
    project = project_in(folder)
    land(project, "erp/a", OTHERS["erp/a"] + HERS["erp/a"])
    land(project, "web/a", OTHERS["web/a"] + HERS["web/a"], packed=True)
    land(project, "web/b", OTHERS["web/b"] + HERS["web/b"])
    land(project, f"web/{CALLED}", OTHERS["web/c"] + HERS["web/c"])
    return project


def _run_and_rename(project: Stepwise) -> None:
    """A run, and then another with the file that was called after her under another name: log and refused rows still say the first."""
    project.run()
    (called,) = project.home.landing.glob("web/takeout*")
    called.rename(called.with_name("c.ndjson"))
    project.run()


def test_an_erasure_that_is_killed_anywhere_comes_to_the_same_end(tmp_path: Path) -> None:
    """Kill -9 at random moments, again and again, until it is done; then what is left equals a project that never knew her."""
    without = project_in(tmp_path / "without")
    for file, records in OTHERS.items():
        land(without, file, records)
    without.run()
    base = _landed(tmp_path / "base")
    _run_and_rename(base)
    words = ("ann.of.the.hill@example.org", "cookie-of-ann-one", "cookie-of-ann-two", "ann-the-customer", "id-of-event-0011", "id-of-event-0052")
    chance = random.Random(SEED)
    whole = _erase(_copy(base, tmp_path / "whole"), kill_after=None)
    for trial in range(TRIALS):
        project = _copy(base, tmp_path / f"killed-{trial}")
        kills = 0
        while _erase(project, kill_after=chance.uniform(0.3, whole) if kills < MOST_KILLS else None) is None:
            kills += 1
        assert {word: where for word, where in places(project.home, words).items() if where} == {}, trial
        (request,) = requests(project.home)
        assert request.is_done and problems(project.home, request, audited_digest(project.home, request.request_id)) == [], trial
        assert_equal(project, without)
        shutil.rmtree(project.directory)


def test_an_erasure_that_is_killed_at_a_durable_step_comes_to_the_same_end(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """From the asking on: with keys of hers in logs and results of checks, refused rows, and a version of a model that learnt from her."""
    with drivers(tmp_path / "workers", compiled(tmp_path), "tests.proof.erasure_driver") as workers:
        undisturbed = workers[0].ask({"do": "undisturbed"})
        assert undisturbed["problem"] == ""
        # Every phase ends with the same writes of its note: of these one is a step of its phase, the rename that makes it hold.
        steps = [
            (number, call if path.startswith("privacy") and call != "rename" else f"{phase} {call}", path)
            for number, phase, call, path in undisturbed["boundaries"]
        ]
        told = {path.split("/")[0] for _, _, path in steps}
        assert {"privacy", "landing", "lake", "audit"} <= told and len(steps) > 60
        engine = {number for number, call, path in steps if call.startswith("rebuilt ") or path.startswith(("warehouse.duckdb", "outputs.duckdb", ".anew-"))}
        tried = of_each_kind([step for step in steps if step[0] not in engine], MOST_OF_A_KIND) + evenly(sorted(engine), SAMPLED)
        answers = kill_all(workers, [{"boundary": number} for number in sorted(tried)])
    wrong = [answer for answer in answers if answer["problem"]]
    assert not wrong, wrong[:5]
    died = sum(1 for answer in answers if answer["died"])
    assert died > len(tried) * 0.9
    record_property("claim", "An erasure killed at a durable step: the next attempt comes to the same end, with the same certificate")
    record_property("n", f"{len(tried)} of {len(steps)} steps, {died} died there")


def _copy(base: Stepwise, folder: Path) -> Stepwise:
    """The project elsewhere: its home may be moved, and the log of its files names the new place."""
    shutil.copytree(base.directory, folder)
    project = project_in(folder)
    with connect(project.home.warehouse) as connection:
        connection.execute("update raw.ingestion_log set file = replace(file, ?, ?)", [str(base.directory), str(folder)])
    return project


def _erase(project: Stepwise, *, kill_after: float | None) -> float | None:
    """Seconds that it took, or None where it was killed. A later try goes on with what was begun, or begins."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAYMARK_", "DAGSTER_HOME"))}
    left = any(not request.is_done for request in requests(project.home))
    if requests(project.home) and not left:
        return 0.0  # the last kill came when all was done
    what = ["--continue"] if left else ["email:ann.of.the.hill@example.org", "--because", "a proof", "--yes"]
    command = [str(Path(sys.executable).parent / "waymark"), "privacy", "erase", *what, "--project", str(project.directory)]
    began = monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    while process.poll() is None:
        if kill_after is not None and monotonic() - began > kill_after:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        sleep(0.02)
    said = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, said
    return monotonic() - began
