"""From features to a gated model, and from the champion to scores."""

import dagster as dg

from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline import learning

_FEATURES = [dg.AssetKey(["features", name]) for name in ("feat_customer_behavior", "feat_customer_channels", "feat_customer_value")]


@dg.asset(
    key=["models", "propensity"], group_name="training", kinds={"xgboost", "mlflow"}, deps=[*_FEATURES, dg.AssetKey(["features", "label_conversion"])],
    description="A challenger where one is due, recorded in MLflow; champion if the gate lets it. Skipped, with the reason, where history cannot carry it.",
)  # fmt: skip
def propensity(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(metadata=learning.train(project.run, run_id=context.run_id).as_metadata())


@dg.asset(
    key=["marts", "fct_propensity_scores"], group_name="scoring", kinds={"duckdb", "xgboost"}, deps=[*_FEATURES, dg.AssetKey(["models", "propensity"])],
    description="One row per customer at the latest point: the champion's calibrated probability, its interval, decile and reasons.",
)  # fmt: skip
def fct_propensity_scores(project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(metadata={"scored": learning.score(project.run)})
