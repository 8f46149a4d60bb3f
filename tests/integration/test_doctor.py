"""`waymark doctor`: a clean home gives no warning, each planted fault is found by its check with its remedy, and nothing is touched or told of people."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from typer.testing import CliRunner

from tests.conftest import REPOSITORY
from tests.integration.conftest import Ran, waymark
from waymark.cli.main import app
from waymark.core import home as homes
from waymark.core.home import Home, read_json
from waymark.core.warehouse import connect, rows
from waymark.pipeline.doctor import CHECKS, Finding, examine, installation, storage, worst
from waymark.privacy.requests import new_request, save


@dataclass(frozen=True)
class Patient:
    """A copy of the demo that ran, for one fault."""

    directory: Path

    @property
    def home(self) -> Home:
        return Home(self.directory / ".waymark")

    def warehouse(self, sql: str) -> None:
        with connect(self.home.warehouse) as connection:
            connection.execute(sql)

    def published(self, sql: str) -> None:
        self.home.published.chmod(0o644)
        with connect(self.home.published) as connection:
            connection.execute(sql)
        self.home.published.chmod(0o444)

    def settings(self, old: str, new: str) -> None:
        self._replace(self.directory / "waymark.yml", old, new)

    def mapping(self, old: str, new: str) -> None:
        self._replace(self.directory.parent / "sources" / "waymark_world.yml", old, new)

    def manifest(self, **changes: object) -> None:
        self.home.manifest.write_text(json.dumps({**(read_json(self.home.manifest) or {}), **changes}))

    @staticmethod
    def _replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def template(demo: Ran, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo without what no check opens."""
    folder = tmp_path_factory.mktemp("doctor") / "template"
    apart = shutil.ignore_patterns("truth", "dagster", "dbt", "event_date=*", "quality")
    shutil.copytree(demo.directory, folder / "project", ignore=apart)
    shutil.copytree(REPOSITORY / "examples" / "sources", folder / "sources")
    return folder


@pytest.fixture
def patient(demo: Ran, template: Path, tmp_path: Path) -> Patient:
    shutil.copytree(template, tmp_path / "at")
    made = Patient(tmp_path / "at" / "project")
    known = made.home.root / "known_files.json"
    document = json.loads(known.read_text().replace(str(demo.directory), str(made.directory)))
    mapping = made.directory.parent / "sources" / "waymark_world.yml"
    files = {path: stamp for path, stamp in document["waymark_world"].items() if path.endswith(".gz")}
    files[str(mapping)] = [mapping.stat().st_size, mapping.stat().st_mtime_ns]
    known.write_text(json.dumps({"waymark_world": files}))
    return made


def faults(patient: Patient) -> list[Finding]:
    return [finding for finding in examine(patient.directory) if finding.verdict != "ok"]


def test_a_home_in_order_gives_no_warning_in_a_moment_and_nothing_is_written(demo: Ran) -> None:
    before = {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in demo.home.root.rglob("*")}
    began = monotonic()
    done = waymark("doctor", "--project", demo.directory)
    seconds = monotonic() - began
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.strip().endswith("All is well."), done.stdout
    assert re.findall(r"^\w+ +(\S.*?)  ", done.stdout, flags=re.MULTILINE) == list(CHECKS)
    assert seconds < 10  # 0.8 s on an idle machine
    assert {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in demo.home.root.rglob("*")} == before


def test_the_copy_that_faults_are_planted_in_is_in_order(patient: Patient) -> None:
    assert faults(patient) == []


def _orphan_of_a_killed_dev(patient: Patient) -> None:
    patient.home.services.mkdir(exist_ok=True)
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(30)"], env={"WAYMARK_SERVICES": "left"}, start_new_session=True)
    note = {"command": "dev", "pid": 1, "since": "2026-01-01T00:00:00Z", "mark": "left", "sessions": [child.pid], "pages": {}}
    (patient.home.services / "dev.lock").write_text(json.dumps(note))


def _write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _replace_mlflow(patient: Patient) -> None:
    (patient.home.mlflow / "mlflow.db").write_bytes(b"no database" * 1000)


