"""`waymark upgrade`: an older home gives what a fresh one gives, whatever cuts it short, and keeps all that cannot be derived."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import REPOSITORY
from tests.integration.equality_logs import give, log, shop
from tests.integration.stepwise import Stepwise, share_manifest
from waymark.cli.main import app
from waymark.core import home as homes
from waymark.core.digest import table_digest
from waymark.core.errors import AuditError, StorageError
from waymark.core.home import read_json
from waymark.core.settings import Project
from waymark.core.warehouse import connect, outputs_of, rows
from waymark.pipeline import learning, quality, steps, upgrade
from waymark.pipeline.freshness import what_is_new
from waymark.pipeline.upgrade import MIGRATIONS, Migration

RECORDS = ("raw.ingestion_log", "raw.event_index", "raw.event_conflicts", "raw.lake_files", "raw.run_clock")

pytestmark = pytest.mark.prove


class CutShortError(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Stepwise:
    """A home of this version, with conflicts and duplicates; a copy of it beside."""
    project = shop(tmp_path_factory.mktemp("upgrade") / "project")
    give(project, log(7, cells=6, batches=1), "all")
    project.run(checks=False)
    shutil.copytree(project.home.root, project.directory / "kept")
    return project


@pytest.fixture(scope="module")
def fresh(finished: Stepwise) -> dict[str, tuple[int, str]]:
    """What a first run of this version gave, before anything was set back."""
    return {**finished.digests(), **published(finished)}


@pytest.fixture
def older(finished: Stepwise, fresh: object, monkeypatch: pytest.MonkeyPatch) -> Stepwise:
    """The same home as an old checkout would have left it: no version, a build state of two columns, other tables than today."""
    preflight = steps.preflight

    def parsed_once(project: Project, *, upgrading: bool = False) -> steps.Run:
        run = preflight(project, upgrading=upgrading)
        share_manifest(run)
        return run

    monkeypatch.setattr(steps, "preflight", parsed_once)
    shutil.rmtree(finished.home.root)
    shutil.copytree(finished.directory / "kept", finished.home.root)
    set_back(finished)
    return finished


def set_back(project: Stepwise) -> None:
    """One file holds everything, as it once did, under the names of today; and tables are missing, or are other ones."""
    warehouse, old = project.home.warehouse, project.home.root / "old.duckdb"
    with connect(warehouse) as connection:
        found = rows(connection, "select schema_name, table_name from duckdb_tables() where database_name = 'outputs'")
        for schema, name in found:
            connection.execute(f"create schema if not exists warehouse.{schema}")
            connection.execute(f"create table warehouse.{schema}.{name} as from outputs.{schema}.{name}")
        assert len(found) >= 10
    outputs_of(warehouse).unlink()
    warehouse.rename(old)  # under its own name it would get outputs again
    with connect(old) as connection:
        connection.execute("alter table raw.build_state drop column build_digest")
        connection.execute("drop table identity.restated_nodes; drop table identity.finished_clock; drop schema if exists features cascade")
        connection.execute("alter table marts.fct_sessions drop column event_count")
        connection.execute("create table marts.fct_of_old as select 1 as one")
        connection.execute("create schema if not exists quality")
        quality.prepare_quality(connection)
        connection.execute(f"insert into {quality.TABLE} (run_id, rule, checked_at) values ('of old', 'a_rule', now()::timestamp)")
    old.rename(warehouse)
    project.home.version_file.unlink()


def records(project: Stepwise) -> dict[str, tuple[int, str]]:
    with project.reading() as connection:
        return {table: table_digest(connection, table) for table in RECORDS}


def published(project: Stepwise) -> dict[str, tuple[int, str]]:
    with connect(project.home.published, read_only=True) as connection:
        names = rows(connection, "select table_name from information_schema.tables where table_schema = 'marts' order by 1")
        return {str(name): table_digest(connection, f"marts.{name}") for (name,) in names}


def lake(project: Stepwise) -> dict[str, tuple[int, int]]:
    kept = [*project.home.lake.rglob("*.parquet"), project.home.secret_file]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in kept}


@pytest.fixture
def no_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Great Expectations takes seconds to be imported; the proof below has it."""
    monkeypatch.setattr(quality, "check", lambda run, stage, full: [])


