"""`waymark`: composes the command groups and turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import logging
import os
import sys

import typer

from waymark.cli import home, learning, project, quality, quarantine, query, reference, run, services
from waymark.core.errors import WaymarkError
from waymark.core.warehouse import storage_problem

app = typer.Typer(
    name="waymark",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Customer journeys from raw events: trusted, traced, published.",
)
for group in (project, run, query, quality, learning, services, home, reference):
    group.register(app)
app.add_typer(quarantine.app, name="quarantine", help="Rows that were refused: list, show, replay.")


def main() -> None:
    """Entry point. Exit codes: 0 done; 1 stopped by an error that the message explains; 2 wrong usage; 3 done, but a file was refused."""
    gc.set_threshold(100_000, 50, 100)  # imports and dbt's parsing make millions of objects that stay: looking for garbage among them is a tenth of their time
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, must not bury the message that says so
    try:
        app()
    except SystemExit:
        _silence_the_end()
        raise
    except WaymarkError as error:
        print(f"waymark: {error}", file=sys.stderr)
        _silence_the_end()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # the disk may be full for any library's file
        problem = storage_problem(error, str(getattr(error, "filename", None) or ""))
        if not problem:
            raise
        print(f"waymark: {problem}", file=sys.stderr)
        _silence_the_end()
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("waymark: stopped; the next run takes up what this one left", file=sys.stderr)
        sys.exit(130)


def _silence_the_end() -> None:
    """Great Expectations keeps DuckDB's type objects alive to the end, and the bindings then print pages about it: nobody is to read those."""
    sys.stdout.flush()
    sys.stderr.flush()
    if "great_expectations" in sys.modules:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
