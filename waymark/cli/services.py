"""`waymark dev` and `waymark docs`: the Dagster UI and the tables' documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption
from waymark.core.settings import environment, load_project, quiet_libraries, set_environment


def register(app: typer.Typer) -> None:
    app.command()(dev)
    app.command()(mlflow)
    app.command()(docs)


def dev(project: ProjectOption = Path("."), port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 3000) -> None:
    """Start the Dagster UI on this project; Ctrl-C stops it."""
    import os
    import sys

    from dagster_project.lib.project_resource import PROJECT_VARIABLE
    from dagster_project.run import instance_folder

    opened = load_project(project)
    opened.home.ensure()
    quiet_libraries()
    set_environment({PROJECT_VARIABLE: str(opened.directory), "DAGSTER_HOME": instance_folder(opened.home)})
    typer.echo(f"Dagster: http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "dagster_project.definitions", "-h", "127.0.0.1", "-p", str(port)]
    os.execve(sys.executable, command, dict(environment()))


def mlflow(project: ProjectOption = Path("."), port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000) -> None:
    """Start MLflow's UI on this project's trainings; Ctrl-C stops it."""
    import os
    import sys

    from ml.registry import trainings_page

    opened = load_project(project)
    opened.home.mlflow.mkdir(parents=True, exist_ok=True)
    quiet_libraries()
    typer.echo(f"MLflow: http://127.0.0.1:{port}/{trainings_page(opened.home, 'propensity')}")
    store = f"sqlite:///{opened.home.mlflow / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)]
    os.execve(sys.executable, command, dict(environment()))


def docs(project: ProjectOption = Path(".")) -> None:
    """Write the documentation of every table and column as one HTML page."""
    from waymark.pipeline.dbt_project import DbtProject

    opened = load_project(project)
    opened.home.ensure()
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds):
        dbt = DbtProject(opened, opened.home.warehouse, opened.home.dbt)
        dbt.assemble()
        typer.echo(f"Wrote {dbt.generate_docs()}")
