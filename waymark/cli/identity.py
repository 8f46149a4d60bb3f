"""`waymark identity`: why two identifiers are one person's, and an operator's word that they are, or are not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption

app = typer.Typer(no_args_is_help=True)
One = Annotated[str, typer.Argument(metavar="A", help="An identifier, TYPE:VALUE, plain or keyed; a plain e-mail is hashed at once.", show_default=False)]
Other = Annotated[str, typer.Argument(metavar="B", help="The other identifier.", show_default=False)]
Because = Annotated[str, typer.Option("--because", help="Why; it is kept with the word.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what it would change.")]


@app.command()
def explain(one: One, other: Other, project: ProjectOption = Path(".")) -> None:
    """Print the evidence between two identifiers, or customers: ways that join them with probabilities and events, and what speaks against."""
    from waymark.cli.audit import log_read
    from waymark.core.settings import load_project
    from waymark.pipeline.explain import explain as explained

    opened = load_project(project)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds, on_wait=tell_wait):
        found = explained(opened, one, other)
    log_read(opened, "identity_explain", subjects=found.customers, details={"customers": len(found.customers)})
    for line in found.lines:
        typer.echo(line)


@app.command()
def split(one: One, other: Other, because: Because, project: ProjectOption = Path("."), dry_run: DryRun = False) -> None:
    """Say that two identifiers are two people's: prints what changes, and the next run states it."""
    _say("operator_split", (one, other), because, project, dry_run)


@app.command()
def merge(one: One, other: Other, because: Because, project: ProjectOption = Path("."), dry_run: DryRun = False) -> None:
    """Say that two identifiers are one person's: prints what changes, and the next run states it."""
    _say("operator_merge", (one, other), because, project, dry_run)


def _say(word: str, pair: tuple[str, str], because: str, project: Path, dry_run: bool) -> None:
    from waymark.cli.audit import log_read
    from waymark.core.settings import load_project
    from waymark.pipeline.operator_words import announce, require_reason, say

    require_reason(because)
    opened = load_project(project)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds, on_wait=tell_wait):
        announcement = announce(opened, word, *pair)
        told = announcement.customers
        log_read(opened, "preview" if dry_run else "override", subjects=told, details={"word": word, "customers": len(told)})
        for line in announcement.lines():
            typer.echo(line)
        if dry_run:
            return
        path = say(opened, announcement, because=because)
    typer.echo(f"Said in {path.name}. The next run states it: waymark run")


def tell_wait(holder: str) -> None:
    """Says for whom a command waits."""
    typer.echo(f"Waiting for {holder}.", err=True)