@pytest.mark.prove
def test_an_older_home_is_refused_by_a_run_and_rebuilt_by_an_upgrade_that_was_cut_short_before(
    older: Stepwise, fresh: dict[str, tuple[int, str]], no_suites: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = records(older), lake(older)
    with pytest.raises(StorageError, match=r"schema version 0(.|\n)*waymark upgrade"):
        older.started()
    with monkeypatch.context() as patch:
        patch.setattr(steps, "resolve", raising(CutShortError()))
        with pytest.raises(CutShortError):
            upgrade.upgrade(older.project)
    assert older.home.version() == 0 and "fct_of_old" not in published(older)  # what was published stays until there is better
    report = upgrade.upgrade(older.project)
    assert (report.found, report.reached, len(report.migrations)) == (0, homes.SCHEMA_VERSION, len(MIGRATIONS)) and report.snapshot
    assert older.home.version() == homes.SCHEMA_VERSION and not older.home.unpublished.exists()
    assert (records(older), lake(older)) == (before, files)
    assert older.rows(f"select run_id from {quality.TABLE} where run_id = 'of old'") == [("of old",)]
    assert_as_fresh(older, fresh)
    again = upgrade.upgrade(older.project)
    assert again.is_current and again.snapshot is None


def assert_as_fresh(project: Stepwise, fresh: dict[str, tuple[int, str]]) -> None:
    """The tables, built and published, are those of the first run, to the row; of others there are only the scores; and nothing is left to be taken in."""
    found = {**project.digests(), **published(project)}
    assert found.pop("fct_propensity_scores")[0] == 0  # nobody is trained on so little
    assert found == fresh
    assert not list(what_is_new(project.project, read_json(project.home.manifest) or {}))


def raising(error: BaseException) -> Callable[..., object]:
    def stop(*_: object, **__: object) -> object:
        raise error

    return stop


@pytest.mark.prove
@pytest.mark.parametrize("module, step", [
    (upgrade, "_carry_over"), (steps, "prepare"), (quality, "check"), (steps, "transform_events"), (steps, "resolve"), (steps, "transform_marts"),
    (learning, "score"), (steps, "finish"), (upgrade, "publish"),
])  # fmt: skip
def test_cut_short_after_any_step_a_second_call_goes_on(
    older: Stepwise, fresh: dict[str, tuple[int, str]], monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    before, files = records(older), lake(older)
    real = getattr(module, step)

    def cut(*arguments: object, **options: object) -> object:
        real(*arguments, **options)
        raise CutShortError

    with monkeypatch.context() as patch:
        patch.setattr(module, step, cut)
        with pytest.raises(CutShortError):
            upgrade.upgrade(older.project)
    assert older.home.version() == 0
    assert upgrade.upgrade(older.project).snapshot
    assert (records(older), lake(older)) == (before, files)
    older.run(checks=False)  # an increment goes on from it
    assert_as_fresh(older, fresh)


def test_a_check_that_fails_leaves_what_is_published_and_the_version(older: Stepwise, no_suites: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = published(older)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "transform_events", raising(AuditError("a blocking check failed")))
        with pytest.raises(AuditError):
            upgrade.upgrade(older.project)
    assert published(older) == before and older.home.version() == 0


def test_migrations_run_in_the_order_of_versions_and_again_after_a_cut(older: Stepwise, no_suites: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version adds a column to a record: the rows are carried over, and a second upgrade finds it done."""
    monkeypatch.setattr(homes, "SCHEMA_VERSION", 2)
    told: list[int] = []

    def of_version(version: int) -> Callable[..., None]:
        def apply(connection: object, _: object) -> None:
            told.append(version)
            MIGRATIONS[0].apply(connection, older.home) if version == 0 else connection.execute(  # type: ignore[arg-type, attr-defined]
                "alter table raw.quarantine_files add column if not exists expires_at timestamp"
            )

        return apply

    migrations = {version: Migration(f"of {version}", of_version(version)) for version in (0, 1)}
    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "rebuild", raising(CutShortError()))
        with pytest.raises(CutShortError):
            upgrade.upgrade(older.project, migrations=migrations)
    monkeypatch.setattr(upgrade, "rebuild", lambda run: None)
    assert upgrade.upgrade(older.project, migrations=migrations).migrations == ("of 0", "of 1")
    assert told == [0, 1, 0, 1] and older.home.version() == 2
    with older.reading() as connection:
        assert "expires_at" in str(rows(connection, "describe raw.quarantine_files"))


def test_a_newer_home_is_refused_and_a_fresh_or_current_one_needs_nothing(tmp_path: Path) -> None:
    project = shop(tmp_path / "project")

    def said(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, "--project", str(project.directory)])
        return result.exit_code, str(result.exception if isinstance(result.exception, StorageError) else result.output)

    assert said("upgrade") == (0, "Nothing to do: there is no home yet.\n")
    project.home.ensure()
    assert said("upgrade") == (0, f"Nothing to do: the home has schema version {homes.SCHEMA_VERSION}.\n")
    project.home.version_file.write_text(f"{homes.SCHEMA_VERSION + 1}\n")
    for command in ("upgrade", "docs"):
        code, message = said(command)
        assert code == 1 and f"schema version {homes.SCHEMA_VERSION + 1}" in message and "WAYMARK_HOME" in message
    project.home.version_file.write_text("new\n")
    code, message = said("upgrade")
    assert code == 1 and "'new', which is no number" in message


def test_every_version_has_its_migration_and_its_line_in_the_changelog() -> None:
    assert sorted(MIGRATIONS) == list(range(homes.SCHEMA_VERSION))
    table = (REPOSITORY / "CHANGELOG.md").read_text().split("### Schema changes")[1]
    assert "| version | date | table | old | new | breaking |" in table
    lines = [line.split("|")[1:-1] for line in table.splitlines() if re.match(r"\| \d", line)]
    assert {int(line[0]) for line in lines} == set(range(homes.SCHEMA_VERSION + 1))
    assert all(len(line) == 6 and re.fullmatch(r"\d{4}-\d\d-\d\d", line[1].strip()) for line in lines)
