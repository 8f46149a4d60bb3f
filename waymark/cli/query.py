"""`waymark sql`, `waymark trace` and `waymark customer`: reading what is published, also while a run is writing."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from waymark.cli.project import ProjectOption
from waymark.core.errors import WaymarkError
from waymark.core.settings import load_project


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
_TABLE_ROWS = 50


def register(app: typer.Typer) -> None:
    app.command()(sql)
    app.command()(trace)
    app.command()(customer)


def sql(
    query: Annotated[str, typer.Argument(help="Any read-only DuckDB SQL, such as: from marts.fct_sessions limit 5")],
    project: ProjectOption = Path("."),
    format: FormatOption = Format.table,
    role: Annotated[str, typer.Option(help="Read the file of this role instead of the whole snapshot (docs/access.md).", show_default=False)] = "",
) -> None:
    """Query the published marts."""
    from waymark.cli.audit import log_read
    from waymark.core.warehouse import QueryError
    from waymark.pipeline.published import open_published
    from waymark.privacy.sql_shape import known_words, without_literals

    opened = load_project(project)
    with open_published(opened.home, role) as connection:
        log_read(opened, "sql", role=role, details={"query": without_literals(query, known_words(connection, query))})
        try:
            cursor = connection.execute(query)
        except QueryError as error:
            raise WaymarkError(str(error).strip(), remedy='Tables: waymark sql "select table_schema, table_name from information_schema.tables"') from error
        columns = [column[0] for column in cursor.description or []]
        write_rows(cursor, columns, format)


def write_rows(cursor: Any, columns: list[str], format: Format) -> None:
    """Prints a cursor's rows: a table shows the first 50, CSV and JSON stream all."""
    if format is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        while chunk := cursor.fetchmany(10_000):
            writer.writerows(chunk)
        return
    if format is Format.json:
        first = True
        sys.stdout.write("[")
        while chunk := cursor.fetchmany(10_000):
            for row in chunk:
                sys.stdout.write(("\n" if first else ",\n") + json.dumps(dict(zip(columns, row, strict=True)), default=_json_value, ensure_ascii=False))
                first = False
        sys.stdout.write("]\n" if first else "\n]\n")
        return
    shown = cursor.fetchmany(_TABLE_ROWS + 1)
    print_table(columns, shown[:_TABLE_ROWS])
    if len(shown) > _TABLE_ROWS:
        typer.echo(f"(the first {_TABLE_ROWS} rows; --format csv prints all)")


def _json_value(value: object) -> object:
    from decimal import Decimal

    return float(value) if isinstance(value, Decimal) else str(value)


def print_table(columns: list[str], rows: list[tuple[object, ...]]) -> None:
    """A table for people; wide enough for its content where nobody looks at a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(markup=False)  # what stands in brackets is a value
    if not console.is_terminal:
        console = Console(width=1000, markup=False)
    console.print(table)


def trace(
    table: Annotated[str, typer.Argument(help="A mart, such as fct_sessions.")],
    key: Annotated[str, typer.Argument(help="The key of one row; a journey's step is JOURNEY_ID/STEP_NUMBER.")],
    project: ProjectOption = Path("."),
    format: FormatOption = Format.table,
) -> None:
    """Follow a row of a mart to its events, and each event to its file and line."""
    from waymark.cli.audit import log_read
    from waymark.pipeline.trace import TRACE_COLUMNS, customers_of, trace_row

    opened = load_project(project)
    found = trace_row(opened, table, key)
    log_read(opened, "trace", subjects=customers_of(opened, found), details={"table": table.removeprefix("marts."), "events": len(found)})
    records = [tuple(getattr(event, column) for column in TRACE_COLUMNS) for event in found]
    if format is Format.table:
        typer.echo(f"{table} {key}: {len(found)} events")
        print_table(list(TRACE_COLUMNS), records)
    elif format is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(TRACE_COLUMNS)
        writer.writerows(records)
    else:
        typer.echo(json.dumps([dict(zip(TRACE_COLUMNS, record, strict=True)) for record in records], default=_json_value, indent=1))


def customer(
    who: Annotated[str, typer.Argument(metavar="ID", help="A customer_id, of today or before, or an identifier TYPE:VALUE; a plain e-mail is hashed at once.")],
    project: ProjectOption = Path("."),
    limit: Annotated[int, typer.Option(min=1, help="At most so many touches, the latest; CSV and JSON have all.")] = 50,
    format: FormatOption = Format.table,
) -> None:
    """Show all that is known of a person: identifiers and how sure they are, figures, consent, and every touch in order."""
    from waymark.cli.audit import log_read
    from waymark.pipeline.customer import TOUCH_COLUMNS, customer_view

    opened = load_project(project)
    found = customer_view(opened, who, limit=limit if format is Format.table else None)
    log_read(opened, "customer", subjects=[found.customer_id])
    if format is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(TOUCH_COLUMNS)
        writer.writerows(found.touches)
        return
    if format is Format.json:
        identifiers = [dict(zip(("type", "value", "method", "confidence", "since"), told, strict=True)) for told in found.identifiers]
        consent = [dict(zip(("scope", "state", "since"), told, strict=True)) for told in found.consent]
        touches = [dict(zip(TOUCH_COLUMNS, touch, strict=True)) for touch in found.touches]
        told = {"customer_id": found.customer_id, **found.figures, "identifiers": identifiers, "consent": consent, "touches": touches}
        typer.echo(json.dumps(told, default=_json_value, ensure_ascii=False, indent=1))
        return
    typer.echo(f"{found.customer_id}" + (f", whom {who} names" if who != found.customer_id else ""))
    print_table(["", ""], [(name, value) for name, value in found.figures.items() if value is not None])
    typer.echo("\nIdentifiers")
    print_table(["type", "value", "by", "confidence", "since"], [(kind, _short(value), *more) for kind, value, *more in found.identifiers])
    if found.consent:
        typer.echo("\nConsent")
        print_table(["scope", "state", "since"], found.consent)
    shown = len(found.touches)
    typer.echo("\nTouches" + (f", the latest {shown:,} of {found.touch_count:,} (--limit, or --format csv)" if shown < found.touch_count else f", {shown:,}"))
    columns = [name for place, name in enumerate(TOUCH_COLUMNS) if any(touch[place] is not None for touch in found.touches)]
    print_table(columns, [tuple(_short(touch[TOUCH_COLUMNS.index(name)]) for name in columns) for touch in found.touches])


def _short(value: object) -> object:
    """A keyed hash or digest is known by its beginning."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else value
