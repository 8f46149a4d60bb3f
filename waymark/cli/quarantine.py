"""`waymark quarantine`: refused rows listed, shown, and taken up again once the mapping is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)
ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The project's folder.")]


@app.command("list")
def list_(
    source: Annotated[str | None, typer.Argument(help="Only this source.")] = None,
    project: ProjectOption = Path(),
) -> None:
    """Count the refused rows by source, file, rule and field."""
    from rich.console import Console
    from rich.table import Table

    from waymark.core.settings import load_project
    from waymark.ingestion.quarantine import quarantine_list

    found = quarantine_list(load_project(project).home, source)
    console = Console(markup=False)
    if not found:
        console.print("No row is in quarantine.")
        return
    table = Table("source", "file", "rows", "rule", "field", "first at", "reason", box=None)
    for group in found:
        file = Path(group.file).name
        table.add_row(group.source, file, f"{group.rows:,}", group.rule, group.field or "", f"record {group.first_row}", group.reason)
    console.print(table)
    console.print("See them: waymark quarantine show SOURCE. After mending the mapping: waymark quarantine replay SOURCE.")


@app.command()
def show(
    source: Annotated[str, typer.Argument(help="The source.")],
    project: ProjectOption = Path(),
    rule: Annotated[str | None, typer.Option(help="Only rows that broke this rule.")] = None,
    file: Annotated[str | None, typer.Option(help="Only files whose path holds this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 20,
) -> None:
    """Print refused rows with their original text. It may hold personal data: it is kept by nobody but the quarantine."""
    from waymark.cli.audit import log_read
    from waymark.core.settings import load_project
    from waymark.ingestion.quarantine import quarantine_show

    opened = load_project(project)
    found = quarantine_show(opened.home, source, rule=rule, file=file, limit=limit)
    log_read(opened, "quarantine_show", details={"source": source, "rule": rule if found else None, "rows": len(found)})
    if not found:
        typer.echo(f"No such row of {source} is in quarantine.")
    for row in found:
        field = f" ({row.field})" if row.field else ""
        typer.echo(f"{Path(row.file).name}, record {row.row_number}: {row.rule}{field}. {row.reason}\n  {row.original}")


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="The source.")],
    project: ProjectOption = Path(),
) -> None:
    """Try refused rows again under the mapping as it is now. What passes joins the events; the next run publishes it."""
    from waymark.core.settings import load_project
    from waymark.core.warehouse import connect
    from waymark.ingestion import load_mapping, prepare_raw
    from waymark.ingestion.quarantine import quarantine_replay
    from waymark.privacy import load_secret

    opened = load_project(project)
    opened.home.ensure()
    secret = load_secret(opened, typer.echo)
    settings = opened.settings
    wait = settings.ingestion.lock_timeout_seconds
    with (
        opened.home.writer_lock(timeout_seconds=wait, on_wait=lambda holder: typer.echo(f"Waiting for {holder}.", err=True)),
        connect(opened.home.warehouse, engine=settings.engine, scratch=opened.home.scratch) as connection,
    ):
        prepare_raw(connection, {name: load_mapping(opened.mapping_path(name)) for name in settings.sources}, opened.home)
        opened.home.mark_unpublished()  # before it
        report = quarantine_replay(opened, source, connection, secret)
    typer.echo(
        f"{source}: {report.rows_tried:,} rows tried, {report.rows_accepted:,} accepted, {report.rows_duplicate:,} duplicate, "
        f"{report.rows_quarantined:,} still in quarantine."
    )
    for why in report.skipped or []:
        typer.echo(f"  not tried: {why}", err=True)
    if report.rows_accepted:
        typer.echo("They are published by the next: waymark run")
