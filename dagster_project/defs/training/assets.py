"""From features to a gated model, and from the champion to scores."""

import dagster as dg

from dagster_project.lib.figures import figures
from dagster_project.lib.instance import POOL
from dagster_project.lib.links import model_link, training_link
from dagster_project.lib.policies import RETRIES
from dagster_project.lib.project_resource import ProjectResource, served_project
from ml.models.propensity import MODEL
from waymark.pipeline import learning, stated

_FEATURES = [dg.AssetKey(["features", name]) for name in ("feat_customer_behavior", "feat_customer_channels", "feat_customer_value")]
_LABEL = dg.AssetKey(["features", "train_conversion"])
_POINTS = dg.AssetKey(["features", "score_points"])
_SCORES = dg.AssetKey(["marts", "fct_propensity_scores"])
_MODEL = model_link(served_project().home, MODEL)


class Training(dg.Config):
    """force: train now, however young the champion is."""

    force: bool = False


@dg.asset(
    key=["models", "propensity"], group_name="training", kinds={"xgboost", "mlflow"}, deps=[*_FEATURES, _LABEL], pool=POOL, retry_policy=RETRIES,
    metadata=_MODEL,
    description="A challenger where one is due, recorded in MLflow; champion if the gate lets it. Skipped, with the reason, where history cannot carry it.",
)  # fmt: skip
def propensity(context: dg.AssetExecutionContext, project: ProjectResource, config: Training) -> dg.MaterializeResult:  # type: ignore[type-arg]
    with project.step() as run:
        stated.require_tables(run, [".".join(key.path) for key in (*_FEATURES, _LABEL)], of="models.propensity")
        report = learning.train(run, run_id=context.run_id, force=config.force)
        return dg.MaterializeResult(metadata={**report.as_metadata(), **training_link(run.project.home, MODEL, report.run_id)})


@dg.asset(
    key=_SCORES, group_name="scoring", kinds={"duckdb", "xgboost"}, deps=[*_FEATURES, _POINTS, dg.AssetKey(["models", "propensity"])], pool=POOL,
    retry_policy=RETRIES, metadata=_MODEL,
    description="One row per customer at the latest point: the champion's calibrated probability, its interval, decile and reasons.",
)  # fmt: skip
def fct_propensity_scores(project: ProjectResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    with project.step() as run:
        stated.require_tables(run, [".".join(key.path) for key in (*_FEATURES, _POINTS)], of="marts.fct_propensity_scores")
        said = learning.score(run)
        stated.note(run, [".".join(_SCORES.path)])
        return dg.MaterializeResult(metadata={"scored": said, **figures(run, [_SCORES])[_SCORES]})
