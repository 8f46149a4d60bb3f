"""`waymark doctor` and `waymark upgrade`: what is wrong with an installation and a home, and a home of an older version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from waymark.cli.project import ProjectOption

if TYPE_CHECKING:
    from waymark.pipeline.doctor import Finding


def register(app: typer.Typer) -> None:
    app.command()(doctor)
    app.command()(upgrade)


def doctor(project: ProjectOption = Path("."), as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False) -> None:
    """Look for what is wrong, and say what to do about it; changes nothing. Exit code 1 where something needs mending."""
    import json
    from dataclasses import asdict

    from waymark.pipeline.doctor import examine, worst

    findings = []
    for finding in examine(project):
        findings.append(finding)
        if not as_json:
            _show(finding)
    verdict = worst(findings)
    if as_json:
        typer.echo(json.dumps({"verdict": verdict, "checks": [asdict(finding) for finding in findings]}, indent=1, ensure_ascii=False))
    else:
        counts = {kind: sum(finding.verdict == kind for finding in findings) for kind in ("problem", "warning")}
        typer.echo("\n" + ("All is well." if verdict == "ok" else f"{counts['problem']} to mend, {counts['warning']} to look at."))
    if verdict == "problem":
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    colour = {"ok": "green", "warning": "yellow", "problem": "red"}[finding.verdict]
    typer.echo(f"{typer.style(f'{finding.verdict:<8}', fg=colour)} {finding.check:<19} {finding.found}")
    if finding.remedy:
        typer.echo(f"{'':<28} {typer.style('->', fg=colour)} {finding.remedy}")


def upgrade(project: ProjectOption = Path(".")) -> None:
    """Bring a home of an older schema version to this one: keeps what was taken in, rebuilds every table from the lake, publishes."""
    from waymark.cli.summary import RunView
    from waymark.core.settings import load_project, quiet_libraries
    from waymark.pipeline.progress import listening

    quiet_libraries()
    opened = load_project(project)
    with RunView() as view, listening(view.hear):
        from waymark.pipeline.upgrade import upgrade as upgrade_home

        report = upgrade_home(opened, on_wait=lambda holder: view.hear(f"waiting for {holder}"))
    if report.is_current:
        typer.echo(f"Nothing to do: {'there is no home yet' if report.found is None else f'the home has schema version {report.reached}'}.")
        return
    for what in report.migrations:
        typer.echo(f"  {what}")
    published = f"; snapshot {report.snapshot.snapshot_id} is published" if report.snapshot else ""
    typer.echo(f"The home went from schema version {report.found} to {report.reached}{published}.")
