"""`waymark identity estimate`: the shares by which names and addresses are compared, estimated anew."""

from __future__ import annotations

from pathlib import Path

import typer

from waymark.cli.project import ProjectOption

app = typer.Typer(no_args_is_help=True)


def register(group: typer.Typer) -> None:
    group.command()(estimate)


def estimate(project: ProjectOption = Path(".")) -> None:
    """Estimate anew how alike one person's records are, and strangers'; the next run links by it. Every probability changes: do it knowingly; it is logged."""
    from waymark.core.settings import load_project, quiet_libraries

    quiet_libraries()
    from waymark.cli.summary import RunView
    from waymark.pipeline.linkage import estimate_links
    from waymark.pipeline.progress import listening, tell
    from waymark.pipeline.steps import preflight

    opened = load_project(project)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds), RunView() as view, listening(view.hear):
        run = preflight(opened)
        report = estimate_links(run, progress=tell)
    typer.echo(
        f"Estimation {report.estimation.version}: from {report.records:,} identifiers that told something, {report.candidates:,} pairs looked at, "
        f"about {report.matches:,.0f} of them one person's and {sum(report.alike):,.0f} of a family, of neighbours or of people of one place."
    )
    for name, share in sorted(report.known.items()):
        typer.echo(f"  {name:<20} known of {share:.0%}")
    typer.echo("The next run links by it, and states anew what that changes: waymark run")


register(app)