def _own_secret(patient: Patient, *, mode: int = 0o600, fingerprint: bool = True) -> None:
    """Makes the demo a project of its own secret, which the home knows."""
    from waymark.privacy import Secret

    text = "a secret of the tests, of nobody else"
    patient.settings("demo: true", "demo: false")
    patient.home.secret_file.write_text(text)
    patient.home.secret_file.chmod(mode)
    if fingerprint:
        (patient.home.root / "secret_fingerprint").write_text(Secret(text.encode()).fingerprint)
        patient.manifest(secret_fingerprint=Secret(text.encode()).fingerprint)


def _refused(patient: Patient) -> None:
    patient.warehouse("""
        insert into raw.ingestion_log (file_id, source, file, status, error)
        values (900, 'waymark_world', '/somewhere/torn.csv.gz', 'refused', E'torn.csv.gz: cut short\n  Export it again.')
    """)


def _expired(patient: Patient) -> None:
    [path] = patient.home.quarantine.rglob("*.parquet")
    with connect() as connection:
        older = f"select * replace (quarantined_at - to_days(200) as quarantined_at) from read_parquet('{path}')"
        connection.execute(f"copy ({older}) to '{path}.older' (format parquet)").fetchall()
    Path(f"{path}.older").replace(path)
    path.chmod(0o600)


