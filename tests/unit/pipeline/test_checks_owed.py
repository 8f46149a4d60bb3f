"""Nothing is published of tables whose checks failed, or have not run since the tables were made; nor is a model trained on such features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expectations import Bounds, CheckResult, suites_of
from expectations.rules import STAGES, Stage
from ml.features import VIEWS, model_fields
from waymark.core.errors import AuditError, WaymarkError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity import prepare_identity
from waymark.ingestion import owe_checks, owed_checks, settle_checks
from waymark.pipeline import learning, quality, stated, steps

TABLE = {"journeys": "marts.fct_sessions", "features": "features.feat_customer_value", "scores": stated.SCORES}
BOUNDS = Bounds(2, 1_000_000, 3, 200, 0.25, 0.25)


class Warehouse:
    """A warehouse in memory with something pending, and the run over it. broken: rules that its checks will find broken."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection, self.broken = connection, set[str]()
        connection.execute("""
            create schema raw;
            create schema quality;
            create table raw.build_state as select 'b' as build_digest, 's' as settings_digest, false as full_refresh_needed;
            create table raw.lake_files as select 1 as batch_id, true as is_pending
        """)
        prepare_identity(connection)
        models = {}
        for name, *parents in (("marts.fct_sessions",), ("features.feat_customer_value",), ("features.score_points", "features.feat_customer_value")):
            schema, table = name.split(".")
            meta = {"scored": [stated.SCORES]} if parents else {}
            models[name] = SimpleNamespace(
                schema=schema, name=table, resource_type="model", tags=(), config=SimpleNamespace(meta=meta), depends_on=SimpleNamespace(nodes=parents)
            )

        @contextmanager
        def opened() -> Iterator[Connection]:
            yield connection

        settings = SimpleNamespace(quality=SimpleNamespace(history_days=365))
        manifest = SimpleNamespace(nodes=models, sources={})
        self.run: Any = SimpleNamespace(
            dbt=SimpleNamespace(assemble=lambda: None, manifest=lambda: manifest), open_warehouse=opened, mappings={"shop": None},
            project=SimpleNamespace(home=Home(folder), settings=settings),
        )  # fmt: skip

    def make(self, *names: str) -> None:
        stated.note(self.run, names)

    def check(self, *stages: Stage) -> None:
        for stage in stages:
            quality.check(self.run, stage)

    def refusal(self, *stages: Stage) -> str:
        """What a publication, or what needs these stages, is refused for; "" where it is not."""
        try:
            quality.require_passed(self.run, stages or STAGES, of="the snapshot")
        except AuditError as refused:
            return str(refused)
        return ""


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    with connect() as connection:
        made = Warehouse(connection, tmp_path)

        def run_suites(_: Connection, suites: Any, **options: object) -> list[CheckResult]:
            rules = [(suite, rule) for suite in suites for rule in suite.rules]
            return [
                CheckResult(
                    suite.name, suite.stage, suite.table, rule.name, rule.meaning, "failed" if rule.name in made.broken else "passed", rule.blocking,
                    3 if rule.name in made.broken else 0, (), "all", 0.0,
                )
                for suite, rule in rules
            ]  # fmt: skip

        tables = {stage: {table} for stage, table in TABLE.items()}
        monkeypatch.setattr("expectations.runner.run_suites", run_suites)
        monkeypatch.setattr(quality, "bounds", lambda _: BOUNDS)
        real = suites_of

        def of_these_tables(stage: Stage, **options: Any) -> Any:
            return [suite for suite in real(stage, **options) if suite.table in tables.get(stage, {suite.table})]

        monkeypatch.setattr("expectations.suites.suites_of", of_these_tables)
        yield made


def test_a_snapshot_waits_for_the_checks_of_what_was_made(warehouse: Warehouse) -> None:
    owe_checks(warehouse.connection, ["raw"])
    warehouse.check("raw")
    assert warehouse.refusal() == ""  # and of the tables, `stated.require_all` tells that they are to be made
    warehouse.make(stated.IDENTITY, "marts.fct_sessions", "features.feat_customer_value", "features.score_points")
    assert "it waits for checks to pass: features, journeys, scores" in warehouse.refusal()
    warehouse.check("journeys", "features")
    assert "checks to pass: scores\n" in warehouse.refusal() and warehouse.refusal("raw", "features") == ""
    warehouse.make(stated.SCORES)
    warehouse.check("scores")
    assert warehouse.refusal() == ""
    warehouse.make("features.feat_customer_value")  # and what derives from it is old
    assert "features, scores" in warehouse.refusal()


