"""`waymark train`, `waymark why`, `waymark lineage`: the model, a score's reasons, a feature's origin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from waymark.cli.project import ProjectOption


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(why)
    app.command()(lineage)


def train(project: ProjectOption = Path(".")) -> None:
    """Train a challenger now, whether or not one is due; the gate decides whether it becomes champion. The next run scores by the champion."""
    from waymark.core.settings import load_project, quiet_libraries

    quiet_libraries()
    from waymark.cli.summary import RunView
    from waymark.pipeline.learning import train as train_now
    from waymark.pipeline.progress import listening
    from waymark.pipeline.published import require_published
    from waymark.pipeline.steps import preflight

    opened = load_project(project)
    require_published(opened.home)
    with opened.home.writer_lock(timeout_seconds=opened.settings.ingestion.lock_timeout_seconds), RunView() as view, listening(view.hear):
        report = train_now(preflight(opened), force=True)
    for sentence in report.sentences:
        typer.echo(sentence)
    for name, text in report.metrics:
        typer.echo(f"  {name:<20} {text}")


def why(
    customer: Annotated[str, typer.Argument(help="A customer_id.")],
    project: ProjectOption = Path("."),
    count: Annotated[int, typer.Option(help="How many features.")] = 5,
    events: Annotated[int, typer.Option(help="How many events of each, latest first.")] = 3,
) -> None:
    """Say why a customer has its score: contributions, feature values, and the events behind them with file and line."""
    from waymark.cli.audit import log_read
    from waymark.core.settings import load_project
    from waymark.pipeline.trace import trace_events
    from waymark.pipeline.why import explain_customer

    opened = load_project(project)
    found = explain_customer(opened, customer, count=count)
    log_read(opened, "why", subjects=[customer])
    typer.echo(
        f"{found.customer_id} at {found.as_of_at}: score {found.score:.4f} (90 % interval {found.low:.4f} to {found.high:.4f}), decile {found.decile}, "
        f"by version {found.version}.\nLog-odds {found.margin:+.3f} before calibration, of which {found.base_log_odds:+.3f} for everybody."
    )
    shown = {event.event_id for reason in found.reasons for event in reason.events[-events:]}
    places = {event.event_id: event for event in trace_events(opened, sorted(shown))} if shown else {}
    for reason in found.reasons:
        typer.echo(f"\n{reason.contribution.log_odds:+.3f}  {reason.contribution.sentence}  [{reason.contribution.feature}; {len(reason.events)} events]")
        for event in reversed(reason.events[-events:] if events else []):
            place = places.get(event.event_id)
            where = f"{place.file}, {'line' if place.line else 'record'} {place.line or place.record}" if place else ""
            typer.echo(f"        {event.occurred_at}  {event.event_type:<28} {event.event_id}  {where}")


def lineage(
    feature: Annotated[str, typer.Argument(help="A feature's name.")],
    project: ProjectOption = Path("."),
) -> None:
    """Show where a feature comes from: view, measures, models back to raw, owner, scope, code."""
    from waymark.core.settings import load_project
    from waymark.pipeline.lineage import feature_lineage

    for line in feature_lineage(load_project(project), feature):
        typer.echo(line)