WARNING, PROBLEM = "warning", "problem"
Plant = Callable[[Patient], object]
# fault: (what is planted, the check that finds it, its verdict, what it says, its remedy)
PLANTED: dict[str, tuple[Plant, str, str, str, str]] = {
    "more memory than there is": (
        lambda p: p.settings("memory_limit: 1GB", "memory_limit: 90000GB"),
        "machine", WARNING, "90000GB", "engine.memory_limit"),
    "more threads than cores": (
        lambda p: p.settings("memory_limit: 1GB", "memory_limit: 1GB\n  threads: 4096"), "machine", WARNING, "4096 threads", "engine.threads"),
    "settings that cannot be read": (
        lambda p: p.settings("session_gap_minutes: 30", "session_gap_minutes: x"),
        "settings", PROBLEM, "session_gap", "Mend time"),
    "settings that are no YAML": (
        lambda p: _write(p.directory / "waymark.yml", "a: ["),
        "settings", PROBLEM, "not readable as YAML", "Mend the file"),
    "a mapping that is gone": (
        lambda p: (p.directory.parent / "sources" / "waymark_world.yml").unlink(),
        "settings", PROBLEM, "cannot be read", "existing mapping"),
    "a rate that is none": (
        lambda p: _write(p.directory / "rates.csv", "valid_from,currency,rate\n2025-01-01,EUR,x\n"),
        "settings", PROBLEM, "row 1", "decimal"),
    "a glob without a file": (
        lambda p: p.settings("*.csv.gz", "*.tsv.gz"),
        "source files", WARNING, r"waymark_world matches .*tsv", "sources.waymark_world.files"),
    "a mapping that nobody names": (
        lambda p: _write(p.directory / "sources" / "new.yml"),
        "source files", WARNING, "sources/new.yml", "Add them under sources"),
    "files of no source": (
        lambda p: _write(p.home.landing / "old_shop" / "a.csv"),
        "source files", WARNING, "landing/old_shop", "Add them under sources"),
    "a home that is a file": (lambda p: (shutil.rmtree(p.home.root), p.home.root.write_text("")), "home", PROBLEM, "is no folder", "WAYMARK_HOME"),
    "an older home": (lambda p: p.home.version_file.write_text("0"), "schema version", PROBLEM, "^0; this Waymark writes 3", "waymark upgrade"),
    "a newer home": (lambda p: p.home.version_file.write_text("99"), "schema version", PROBLEM, "99", "newer one"),
    "a home without a version": (lambda p: p.home.version_file.unlink(), "schema version", PROBLEM, "^0;", "waymark upgrade"),
    "a version that is no number": (lambda p: p.home.version_file.write_text("two"), "schema version", PROBLEM, "'two'", "Remove the file"),
    "the demo's secret on real data": (
        lambda p: p.settings("sources:\n", "sources:\n  shop: {mapping: ../sources/shop_events.yml, files: ['waymark.yml']}\n"),
        "secret", PROBLEM, "public", "demo: true"),
    "a secret that others can read": (lambda p: _own_secret(p, mode=0o644), "secret", PROBLEM, "mode 644", "chmod 600"),
    "another secret": (lambda p: _own_secret(p, fingerprint=False), "secret", PROBLEM, "the home was made with", "old secret"),
    "a secret of another snapshot": (
        lambda p: p.manifest(secret_fingerprint="0123456789abcdef"),
        "secret", PROBLEM, "published snapshot", "old secret"),
    "a secret that is gone": (lambda p: (_own_secret(p), p.home.secret_file.unlink()), "secret", PROBLEM, "is gone", "Restore the file"),
    "a secret that is too short": (lambda p: (_own_secret(p), p.home.secret_file.write_text("short")), "secret", PROBLEM, "too short", "backup"),
    "a snapshot half written": (
        lambda p: _write(p.home.published_dir / ".building-0.duckdb"),
        "left-over files", WARNING, "building-0", "waymark run"),
    "a batch half written": (
        lambda p: _write(p.home.raw_lake / "waymark_world_events" / ".tmp-00000009" / "a"), "left-over files", WARNING, "tmp-00000009", "waymark run"),
    "scratch of a killed run": (
        lambda p: _write(p.home.scratch / "duckdb_temp_storage-0.tmp", "x" * 3_000_000),
        "left-over files", WARNING, "3.0 MB", "rm -r "),
    "a file about persons half written": (
        lambda p: [_write(folder / f".{name}.7.tmp") for folder, name in ((p.home.privacy, "erasure_key"), (p.home.audit, "subjects.sqlite"))],
        "left-over files", WARNING, "audit/.subjects.sqlite.*privacy/.erasure_key", "rm -r "),
    "a small file half written": (lambda p: _write(p.home.root / ".known_files.json.7.tmp"), "left-over files", WARNING, "known_files", "rm -r "),
    "processes of a killed dev": (_orphan_of_a_killed_dev, "services", WARNING, "left 1 process$", r"kill \d+"),
    "rows that no table has yet": (
        lambda p: p.warehouse("update raw.lake_files set is_pending = true"), "last run", WARNING, r"[\d,]+ accepted rows not in the tables", "waymark run"),
    "a rebuild cut short": (
        lambda p: p.warehouse("update raw.build_state set full_refresh_needed = true"),
        "last run", WARNING, "rebuild", "waymark run"),
    "an erasure that was cut short": (
        lambda p: save(p.home, new_request(1, "asked")), "last run", PROBLEM, "the erasure e_[0-9a-f]{12} did not", "waymark privacy erase --continue"),
    "a run that did not publish": (lambda p: _write(p.home.unpublished, ""), "last run", WARNING, "nothing of it is published", "waymark run"),
    "a warehouse that is no database": (lambda p: p.home.warehouse.write_bytes(b"no database" * 500), "last run", PROBLEM, ".", "."),
    "a snapshot that is no database": (
        lambda p: (p.home.published.chmod(0o644), p.home.published.write_bytes(b"no database" * 500)),
        "published snapshot", PROBLEM, "cannot be read", "waymark run"),
    "files that are newer": (
        lambda p: _write(p.home.landing / "waymark_world" / "z.csv.gz"),
        "published snapshot", WARNING, "1 files .* new", "waymark run"),
    "settings that bind tables": (
        lambda p: p.settings("session_gap_minutes: 30", "session_gap_minutes: 31"), "published snapshot", WARNING, "--full-refresh", "waymark run"),
    "other models": (lambda p: p.manifest(build_digest="another"), "published snapshot", WARNING, "models or the sources changed", "waymark run"),
    "another mapping": (lambda p: p.mapping("currency: USD", "currency: EUR"), "published snapshot", WARNING, "mapping changed", "waymark run"),
    "no manifest": (lambda p: p.home.manifest.unlink(), "published snapshot", WARNING, "without a readable manifest", "waymark run"),
    "a refused file": (
        _refused,
        "refused files", WARNING, r"1 file \(waymark_world: torn.csv.gz\); .* cut short", "^Export it again. Then: waymark run"),
    "refused rows that others can read": (lambda p: p.home.quarantine.chmod(0o755), "quarantine", PROBLEM, "others can read", "chmod -R go= "),
    "refused rows that have expired": (_expired, "quarantine", WARNING, "should have been deleted on", "waymark run"),
    "a rule that stops": (
        lambda p: p.warehouse("update quality.check_results set status = 'failed', is_blocking = true, failing_count = 3"),
        "checks of data", PROBLEM, r"blocking rules failed.*\(3 rows\)", "waymark quality"),
    "a rule that stops nothing": (
        lambda p: p.warehouse("update quality.check_results set status = 'failed', is_blocking = false"), "checks of data", WARNING, "stop nothing", "quality"),
    "a damaged store of models": (_replace_mlflow, "models", PROBLEM, "damaged", "Restore"),
    "a champion without files": (lambda p: shutil.rmtree(p.home.mlflow / "artifacts"), "models", PROBLEM, "champion .* are gone", "waymark train"),
    "one huge customer": (
        lambda p: p.published("update marts.dim_customers set event_count = 90000 where customer_id = (select min(customer_id) from marts.dim_customers)"),
        "identities", WARNING, "one customer of .* of all", "placeholder"),
    "an identifier that too many share": (
        lambda p: p.warehouse("update identity.nodes set is_over_shared = true, neighbour_count = 77 where identifier_type = 'email'"),
        "identities", WARNING, "emails? \\(up to 77 others", "max_neighbours"),
    "events without ids": (lambda p: p.mapping("  event_id: event_id\n", ""), "sources", WARNING, "no event ids", "map it as event_id"),
    "events without receipt": (lambda p: p.mapping("  received_at: received_at\n", ""), "sources", WARNING, "received_at", "map it as received_at"),
    "no session key": (
        lambda p: p.mapping("session_key: anonymous_id", "session_key: none"),
        "sources", WARNING, "has no session key", "session_key in"),
    "session keys that are null": (
        lambda p: p.published("update intermediate.int_events_sessionized set session_key = null"),
        "sources", WARNING, "100.0% of .* no session key", "Mend session_key"),
    "events of nobody": (
        lambda p: p.published("update intermediate.int_events_sessionized set customer_id = null where hash(event_id) % 2 = 0"),
        "sources", WARNING, "unattributed", "identifier"),
    "rows that are mostly refused": (
        lambda p: p.published("update raw.ingestion_log set rows_quarantined = rows_read / 2"),
        "sources", WARNING, "are refused", "quarantine replay waymark_world"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_by_its_check_with_its_remedy(patient: Patient, fault: str) -> None:
    plant, check, verdict, found, remedy = PLANTED[fault]
    plant(patient)
    told = [finding for finding in examine(patient.directory, {check: CHECKS[check]}) if finding.verdict != "ok"]
    assert [finding for finding in told if finding.check == check and finding.verdict == verdict and re.search(found, finding.found)], told
    assert [finding for finding in told if finding.check == check and re.search(remedy, finding.remedy)], told
    assert all(finding.remedy and "Traceback" not in finding.found for finding in told)
    for note in Home(patient.home.root).services.glob("*.lock") if patient.home.root.is_dir() else []:
        for pid in json.loads(note.read_text() or '{"sessions": []}')["sessions"]:
            os.kill(pid, 9)


def test_every_check_that_looks_at_a_home_has_a_planted_fault() -> None:
    elsewhere = {"python", "libraries", "writer lock", "disk"}  # tested below
    assert {check for _, check, *_ in PLANTED.values()} == set(CHECKS) - elsewhere


def test_while_a_run_writes_nothing_of_it_is_opened_and_no_check_holds_it_up(patient: Patient) -> None:
    _write(patient.home.scratch / "duckdb_temp_storage-0.tmp")
    with patient.home.writer_lock(timeout_seconds=0), connect(patient.home.warehouse):
        found = {finding.check: finding for finding in examine(patient.directory)}
        assert not [finding for finding in found.values() if finding.verdict != "ok"]
        assert found["writer lock"].found.startswith(f"held by process {os.getpid()}, since ")
        assert "not looked at" in found["last run"].found and "not looked at" in found["left-over files"].found
        assert "under way" in found["published snapshot"].found


def test_python_libraries_and_disk(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(check: str) -> Finding:
        return next(iter(examine(patient.directory, {check: CHECKS[check]})))

    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", (3, 10, 0, "final", 0))
        assert found("python").verdict == PROBLEM and "3.11" in found("python").remedy
    with monkeypatch.context() as patch:
        real = installation.version
        patch.setattr(installation, "version", lambda name: "1.0" if name == "duckdb" else real(name))
        assert found("libraries") == Finding("libraries", PROBLEM, "duckdb is 1.0, ==2.0.0 is wanted", found("libraries").remedy)
        assert "requirements.lock" in found("libraries").remedy
        patch.setattr(installation, "requires", lambda _: ["nothing-of-this-name>=2", "tomli>=2; python_version < '3'", "x; extra == 'y'"])
        assert "nothing-of-this-name is missing (>=2 is wanted)" in found("libraries").found and "tomli" not in found("libraries").found
    usage = shutil.disk_usage(patient.home.root)
    for free, verdict in ((1_000, PROBLEM), (patient.home.warehouse.stat().st_size * 2, WARNING), (usage.free, "ok")):
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        monkeypatch.setattr(storage, "_LEAST_SPACE", 2_000)
        assert found("disk").verdict == verdict and ("WAYMARK_HOME" in found("disk").remedy) is (verdict != "ok")
    if os.geteuid() != 0:
        patient.home.lock_file.chmod(0o000)
        assert found("writer lock").verdict == PROBLEM


def test_a_check_that_fails_is_a_problem_of_its_own_and_hinders_no_other(patient: Patient) -> None:
    def broken(_: object) -> list[Finding]:
        raise ZeroDivisionError("of a broken check")

    found = list(examine(patient.directory, {"broken": broken, **CHECKS}))
    assert (found[0].verdict, "ZeroDivisionError: of a broken check" in found[0].found) == (PROBLEM, True)
    assert {finding.check for finding in found} == {"broken", *CHECKS} and worst(found) == PROBLEM and worst(found[1:]) == "ok"


def test_json_and_exit_codes_say_the_gravest_verdict(patient: Patient, tmp_path: Path) -> None:
    def said(directory: Path) -> tuple[int, dict[str, object]]:
        result = CliRunner().invoke(app, ["doctor", "--json", "--project", str(directory)])
        return result.exit_code, json.loads(result.stdout)

    code, document = said(patient.directory)
    assert (code, document["verdict"]) == (0, "ok")
    _write(patient.home.unpublished, "")
    assert (said(patient.directory)[0], said(patient.directory)[1]["verdict"]) == (0, WARNING)
    patient.home.version_file.write_text("0")
    code, document = said(patient.directory)
    assert (code, document["verdict"]) == (1, PROBLEM)
    assert all(set(check) == {"check", "verdict", "found", "remedy"} for check in document["checks"])  # type: ignore[attr-defined]
    (tmp_path / "empty").mkdir()
    code, document = said(tmp_path / "empty")
    assert code == 1 and "no waymark.yml here" in str(document)
    assert not (tmp_path / "empty" / ".waymark").exists()


def test_no_identifier_is_told(demo: Ran, patient: Patient) -> None:
    """All faults of data at once; what is told holds no identifier, customer or hash of the warehouse."""
    for fault in ("one huge customer", "an identifier that too many share", "session keys that are null", "events of nobody", "a rule that stops"):
        PLANTED[fault][0](patient)
    text = "\n".join(f"{finding.found} {finding.remedy}" for finding in examine(patient.directory))
    with connect(demo.home.warehouse, read_only=True) as connection:
        values = {str(value) for (value,) in rows(connection, "select identifier_value from identity.nodes union select customer_id from identity.memberships")}
    assert len(values) > 500 and not [value for value in values if len(value) > 3 and value in text]


def test_the_versions_in_the_table_of_faults_are_those_of_this_waymark() -> None:
    assert homes.SCHEMA_VERSION == 3, "mend the pattern of the older home"
