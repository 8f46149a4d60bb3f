"""Links out of Dagster's UI, to the pages that `waymark dev` starts beside it: on the ports that it noted, else on those that it takes by itself."""

from __future__ import annotations

import dagster as dg

from ml.registry import trainings_page
from waymark.core.home import Home
from waymark.core.services import MLFLOW_PAGE, TABLES_PAGE, noted_services

_USUAL = {MLFLOW_PAGE: "http://127.0.0.1:5000", TABLES_PAGE: "http://127.0.0.1:8080"}


def model_link(home: Home, model: str) -> dict[str, dg.MetadataValue]:
    """All trainings of the model; MLflow's first page before the first. For definitions, which are made anew with each start of the pages."""
    return {"MLflow": dg.MetadataValue.url(f"{_page(home, MLFLOW_PAGE)}/{trainings_page(home, model)}")}


def training_link(home: Home, model: str, run_id: str) -> dict[str, dg.MetadataValue]:
    """One training; nothing where there was none."""
    page = trainings_page(home, model)
    if not page or not run_id:
        return {}
    return {"training": dg.MetadataValue.url(f"{_page(home, MLFLOW_PAGE)}/{page.replace('/runs', f'/runs/{run_id}')}")}


def table_link(home: Home, unique_id: str) -> dict[str, dg.MetadataValue]:
    """A model's page in dbt's documentation. For definitions, likewise."""
    return {"dbt docs": dg.MetadataValue.url(f"{_page(home, TABLES_PAGE)}/#!/{unique_id.split('.', maxsplit=1)[0]}/{unique_id}")}


def _page(home: Home, name: str) -> str:
    """The root of a page's address."""
    noted = [note.pages[name] for note in noted_services(home) if note.is_held and name in note.pages]
    return (noted[0] if noted else _USUAL[name]).split("/#")[0].rstrip("/")
