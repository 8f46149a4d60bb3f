"""`waymark dev`, `waymark mlflow`, `waymark docs`: the pages on 127.0.0.1, started, watched and stopped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waymark.cli.project import ProjectOption
from waymark.core.settings import Project, environment, load_project, quiet_libraries

if TYPE_CHECKING:
    from waymark.cli.supervisor import Service

_PORT_HELP = "on 127.0.0.1; 0 takes any that is free."
# What Dagster's daemon says when it has started its loops; it has no page to ask.
_DAEMON_STARTED = "Instance is configured with the following daemons"


def register(app: typer.Typer) -> None:
    app.command()(dev)
    app.command()(mlflow)
    app.command()(docs)


def dev(
    project: ProjectOption = Path("."),
    port: Annotated[int, typer.Option(help=f"Of Dagster's UI, {_PORT_HELP}")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help=f"Of MLflow's UI, {_PORT_HELP}")] = 5000,
    docs_port: Annotated[int, typer.Option(help=f"Of the tables' documentation, {_PORT_HELP}")] = 8080,
) -> None:
    """Start Dagster's UI and daemon, MLflow's UI and the tables' documentation; Ctrl-C stops them all."""
    from waymark.cli.answers import free_port

    opened, taken = _opened(project), set[int]()
    ports = [free_port(number, option, taken=taken) for number, option in ((port, "--port"), (mlflow_port, "--mlflow-port"), (docs_port, "--docs-port"))]

    def services(sockets: Path) -> list[Service]:
        return [_mlflow_service(opened, ports[1]), *_dagster_services(opened, ports[0], sockets), _docs_service(opened, ports[2])]

    _run("dev", opened, services)


def mlflow(project: ProjectOption = Path("."), port: Annotated[int, typer.Option(help=f"Of MLflow's UI, {_PORT_HELP}")] = 5000) -> None:
    """Start MLflow's UI on this project's trainings, alone; `waymark dev` has it, too. Ctrl-C stops it."""
    from waymark.cli.answers import free_port

    opened = _opened(project)
    found = free_port(port, "--port", taken=set())
    _run("mlflow", opened, lambda _: [_mlflow_service(opened, found)])


def docs(project: ProjectOption = Path(".")) -> None:
    """Write the documentation of every table and column as one HTML page; `waymark dev` serves it."""
    from waymark.pipeline.docs_site import write_docs

    opened = _opened(project)
    wait = opened.settings.ingestion.lock_timeout_seconds
    with opened.home.writer_lock(timeout_seconds=wait, on_wait=lambda holder: typer.echo(f"Waiting for {holder}.", err=True)):
        typer.echo(f"Wrote {write_docs(opened)}")


def _opened(project: Path) -> Project:
    opened = load_project(project)
    opened.home.ensure()
    quiet_libraries()
    return opened


def _run(command: str, project: Project, make: Callable[[Path], Sequence[Service]]) -> None:
    """Supervises the services until a signal, or until none runs any more. Exit code 1 where one stopped by itself."""
    import tempfile
    from uuid import uuid4

    from waymark.cli.services_view import ServicesView
    from waymark.cli.supervisor import Supervisor, noted_signals
    from waymark.core.processes import adopt_orphans
    from waymark.core.services import claim

    mark = f"{command}-{uuid4().hex}"
    adopt_orphans()
    _end_leftovers(project, command)
    view = ServicesView()
    # Dagster's services meet at a Unix socket, whose path must be short: it does not fit into every home.
    with noted_signals() as noted, claim(project.home, command, mark) as note, tempfile.TemporaryDirectory(prefix="waymark-") as sockets:
        services = make(Path(sockets))
        supervisor = Supervisor(
            services, environment={**environment(), "WAYMARK_HOME": str(project.home.root)}, folder=project.home.services, logs=project.home.logs,
            mark=mark, changed=view.changed,
        )  # fmt: skip
        pages = {service.name: service.url for service in services if service.url}
        note.note([], pages)  # before the first starts: Dagster's code links to them
        known: list[int] = []

        def each() -> None:
            view.refresh()
            if supervisor.sessions != known:
                known[:] = supervisor.sessions
                note.note(known, pages)

        with view:
            view.follow(supervisor)
            try:
                supervisor.watch(until=lambda: bool(noted), each=each)
                fallen = [watched.service.name for watched in supervisor.watched if watched.state == "stopped"]
                view.stopping(noted[0] if noted else "Nothing runs any more")
            finally:
                heard = len(noted)
                killed = supervisor.stop(hurry=lambda: len(noted) > heard)
    typer.echo(f"All stopped{f'; {len(killed)} processes had to be killed' if killed else ''}.")
    if fallen:
        raise typer.Exit(1)