@pytest.mark.parametrize(
    ("stage", "rule"),
    [("raw", "values_are_plausible"), ("journeys", "sessions_have_events"), ("features", "feature_keys_are_whole"), ("scores", "customers_are_scored_once")],
)
def test_what_failed_is_named_until_it_passes(warehouse: Warehouse, stage: Stage, rule: str) -> None:
    warehouse.make(*TABLE.values(), stated.IDENTITY, "features.score_points")
    warehouse.check(*STAGES)
    assert warehouse.refusal() == ""
    warehouse.broken.add(rule)
    warehouse.check(stage)
    if stage in ("raw", "features"):
        with pytest.raises(AuditError, match=f"models.propensity: it waits for checks to pass: {stage}"):
            learning.train(warehouse.run, force=True)
    said = warehouse.refusal()
    assert f"checks to pass: {stage}; blocking rules failed: {rule} (3 rows)" in said and "waymark quality" in said
    warehouse.broken.clear()
    warehouse.check(stage)
    assert warehouse.refusal() == ""


def test_checks_that_ran_before_their_tables_were_made_say_nothing(warehouse: Warehouse) -> None:
    warehouse.make(stated.IDENTITY, "features.feat_customer_value")
    warehouse.check(*STAGES)
    assert owed_checks(warehouse.connection) == {"journeys", "scores"}
    warehouse.make("marts.fct_sessions", "features.score_points", stated.SCORES)
    assert owed_checks(warehouse.connection) == {"journeys", "features", "scores"}
    warehouse.check(*STAGES)
    assert warehouse.refusal() == ""


def test_a_table_made_once_more_of_what_is_published_owes_nothing(warehouse: Warehouse) -> None:
    warehouse.connection.execute("update raw.lake_files set is_pending = false")
    warehouse.make("marts.fct_sessions", "features.feat_customer_value")
    assert warehouse.refusal() == ""
    owe_checks(warehouse.connection, ["scores", "scores"])  # as scoring does, whose champion may be another
    assert rows(warehouse.connection, "from raw.unchecked") == [("scores",)] and "scores" in warehouse.refusal()
    warehouse.check("scores")
    assert warehouse.refusal() == ""
    owe_checks(warehouse.connection, STAGES)
    settle_checks(warehouse.connection, STAGES)
    assert owed_checks(warehouse.connection) == set()


def test_the_stage_that_looks_at_a_table_is_told_right() -> None:
    fields = [(field.table, field.name, field.dtype) for field in model_fields(VIEWS)]
    for stage in STAGES[1:]:
        suites = suites_of(stage, sources=["shop"], bounds=BOUNDS, fields=fields, pending=True)
        assert {stated.checked_by(suite.table) for suite in suites} == {stage}
    assert stated.checked_by("intermediate.int_events") is None


def test_what_was_made_before_a_run_was_finished_says_nothing_of_what_is_pending_after_it(warehouse: Warehouse) -> None:
    """As many files may wait as did then, of the same batches: those of days that are to be stated anew."""
    warehouse.connection.execute("create table raw.run_clock as select timestamp '2026-03-01' as data_now")
    warehouse.make(stated.IDENTITY, "marts.fct_sessions", "features.feat_customer_value", "features.score_points", stated.SCORES)
    stated.require_all(warehouse.run)
    warehouse.run.mappings = {}  # so what is pending stays so
    steps.finish(warehouse.run)
    with pytest.raises(WaymarkError, match=r"do not hold what is pending yet: .* and 1 more"):
        stated.require_all(warehouse.run)


def test_what_identity_asks_for_is_not_dropped_though_no_event_waits(warehouse: Warehouse) -> None:
    """Another estimation of links moves people of whom nothing new was taken in."""
    warehouse.connection.execute("update raw.lake_files set is_pending = false")
    stated.require_all(warehouse.run)
    warehouse.connection.execute("insert into identity.restated_customers values ('c_1')")
    warehouse.make(stated.IDENTITY)
    with pytest.raises(WaymarkError, match="do not hold what is pending yet"):
        stated.require_all(warehouse.run)
    warehouse.make("marts.fct_sessions", "features.feat_customer_value", "features.score_points", stated.SCORES)
    stated.require_all(warehouse.run)
    assert "features, journeys, scores" in warehouse.refusal()
