"""`waymark privacy`: what is held about a person, handed out or erased; and the certificates of erasures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption

app = typer.Typer(no_args_is_help=True)
_PROBABLE = "Also what only names or addresses join to the person, less surely than `identity.thresholds.sending` asks."
_WHO = "An identifier TYPE:VALUE, plain or keyed, or a customer_id; a plain e-mail is hashed at once."


@app.command()
def export(
    who: Annotated[str, typer.Argument(metavar="ID", help=_WHO, show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="The folder to write person.json and person.html into, outside of the home.", show_default=False)],
    *,
    probable: Annotated[bool, typer.Option("--probable", help=_PROBABLE)] = False,
    project: ProjectOption = Path("."),
) -> None:
    """Write everything that is held about a person, as JSON and as a short page."""
    from waymark.cli.audit import log_read
    from waymark.cli.identity import tell_wait
    from waymark.core.settings import load_project
    from waymark.pipeline.subject_export import export as exported
    from waymark.pipeline.subjects import subjects_of

    opened = load_project(project)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds, on_wait=tell_wait):
        subject = subjects_of(opened, [who], probable=probable)[0]
        log_read(opened, "person_exported", subjects=subject.customers)
        done = exported(opened, subject, to)
    typer.echo(f"{', '.join(f'{count:,} {what}' for what, count in done.counts.items())}: {done.document}, {done.page}")
    if subject.left_out:
        typer.echo(f"Not taken for theirs: {subject.left_out} identifiers that only names or addresses join to them. See docs/erasure.md.")
    typer.echo("Both are yours to hand out, and to delete.")


@app.command()
def erase(
    who: Annotated[list[str] | None, typer.Argument(metavar="ID", help=f"{_WHO} Several at once cost one rebuild.", show_default=False)] = None,
    *,
    because: Annotated[str, typer.Option("--because", help="Why, such as a request's number; it is kept in the certificate.", show_default=False)] = "",
    listed: Annotated[Path | None, typer.Option("--from", help="A file with one identifier a line.", show_default=False)] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Also erase all events of an identifier that too many share.")] = False,
    probable: Annotated[bool, typer.Option("--probable", help=_PROBABLE)] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell who is meant.")] = False,
    continue_: Annotated[bool, typer.Option("--continue", help="Go on with the erasure that was cut short.")] = False,
    project: ProjectOption = Path("."),
) -> None:
    """Erase persons from landing to what is published, models included, for good; writes a certificate."""
    from waymark.cli.audit import log_read
    from waymark.cli.identity import tell_wait
    from waymark.core.errors import WaymarkError
    from waymark.core.settings import load_project
    from waymark.pipeline.erasure import ask, go_on, refuse_open
    from waymark.pipeline.subjects import named_by_others, subjects_of
    from waymark.privacy.requests import unfinished

    if continue_ and (who or listed or because):
        raise WaymarkError("an erasure that goes on knows whom it was asked for, and why", remedy="waymark privacy erase --continue")
    opened = load_project(project)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds, on_wait=tell_wait):
        request = unfinished(opened.home)
        if continue_ and request is None:
            typer.echo("No erasure was cut short.")
            return
        if not continue_:
            from_file = _lines(listed) if listed else {}
            named = [*(who or []), *from_file]
            if not named:
                raise WaymarkError("nobody is named", remedy="Name identifiers, or a file of them with --from.")
            if not dry_run:
                refuse_open(opened)
            subjects = subjects_of(opened, named, shared=shared, probable=probable, listed=from_file)
            named_customers = {customer for subject in subjects for customer in subject.customers}
            log_read(opened, "preview", subjects=named_customers, details={"erasure_of": len(subjects)})
            for subject in subjects[:20]:
                typer.echo(f"{subject.customers[0] if subject.customers else 'nobody yet'}: {subject.line()}")
            if len(subjects) > 20:
                typer.echo(f"… and {len(subjects) - 20:,} more")
            events, others = named_by_others(opened, subjects)
            if events:
                typer.echo(f"{events:,} events of {others:,} other customers name an identifier of theirs, and go, too.")
            if dry_run:
                return
            if not yes and not typer.confirm(f"Erase {len(subjects):,} persons for good? Every table is rebuilt."):
                raise typer.Exit(1)
            request = ask(opened, subjects, because=because, clear=[text.partition(":")[2] for text in named if ":" in text])
        assert request is not None
        done = go_on(opened, request)
    typer.echo(f"Erased. The certificate: waymark privacy status {done.request_id}")
    outside = done.certificate.get("outside")
    for copy in outside if isinstance(outside, list) else []:
        typer.echo(f"Yours to delete, outside of the home: {copy['file']} ({copy['struck']} records)")
    unread = done.certificate.get("unread")
    for told in unread if isinstance(unread, list) else []:
        typer.echo(f"Yours to check, as it could not be read to its end: {told['file']}")
    if why := done.certificate.get("estimation_removed"):
        typer.echo(f"Nobody is linked by names and addresses any more: {why}")


@app.command()
def status(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="A request; none: all of them.", show_default=False)] = "",
    project: ProjectOption = Path("."),
) -> None:
    """List erasures, or print and verify the certificate of one. Exit code 1 where it does not hold."""
    import json

    from waymark.cli.query import print_table
    from waymark.core.errors import AuditError, WaymarkError
    from waymark.core.settings import load_project
    from waymark.privacy.requests import audited_digest, problems, requests

    home = load_project(project).home
    known = requests(home)
    if not request_id:
        if not known:
            typer.echo("Nobody has been erased.")
            return
        shown = [(one.request_id, one.requested_at[:19], one.persons, one.completed_at[:19] or f"cut short after: {one.phase}", one.because) for one in known]
        print_table(["request", "asked", "persons", "done", "because"], [tuple(row) for row in shown])
        return
    found = next((one for one in known if one.request_id == request_id), None)
    if found is None:
        raise WaymarkError(f"no request '{request_id}'", remedy="Those there are: waymark privacy status")
    if not found.is_done:
        raise WaymarkError(f"the erasure was cut short after: {found.phase}", remedy="Go on with it: waymark privacy erase --continue")
    typer.echo(json.dumps(found.certificate, indent=2))
    if wrong := problems(home, found, audited_digest(home, request_id)):
        raise AuditError("the certificate does not hold: " + "; ".join(wrong), where=request_id, remedy="Compare it with the copy that you keep elsewhere.")
    typer.echo("The certificate holds: as it was signed, and as the audit log knows it.")


def _lines(path: Path) -> dict[str, str]:
    """Each identifier of a list, with the file and line that name it first."""
    from waymark.core.errors import WaymarkError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WaymarkError("the list cannot be read", where=str(path), remedy="Name a text file with one identifier a line.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            found.setdefault(text, f"{path}:{number}")
    return found