def _end_leftovers(project: Project, command: str) -> None:
    """Ends what a command that was killed left running on this home."""
    import signal
    from time import monotonic, sleep

    from waymark.core.processes import send
    from waymark.core.services import noted_services

    for note in noted_services(project.home):
        if note.command != command or note.is_held or not (left := note.processes()):
            continue
        typer.echo(f"Ending {len(left)} processes that a killed waymark {command} left (since {note.since}).")
        send([], left, signal.SIGTERM)
        end = monotonic() + 10
        while (left := note.processes()) and monotonic() < end:
            sleep(0.1)
        send([], left, signal.SIGKILL)


def _python(*arguments: object) -> list[str]:
    """This Python, without the working folder in its path: a project's files must not shadow a library."""
    import sys

    return [sys.executable, "-P", *map(str, arguments)]


def _dagster_services(project: Project, port: int, sockets: Path) -> list[Service]:
    """One code server that the UI and the daemon share. The UI can reload it: it starts the code anew in a child of its own."""
    import json

    from dagster_project.lib.project_resource import PROJECT_VARIABLE
    from dagster_project.run import instance_folder
    from waymark.cli.answers import LOOPBACK, listening, logged, page
    from waymark.cli.supervisor import Service
    from waymark.core.home import write_atomically

    shared = {PROJECT_VARIABLE: str(project.directory), "DAGSTER_HOME": instance_folder(project.home)}
    socket, workspace, url = sockets / "code.sock", sockets / "workspace.yaml", f"http://{LOOPBACK}:{port}"
    # JSON is YAML, too.
    write_atomically(workspace, json.dumps({"load_from": [{"grpc_server": {"socket": str(socket), "location_name": "waymark"}}]}))
    code = _python("-m", "dagster", "code-server", "start", "--socket", socket, "-m", "dagster_project.definitions", "--location-name", "waymark",
                   "--log-level", "warning")  # fmt: skip
    ui = _python("-m", "dagster_webserver", "--host", LOOPBACK, "--port", port, "--workspace", workspace, "--dagster-log-level", "warning")
    daemon = _python("-m", "dagster._daemon", "run", "--workspace", workspace)
    return [
        Service("dagster-code", "Dagster's code", code, listening(socket), environment=shared),
        Service("dagster-ui", "Dagster's UI", ui, page(f"{url}/server_info"), url=url, environment=shared, after=("dagster-code",)),
        Service("dagster-daemon", "Dagster's daemon", daemon, logged(_DAEMON_STARTED), environment=shared, after=("dagster-code",)),
    ]


def _mlflow_service(project: Project, port: int) -> Service:
    """One worker: a page for one person. Its job runner, which is for language models, stays off."""
    from ml.registry import trainings_page
    from waymark.cli.answers import LOOPBACK, page
    from waymark.cli.supervisor import Service
    from waymark.core.services import MLFLOW_PAGE

    project.home.mlflow.mkdir(parents=True, exist_ok=True)
    url = f"http://{LOOPBACK}:{port}"
    store = f"sqlite:///{project.home.mlflow / 'mlflow.db'}"
    command = _python("-m", "mlflow", "ui", "--backend-store-uri", store, "--host", LOOPBACK, "--port", port, "--workers", 1)
    return Service(
        "mlflow", MLFLOW_PAGE, command, page(f"{url}/health"), url=f"{url}/{trainings_page(project.home, 'propensity')}",
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip


def _docs_service(project: Project, port: int) -> Service:
    """After Dagster's code, whose parsing of the models spares dbt its own."""
    from waymark.cli.answers import LOOPBACK, page
    from waymark.cli.supervisor import Service
    from waymark.core.services import TABLES_PAGE

    url = f"http://{LOOPBACK}:{port}"
    command = _python("-m", "waymark.pipeline.docs_site", project.directory, port)
    return Service("docs", TABLES_PAGE, command, page(f"{url}/"), url=url, after=("dagster-code",))
