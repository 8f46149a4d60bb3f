"""`waymark quality`: what the checks found, and the full audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption


def register(app: typer.Typer) -> None:
    app.command()(quality)


def quality(
    project: ProjectOption = Path("."),
    history: Annotated[str, typer.Option(help="All kept results of this rule.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Check every table whole, now.")] = False,
) -> None:
    """Show the latest result of every check, failures first."""
    from waymark.cli.query import print_table
    from waymark.core.errors import WaymarkError
    from waymark.core.settings import load_project, quiet_libraries
    from waymark.pipeline import quality as checks
    from waymark.pipeline.published import open_latest, require_published

    opened = load_project(project)
    require_published(opened.home)
    if full:
        quiet_libraries()
        from waymark.cli.summary import RunView
        from waymark.pipeline.progress import listening
        from waymark.pipeline.steps import preflight

        with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds), RunView() as view, listening(view.hear):
            results = checks.audit_all(preflight(opened))
        checks.stop_if_broken(results)
    with open_latest(opened.home) as connection:
        found = checks.history(connection, history) if history else checks.latest(connection)
    if history and not found:
        raise WaymarkError(f"no result of a rule '{history}' is kept", remedy="The rules: waymark quality")
    if history:
        print_table(["checked at", "table", "status", "failing", "keys", "scope"], found)
    else:
        print_table(["stage", "table", "rule", "status", "blocking", "failing", "scope", "checked at"], found)
    typer.echo(f"Data Docs: {opened.home.quality}/gx/uncommitted/data_docs/local_site/index.html")
