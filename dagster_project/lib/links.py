"""Links out of Dagster's UI, to the pages that `waymark dev` starts beside it."""

from __future__ import annotations

import dagster as dg

from ml.registry import trainings_page
from waymark.core.home import Home

MLFLOW = "http://127.0.0.1:5000"
TABLES = "http://127.0.0.1:8080"


def training_link(home: Home, model: str, run_id: str) -> dict[str, dg.MetadataValue]:
    """The training in MLflow's UI where there was one, else all trainings of the model; nothing before the first."""
    page = trainings_page(home, model)
    if not page:
        return {}
    return {"MLflow": dg.MetadataValue.url(f"{MLFLOW}/{page.split('/runs')[0]}/runs/{run_id}" if run_id else f"{MLFLOW}/{page}")}


def table_link(unique_id: str) -> dict[str, dg.MetadataValue]:
    """A model's page in dbt's documentation."""
    return {"dbt docs": dg.MetadataValue.url(f"{TABLES}/#!/{unique_id.split('.', maxsplit=1)[0]}/{unique_id}")}
