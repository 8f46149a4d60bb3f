"""`waymark init` and `waymark path`: a project folder of one's own, and where its things are."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from waymark.core.errors import SettingsError
from waymark.core.settings import NAME_PATTERN, PROJECT_FILE, load_project

ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="The project folder.", show_default=False)]


class Place(StrEnum):
    published = "published"
    warehouse = "warehouse"
    lake = "lake"
    mlflow = "mlflow"


def register(app: typer.Typer) -> None:
    app.command()(init)
    app.command()(path)


def init(
    directory: Annotated[Path, typer.Argument(help="The folder to make.")],
    source: Annotated[list[Path], typer.Option("--source", help="A source mapping; may be given several times, each with its --files.")],
    files: Annotated[list[str], typer.Option("--files", help="A folder, a file or a glob that holds the source's files.")],
) -> None:
    """Make a project folder that names your files."""
    import yaml

    if len(source) != len(files):
        raise SettingsError(f"{len(source)} --source and {len(files)} --files", remedy="Give each --source its own --files, in the same order.")
    target = directory.resolve() / PROJECT_FILE
    if target.exists():
        raise SettingsError("there is a project here already", where=str(target), remedy="Edit it, or choose another folder.")
    entries: dict[str, dict[str, object]] = {}
    texts: dict[str, str] = {}
    for mapping, place in zip(source, files, strict=True):
        if not mapping.is_file():
            raise SettingsError("no such mapping", where=str(mapping), remedy="Name a YAML file, such as one of examples/sources/.")
        text = mapping.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        name = document.get("source") if isinstance(document, dict) else None
        if not isinstance(name, str) or not NAME_PATTERN.match(name):
            raise SettingsError("the mapping names no source", where=str(mapping), remedy="Its first line must be: source: <lower_case_name>.")
        if name in entries:
            raise SettingsError(f"two mappings are for the source '{name}'", where=str(mapping), remedy="Give each source a name of its own.")
        entries[name] = {"mapping": f"sources/{name}.yml", "files": [_glob(place, str(document.get("format", "csv")))]}
        texts[name] = text
    (directory / "sources").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / "sources" / f"{name}.yml").write_text(text, encoding="utf-8")
    settings = {"name": directory.resolve().name, "sources": entries}
    target.write_text(_HEADER + yaml.safe_dump(settings, sort_keys=False) + _MORE, encoding="utf-8")
    load_project(directory)
    typer.echo(f"Made {target}. Look at it, then: waymark run --project {directory}")


def _glob(place: str, file_format: str) -> str:
    """A folder stands for the files of the mapping's format in it."""
    path = Path(place)
    if not path.is_dir():
        return str(path if path.is_absolute() else path.resolve())
    ending = {"ndjson": "*json*"}.get(file_format, f"*.{file_format}*")
    return str(path.resolve() / ending)


_HEADER = "# A Waymark project. Every setting has a default; those shown commented are the defaults.\n"
_MORE = """
# Changing one of these needs `waymark run --full-refresh`:
# time:
#   reporting_timezone: UTC        # day boundaries of daily tables
#   session_gap_minutes: 30        # a longer gap ends a session
#   journey_timeout_days: 30       # a longer silence ends a journey
# counting:
#   exclude_bots: true             # crawlers stay in fct_events, out of sessions and journeys
#   exclude_internal: true         # staff likewise
# identity:
#   max_neighbours: 20             # an identifier linked to more than this many others merges nobody
# money:
#   reporting_currency: USD
#   rates: rates.csv               # valid_from, currency, rate
# goals:
#   - {name: purchase, event_types: [order_completed]}
# stages:                          # the first rule that matches wins
#   - {stage: intent, event_types: [product_added_to_cart, checkout_started]}
# micro_conversions:
#   - {name: cart, event_types: [product_added_to_cart]}
# channels:                        # tried before GA4's default channel groups
#   - {channel: Partners, field: utm_source, pattern: "^partner-"}

# These do not:
# ingestion:
#   max_field_bytes: 1000000       # a longer field is quarantined
#   quarantine_days: 90            # refused rows are deleted after this
# engine:
#   memory_limit: 4GB
"""


def path(
    place: Annotated[Place, typer.Argument(help="What to locate.")],
    project: ProjectOption = Path("."),
) -> None:
    """Print where the published marts, the warehouse, the lake or MLflow are."""
    home = load_project(project).home
    typer.echo({Place.published: home.published, Place.warehouse: home.warehouse, Place.lake: home.lake, Place.mlflow: home.mlflow}[place])
