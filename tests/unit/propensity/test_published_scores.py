"""No score is published of somebody who may not be scored, or of an earlier point: neither when scoring failed, nor when it was left out; and `why` says so."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml.models.propensity.model import PropensityModel
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.score import TABLE, score_customers
from tests.unit.propensity.synthetic import fill, population
from waymark.core.errors import AuditError, WaymarkError
from waymark.core.home import Home
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity import prepare_identity
from waymark.pipeline import stated, why
from waymark.pipeline.steps import audit_scores


def scored(connection: Connection, trained: TrainingResult) -> None:
    """Three weeks of customers, of whom c00002 was known as c00001 until after data_now, and their scores."""
    fill(connection, population(60, 3, seed=4))
    connection.execute("""
        create schema marts;
        create table marts.dim_customer_aliases as select 'c00001' as alias_customer_id, 'c00002' as customer_id;
        create table features.known_points as from features.score_points where customer_id <> 'c00002';
        drop view features.score_points;
        alter table features.known_points rename to score_points
    """)
    score_customers(connection, trained.model, "1")


def test_scores_of_whom_the_points_do_not_hold_or_of_an_earlier_point_are_not_published(trained: TrainingResult) -> None:
    with connect() as connection:
        connection.execute("create schema marts")
        audit_scores(connection)  # nobody has ever been scored
    with connect() as connection:
        scored(connection, trained)
        assert rows(connection, f"select count(*) from {TABLE} where customer_id in ('c00001', 'c00002')") == [(1,)]
        audit_scores(connection)
        # Jane withdraws, the models are made, and no score is.
        connection.execute("delete from features.score_points where customer_id = 'c00007'")
        with pytest.raises(AuditError, match="1 scores") as refused:
            audit_scores(connection)
        assert "Score again" in str(refused.value) and "c00007" not in str(refused.value)
        connection.execute(f"delete from {TABLE} where customer_id = 'c00007'")
        audit_scores(connection)
        # So does whoever was known by another name.
        connection.execute("delete from features.score_points where customer_id = 'c00001'")
        with pytest.raises(AuditError, match="1 scores"):
            audit_scores(connection)
        connection.execute(f"delete from {TABLE} where customer_id = 'c00002'")
        # Time goes on: a point is made, and no score of it.
        connection.execute("update raw.run_clock set data_now = data_now + interval 7 days")
        connection.execute("insert into features.score_points select customer_point_id, customer_id, data_now from features.score_points, raw.run_clock")
        with pytest.raises(AuditError, match="57 scores"):
            audit_scores(connection)
        connection.execute(f"delete from {TABLE}")
        audit_scores(connection)  # no champion, so nobody is scored


def test_why_tells_of_whom_no_features_are_published_and_finds_who_was_known_by_another_name(
    trained: TrainingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.published_dir.mkdir()
    with connect(home.published) as connection:
        scored(connection, trained)
        connection.execute("delete from features.score_points where customer_id = 'c00007'")
        ((score,),) = rows(connection, f"select score from {TABLE} where customer_id = 'c00002'")
    monkeypatch.setattr(why, "version_of", lambda *_: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(PropensityModel, "load", lambda _: trained.model)
    monkeypatch.setattr(why, "customer_events", lambda *_: [])
    project: Any = SimpleNamespace(home=home, settings=SimpleNamespace(goals=[SimpleNamespace(name="purchase")]))
    with pytest.raises(WaymarkError, match="not published any more"):
        why.explain_customer(project, "c00007")
    assert why.explain_customer(project, "c00002").score == score
    with pytest.raises(WaymarkError, match="has no score"):
        why.explain_customer(project, "c99999")


class Model(SimpleNamespace):
    """A model of a manifest, as far as `stated` looks."""

    def __init__(self, name: str, *parents: str, tags: tuple[str, ...] = (), **meta: object) -> None:
        super().__init__(
            schema="features", name=name, resource_type="model", tags=tags, config=SimpleNamespace(meta=meta), depends_on=SimpleNamespace(nodes=parents)
        )


def test_a_snapshot_waits_for_scores_of_the_models_as_they_are() -> None:
    models = {"activity": Model("activity"), "score_points": Model("score_points", "activity", scored=[TABLE])}
    manifest = SimpleNamespace(nodes=models, sources={})
    with connect() as connection:
        connection.execute("""
            create schema raw;
            create table raw.build_state as select 'b' as build_digest, 's' as settings_digest, false as full_refresh_needed;
            create table raw.lake_files as select 1 as batch_id, true as is_pending
        """)
        prepare_identity(connection)

        @contextmanager
        def opened() -> Any:
            yield connection

        run: Any = SimpleNamespace(dbt=SimpleNamespace(assemble=lambda: None, manifest=lambda: manifest), open_warehouse=opened)
        made = [stated.IDENTITY, "features.activity", "features.score_points"]
        stated.note(run, made)
        with pytest.raises(WaymarkError, match=r"do not hold what is pending yet: marts\.fct_propensity_scores"):
            stated.require_all(run)
        stated.note(run, [TABLE])
        stated.require_all(run)
        stated.note(run, ["features.activity"])  # what is derived from it is old
        with pytest.raises(WaymarkError, match=r"score_points, marts\.fct_propensity_scores"):
            stated.require_all(run)
