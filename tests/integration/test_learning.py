"""From raw events to scored customers, as a newcomer has it: the demo trains, is gated, scores, and says why."""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ml.datasets import feature_sql
from ml.explain import events_behind, value_from
from ml.features import VIEWS, model_fields
from ml.registry import champion, trainings_page
from tests.integration.conftest import Ran, run_project, waymark
from waymark.core.settings import load_project
from waymark.pipeline.published import open_published
from waymark.pipeline.why import customer_events


def test_every_customer_with_features_has_one_score_in_its_interval(demo: Ran) -> None:
    scored = demo.value("select count(*) from marts.fct_propensity_scores")
    assert scored == demo.value("select count(*) from features.feat_customer_value where as_of_at = (select data_now from main.snapshot_info)")
    assert scored == demo.value("select count(distinct customer_id) from marts.fct_propensity_scores join marts.dim_customers using (customer_id)")
    assert demo.value("select count(*) from marts.fct_propensity_scores where not (score_low <= score and score <= score_high)") == 0
    top = demo.rows("select reasons from marts.fct_propensity_scores where decile = 1")
    assert top and all(len(json.loads(str(reasons))) == 3 for (reasons,) in top)


def test_the_registry_read_by_sql_and_by_mlflow_agree(demo: Ran) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{demo.home.mlflow / 'mlflow.db'}"
    client = MlflowClient(store, store)
    version = client.get_model_version_by_alias("propensity", "champion")
    found = champion(demo.home, "propensity")
    assert found and found.version == str(version.version) and found.run_id == version.run_id and found.folder.is_dir()
    run = client.get_run(version.run_id)
    assert run.data.tags["waymark.gate"] == "promoted" and run.data.metrics["auc"] > 0.7
    assert run.data.metrics["auc_low"] < run.data.metrics["auc"] < run.data.metrics["auc_high"]
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    assert {item.info.run_name for item in nested} == {"base_rate", "rfm", "logistic", "xgboost"}
    trees = next(item for item in nested if item.info.run_name == "xgboost")
    trials = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{trees.info.run_id}'")
    assert len(trials) > 1 and {item.data.tags["waymark.kind"] for item in trials} == {"trial"}
    assert all("rounds" in item.data.params and "stopping_log_loss" in item.data.metrics for item in trials)
    assert all(item.info.end_time for item in (run, *nested, *trials))


def test_a_training_in_mlflow_says_its_version_verdict_data_and_how_it_compares(demo: Ran) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{demo.home.mlflow / 'mlflow.db'}"
    client = MlflowClient(store, store)
    found = champion(demo.home, "propensity")
    assert found
    run = client.get_run(found.run_id)
    assert run.info.run_name == f"v{found.version} promoted {found.data_now[:10]}"
    assert [used.dataset.digest for used in run.inputs.dataset_inputs] == [run.data.tags["waymark.dataset_fingerprint"]]
    assert run.data.params["model"] == "xgboost" and int(run.data.params["test_rows"]) > int(run.data.params["test_converting"]) > 0
    assert {"log_loss_minus_base_rate", "log_loss_minus_logistic", "log_loss_minus_rfm"} <= set(run.data.metrics)
    assert run.data.metrics["log_loss_minus_base_rate_high"] < 0
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert trainings_page(demo.home, "propensity").startswith(f"#/experiments/{run.info.experiment_id}/runs?")
    assert trainings_page(demo.home, "no_such_model") == ""


def test_mlflow_loads_the_model_and_its_synthetic_example(demo: Ran) -> None:
    import mlflow

    found = champion(demo.home, "propensity")
    assert found
    model = mlflow.pyfunc.load_model(str(found.folder.parents[1]))
    scores = model.predict(model.input_example)
    assert list(scores.columns) == ["score", "score_low", "score_high"] and 0 < scores.score[0] < 1


def test_artifacts_hold_no_customer(demo: Ran) -> None:
    customers = [str(customer) for (customer,) in demo.rows("select customer_id from marts.dim_customers")]
    written = b"".join(path.read_bytes() for path in (demo.home.mlflow / "artifacts").rglob("*") if path.is_file()).decode(errors="ignore")
    assert "Propensity to convert" in written and not [customer for customer in customers if customer in written]


def test_why_leads_to_files_and_lines(demo: Ran) -> None:
    customer = demo.value("select customer_id from marts.fct_propensity_scores order by score desc, customer_id limit 1")
    said = waymark("why", customer, "--project", demo.directory, "--count", "3")
    assert said.returncode == 0, said.stderr
    assert "decile 1" in said.stdout and ".csv.gz, line " in said.stdout
    unknown = waymark("why", "c_nobody", "--project", demo.directory)
    assert unknown.returncode == 1 and "has no score" in unknown.stderr


