"""`waymark run`, `waymark verify`, `waymark world`: the main job, its proof on one's own data, and a world to try it on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from waymark.cli.project import ProjectOption
from waymark.core.errors import WaymarkError
from waymark.core.quoting import typed
from waymark.core.settings import Project, load_project, quiet_libraries, set_environment

WORLD_SOURCE = "waymark_world"


def register(app: typer.Typer) -> None:
    app.command()(run)
    app.command()(verify)
    app.command()(world)


def run(
    project: ProjectOption = Path("."),
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild every table from raw.")] = False,
) -> None:
    """Take in new files and publish journeys; says so if nothing is new."""
    from waymark.pipeline.freshness import nothing_new

    opened = load_project(project)
    if not full_refresh and nothing_new(opened):
        typer.echo("Nothing new: the published snapshot holds every file, under these settings.")
        return
    quiet_libraries()
    if _materialize(opened, full_refresh):
        raise typer.Exit(3)


def _materialize(project: Project, full_refresh: bool) -> bool:
    """Whether a file was refused. All that were are told at the end, in a run that stopped, too."""
    import logging
    from time import monotonic

    from dagster_project.lib.project_resource import PROJECT_VARIABLE
    from waymark.cli.summary import RunView, print_summary
    from waymark.pipeline.progress import listening
    from waymark.pipeline.steps import preflight, refuse_changed_settings

    started = monotonic()
    set_environment({PROJECT_VARIABLE: str(project.directory)})
    logging.getLogger("dagster").setLevel(logging.ERROR)
    view = RunView()
    try:
        with view, listening(view.hear):
            preflight(project)  # before Dagster is loaded, which takes seconds
            if not full_refresh:
                refuse_changed_settings(project)
            from dagster_project.run import run_refresh

            run_refresh(project, full_refresh=full_refresh)
        print_summary(project, view.stages, monotonic() - started)
    finally:
        for text in view.refused:
            print(f"waymark: refused: {text}", file=sys.stderr)
    return bool(view.refused)


def verify(project: ProjectOption = Path(".")) -> None:
    """Re-derive every pure table from raw in a scratch file, and compare row for row."""
    from waymark.cli.query import print_table
    from waymark.cli.summary import RunView
    from waymark.pipeline.progress import listening
    from waymark.pipeline.verify import verify_project

    quiet_libraries()
    opened = load_project(project)
    with RunView() as view, listening(view.hear):
        compared = verify_project(opened)
    print_table(["table", "rows", "digest", "verdict"], [(table.name, table.rows, table.digest[:12], table.verdict) for table in compared])
    different = [table.name for table in compared if not table.equal]
    if different:
        raise WaymarkError(
            f"{len(different)} tables differ from what raw gives: {', '.join(different)}",
            remedy="Run `waymark run --full-refresh`; then report what `waymark verify` said, for an increment must not differ.",
        )
    typer.echo(f"All {len(compared)} pure tables equal what raw gives.")


def world(
    project: ProjectOption = Path("."),
    customers: Annotated[int, typer.Option(min=1, max=10_000_000, help="Persons in the world.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal worlds.")] = 1,
    rate: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="NAME=RATE", help="A mechanism's rate, 0 is off (ml/simulator/README.md)."),
    ] = None,
    if_named: Annotated[bool, typer.Option("--if-named", help="Only where the project names the source waymark_world; else say so, and do nothing.")] = False,
) -> None:
    """Write the files of a world whose truth is known into the project's landing folder (once)."""
    from waymark.core.errors import SettingsError
    from waymark.core.home import write_atomically

    opened = load_project(project)
    home, landing = opened.home, opened.home.landing / WORLD_SOURCE
    if WORLD_SOURCE not in opened.settings.sources:
        if if_named:
            typer.echo(f"The project has no source {WORLD_SOURCE}, so no world is made for it: its own files are taken in.")
            return
        raise SettingsError(f"the project has no source {WORLD_SOURCE}", where=str(opened.directory), remedy="Use examples/demo, or add the source.")
    wanted: dict[str, Any] = {"customers": customers, "seed": seed}
    if changed := _changed_rates(rate or []):
        wanted["rates"] = changed
    if _has_world(opened, wanted):
        typer.echo(f"The world's files are there already: {landing}")
        return
    from ml.simulator import DEFAULT_MECHANISMS, WorldSpec, generate_world

    home.ensure()
    wait = opened.settings.ingestion.lock_timeout_seconds
    with home.writer_lock(timeout_seconds=wait, on_wait=lambda holder: typer.echo(f"Waiting for {holder}.", err=True)):
        if _has_world(opened, wanted):
            typer.echo(f"The world's files are there already: {landing}")
            return
        spec = WorldSpec(customers=customers, seed=seed, mechanisms={**DEFAULT_MECHANISMS, **changed})
        report = generate_world(landing, opened.directory / "truth", spec)
        write_atomically(home.world, json.dumps(wanted) + "\n")  # last: files without it are of a world that was cut short
    typer.echo(f"A world of {customers:,} persons: {report.rows:,} rows in {report.files} files, {report.seconds:.1f} s")


def _changed_rates(texts: list[str]) -> dict[str, float]:
    """The rates that differ from those of a world that is given none."""
    if not texts:
        return {}
    from ml.simulator import DEFAULT_MECHANISMS, rates_given

    return {name: rate for name, rate in sorted(rates_given(texts).items()) if rate != DEFAULT_MECHANISMS.get(name, 0.0)}


def _has_world(project: Project, wanted: dict[str, Any]) -> bool:
    """Whether this very world stands in the landing folder. Raises StorageError where other files do."""
    from waymark.core.errors import StorageError
    from waymark.core.home import read_json

    home, landing = project.home, project.home.landing / WORLD_SOURCE
    if not landing.exists() or not any(landing.iterdir()):
        return False
    there = read_json(home.world)
    if there == wanted:
        return True
    what, keep = "there are files here that are not those of a whole world that this command made", ""
    if there:
        what = f"another world stands here already: of {_options(there)}"
        keep = "Give the same options to keep it. "
    raise StorageError(
        what,
        where=str(landing),
        remedy=f"{keep}For a world of {_options(wanted)} set WAYMARK_HOME to another folder, or remove this home with all that was "
        f"made from it, then do it again: {typed('rm', '-r', home.root, project.directory / 'truth')}",
    )


def _options(world: dict[str, Any]) -> str:
    """The options that make this world."""
    rates = "".join(f" --rate {name}={rate:g}" for name, rate in world.get("rates", {}).items())
    return f"--customers {world.get('customers')} --seed {world.get('seed')}{rates}"
