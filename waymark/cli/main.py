"""`waymark`: composes the command groups and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

import typer

from waymark.cli import project, quality, quarantine, query, run, services
from waymark.core.errors import WaymarkError

app = typer.Typer(
    name="waymark",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Customer journeys from raw events: trusted, traced, published.",
)
for group in (project, run, query, quality, services):
    group.register(app)
app.add_typer(quarantine.app, name="quarantine", help="Rows that were refused: list, show, replay.")


def main() -> None:
    """Entry point. Exit codes: 0 done; 1 stopped by an error that the message explains; 2 wrong usage; 3 done, but a file was refused."""
    try:
        app()
    except WaymarkError as error:
        print(f"waymark: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("waymark: stopped; the next run takes up what this one left", file=sys.stderr)
        sys.exit(130)