@pytest.mark.prove
def test_feature_values_can_be_derived_again_from_the_events_that_why_names(demo: Ran) -> None:
    """An independent second way: plain Python over the published events, all fields, 200 customers."""
    project, fields = load_project(demo.directory), model_fields(VIEWS)
    different: dict[str, tuple[object, object]] = {}
    compared = 0
    with open_published(project.home) as connection:
        customers = [str(row[0]) for row in connection.execute("select customer_id from marts.fct_propensity_scores order by customer_id").fetchall()]
        for customer in random.Random(1).sample(customers, min(200, len(customers))):
            where = f"points.customer_id = '{customer}' and points.as_of_at = (select data_now from main.snapshot_info)"
            row = connection.sql(feature_sql(fields, where=where)).to_arrow_table().to_pylist()[0]
            events = customer_events(connection, customer, "purchase")
            for field in (field for field in fields if field.measures):
                derived, stored = value_from(field, events_behind(field, events, row["as_of_at"]), row["as_of_at"]), row[field.name]
                compared += 1
                if not _equal(derived, stored):
                    different[field.name] = (derived, stored)
    assert different == {} and compared > 10_000


def _equal(left: object, right: object) -> bool:
    if left is None or right is None:
        return left is right
    return left == right if isinstance(right, str) else math.isclose(float(str(left + 0)), float(str(right)), rel_tol=1e-9, abs_tol=1e-9)  # type: ignore[operator]


def test_lineage_names_measures_models_owner_and_code(demo: Ran) -> None:
    said = waymark("lineage", "intent_event_count_7d", "--project", demo.directory)
    parts = ("int_node_days", "stg_events", "owner: data-science", "consent scope: profiling", "code digest")
    assert said.returncode == 0 and all(part in said.stdout for part in parts)
    near = waymark("lineage", "intent_event_count_8d", "--project", demo.directory)
    assert near.returncode == 1 and "intent_event_count_7d" in near.stderr


def test_checks_are_kept_with_their_results(demo: Ran) -> None:
    assert demo.value("select count(distinct rule) from quality.check_results") > 40  # type: ignore[operator]
    assert demo.rows("select rule from quality.check_results where status = 'failed' and is_blocking") == []
    said = waymark("quality", "--project", demo.directory)
    assert said.returncode == 0 and "sessions_agree_with_their_events" in said.stdout
    assert (demo.home.quality / "gx" / "uncommitted" / "data_docs" / "local_site" / "index.html").exists()


@pytest.mark.parametrize("name", ["reliability", "gain", "shap", "stability"])
def test_every_training_has_its_pictures(demo: Ran, name: str) -> None:
    found = champion(demo.home, "propensity")
    assert found
    picture = demo.home.mlflow / "artifacts" / found.run_id / "artifacts" / "plots" / f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.prove
def test_the_next_run_scores_by_whom_a_training_or_a_hand_promoted(demo: Ran, tmp_path: Path) -> None:
    """The three commands of docs/ml-engineer.md; then a roll-back, by the alias."""
    directory = shutil.copytree(demo.directory, tmp_path / "project")
    shutil.copytree(demo.directory.parent / "sources", tmp_path / "sources")
    first = champion(demo.home, "propensity")
    assert first

    def alias(statement: str) -> None:
        with closing(sqlite3.connect(directory / ".waymark" / "mlflow" / "mlflow.db")) as store:
            store.execute(statement)
            store.commit()

    def scored_by(expected: str) -> str:
        """The version by which the next run scores, and that it is published; "" for nobody."""
        ran = run_project(directory)
        assert ran.code == 0 and "Nothing new" not in ran.output, ran.errors
        assert "Nothing new" in run_project(directory).output
        assert ran.rows("select distinct model_version from marts.fct_propensity_scores") == ([(expected,)] if expected else [])
        return str(ran.value("select max(customer_id) from marts.fct_propensity_scores"))

    alias("delete from registered_model_aliases")
    scored_by("")
    trained = waymark("train", "--project", directory)
    assert trained.returncode == 0, trained.stderr
    second = champion(load_project(directory).home, "propensity")
    assert second and second.version != first.version
    customer = scored_by(second.version)
    said = waymark("why", customer, "--project", directory)
    assert said.returncode == 0 and f"by version {second.version}." in said.stdout, said.stderr
    alias(f"update registered_model_aliases set version = {first.version}")
    scored_by(first.version)
