"""`waymark`: composes the command groups and turns errors into messages and exit codes."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from typing import NoReturn

import typer

from waymark.cli import audit, home, identity, learning, linkage, privacy, project, quality, quarantine, query, reference, run, services
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
linkage.register(identity.app)
app.add_typer(identity.app, name="identity", help="Who is who: explain it, split, merge; estimate how alike records are.")
app.add_typer(quarantine.app, name="quarantine", help="Rows that were refused: list, show, replay.")
app.add_typer(privacy.app, name="privacy", help="What is held about a person: export it, erase it, certificates.")
app.add_typer(audit.app, name="audit", help="Who read what, and what was done to data about people: list, verify.")


def main() -> None:
    """Entry point. Exit codes: 0 done; 1 stopped by an error that the message explains; 2 wrong usage; 3 done, but a file was refused."""
    gc.set_threshold(100_000, 50, 100)  # imports and dbt's parsing make millions of objects that stay: looking for garbage among them is a tenth of their time
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, must not bury the message that says so
    try:
        app()
    except SystemExit as ended:
        _end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    except WaymarkError as error:
        print(f"waymark: {error}", file=sys.stderr)
        _end(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # the disk may be full for any library's file
        problem = storage_problem(error, str(getattr(error, "filename", None) or ""))
        if not problem:
            raise
        print(f"waymark: {problem}", file=sys.stderr)
        _end(problem.exit_code)
    except KeyboardInterrupt:
        print("waymark: stopped; the next run takes up what this one left", file=sys.stderr)
        sys.exit(130)


def _end(code: int) -> NoReturn:
    """Ends the process; after a run without taking the interpreter apart, which costs seconds and lets DuckDB's bindings print pages of what is left."""
    sys.stdout.flush()
    sys.stderr.flush()
    if {"dagster", "great_expectations"} & set(sys.modules):
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)
