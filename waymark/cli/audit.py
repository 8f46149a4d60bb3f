"""`waymark audit`: the log of who read what, listed and verified; and how a reading command writes to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption
from waymark.core.settings import Project, load_project

app = typer.Typer(no_args_is_help=True)


def log_read(project: Project, action: str, *, role: str = "", subjects: Iterable[str] = (), details: Mapping[str, object] | None = None) -> None:
    """Writes to the audit log that something is about to be read. subjects: ids of persons; the log holds references of them.

    Where the log cannot be written (it is another user's, or the disk is full), says so on standard error; raises StorageError where the project
    refuses such reads.
    """
    from waymark.core.errors import StorageError
    from waymark.privacy.audit import AuditLog

    try:
        references = []
        if named := sorted(set(subjects)):
            from waymark.privacy.subjects import SubjectReferences

            references = SubjectReferences(project.home).of(named)
        AuditLog(project.home, role).append(action, role=role, subjects=references, details=details)
    except StorageError as error:
        if project.settings.access.refuse_unlogged:
            raise
        typer.echo(f"waymark: this read is not in the audit log: {error.what}", err=True)


@app.command("list")
def list_(
    project: ProjectOption = Path("."),
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only entries from then on, UTC.")] = None,
    action: Annotated[str | None, typer.Option(help="Only entries of this action, such as sql.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only entries about this customer.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
) -> None:
    """Show who read what, and what was done to data about people."""
    import json

    from waymark.cli.query import print_table
    from waymark.core.errors import WaymarkError
    from waymark.pipeline.anchors import logs
    from waymark.privacy.audit import ACTIONS, is_struck

    if action is not None and action not in ACTIONS:
        raise WaymarkError(f"'{action}' is no action of the audit log", remedy=f"One of: {', '.join(sorted(ACTIONS))}.")
    home = load_project(project).home
    reference = ""
    if customer is not None:
        from waymark.privacy.subjects import SubjectReferences

        reference = SubjectReferences(home).known(customer) or "nobody"
    unreadable = 0
    found: list[tuple[object, ...]] = []
    for line, entry in (line for log in logs(home).values() for line in log.lines()):
        if entry is None:
            unreadable += not is_struck(line)
        elif (since is None or entry.at >= since.isoformat()) and action in (None, entry.action) and (not reference or reference in entry.subjects):
            said = json.dumps(entry.details, ensure_ascii=False) if entry.details else ""
            found.append((entry.at, entry.actor, entry.role, entry.action, " ".join(entry.subjects), said))
    if found:
        newest = sorted(found)[-limit:]
        print_table(["at", "actor", "role", "action", "subjects", "details"], [(str(row[0])[:19], *row[1:]) for row in newest])
    else:
        typer.echo("The audit log has no such entry.")
    if unreadable:
        typer.echo(f"waymark: {unreadable} lines are no entries: waymark audit verify", err=True)


@app.command()
def verify(project: ProjectOption = Path(".")) -> None:
    """Read the whole log, and hold it against what the manifests know of it. Exit code 1 where an entry was altered, removed or cut off."""
    from waymark.core.errors import AuditError
    from waymark.pipeline.anchors import known_anchors, logs
    from waymark.privacy.struck import struck

    home = load_project(project).home
    problems: list[tuple[Path, str]] = []
    for role, log in logs(home).items():
        anchors = known_anchors(home, role)
        verdict = log.verify(anchors, struck(home, role))
        problems += [(log.path, problem) for problem in verdict.problems]
        for note in verdict.notes:
            typer.echo(f"note: {note}")
        known = f", as {len(anchors)} manifest{' knows' if len(anchors) == 1 else 's know'}" if anchors else "; no manifest knows it yet"
        if not verdict.problems:
            typer.echo(f"The {f'log of role {role}' if role else 'audit log'} holds: {verdict.entries:,} entries{known}. Head: {verdict.digest}")
    if problems:
        more = f"; and {len(problems) - 10} more" if problems[10:] else ""
        raise AuditError(
            f"the audit log does not hold: {'; '.join(problem for _, problem in problems[:10])}{more}",
            where=str(problems[0][0]), remedy="Compare it with a backup: what was done by then stands there.",
        )  # fmt: skip
