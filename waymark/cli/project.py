"""`waymark init` and `waymark path`: a project folder of one's own, and where its things are."""

from __future__ import annotations

import glob
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from waymark.core.errors import SettingsError
from waymark.core.people_settings import NAME_PATTERN
from waymark.core.quoting import project_option
from waymark.core.settings import PROJECT_FILE, home_of, load_project
from waymark.core.shipped import shipped

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
    source: Annotated[
        list[Path] | None,
        typer.Option("--source", help="A source mapping, by its file or by the name of a shipped one; may be given several times, each with its --files."),
    ] = None,
    files: Annotated[list[str] | None, typer.Option("--files", help="A folder, a file or a glob that holds the source's files.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="The demo project instead, for the world that `waymark world` makes.")] = False,
) -> None:
    """Make a project folder that names your files, or the demo project."""
    source, files = source or [], files or []
    target = directory.resolve() / PROJECT_FILE
    if demo and (source or files):
        raise SettingsError("--demo has its own source", remedy="Leave --source and --files out, or make another project with them.")
    if len(source) != len(files):
        raise SettingsError(f"{len(source)} --source and {len(files)} --files", remedy="Give each --source its own --files, in the same order.")
    if not demo and not source:
        raise SettingsError("no --source", remedy=f"Give a mapping and its --files, or --demo. Shipped mappings: {', '.join(_shipped_mappings())}.")
    if target.exists():
        raise SettingsError("there is a project here already", where=str(target), remedy="Edit it, or choose another folder.")
    home_of(directory.resolve()).check_path()
    for file, text in (_demo_files() if demo else _project_files(directory.resolve().name, source, files)).items():
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).write_text(text, encoding="utf-8")
    load_project(directory)
    option = project_option(directory.resolve())
    first = f"waymark world{option}, and " if demo else ""
    typer.echo(f"Made {target}. Look at it, then: {first}waymark run{option}")


def _shipped_mappings() -> dict[str, Path]:
    return {path.stem: path for path in sorted((shipped("examples") / "sources").glob("*.yml"))}


def _demo_files() -> dict[str, str]:
    """Text by relative path. In the shipped folder the mapping lies beside the project, in a project of one's own inside it."""
    folder = shipped("examples") / "demo"
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    found = {file: text.replace("mapping: ../sources/", "mapping: sources/") for file, text in files.items()}
    named = re.findall(r"mapping: sources/(\w+)\.yml", found[PROJECT_FILE])
    return found | {f"sources/{name}.yml": _shipped_mappings()[name].read_text(encoding="utf-8") for name in named}


def _project_files(name: str, sources: list[Path], places: list[str]) -> dict[str, str]:
    """Text by relative path: the settings, and a copy of each mapping. Raises SettingsError for a mapping that is none."""
    import yaml

    entries: dict[str, dict[str, object]] = {}
    texts: dict[str, str] = {}
    for given, place in zip(sources, places, strict=True):
        mapping = given if given.is_file() else _shipped_mappings().get(str(given), given)
        if not mapping.is_file():
            raise SettingsError("no such mapping", where=str(mapping), remedy=f"Name a YAML file, or a shipped one: {', '.join(_shipped_mappings())}.")
        text = mapping.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        source = document.get("source") if isinstance(document, dict) else None
        if not isinstance(source, str) or not NAME_PATTERN.match(source):
            raise SettingsError("the mapping names no source", where=str(mapping), remedy="Its first line must be: source: <lower_case_name>.")
        if source in entries:
            raise SettingsError(f"two mappings are for the source '{source}'", where=str(mapping), remedy="Give each source a name of its own.")
        entries[source] = {"mapping": f"sources/{source}.yml", "files": [_glob(place, str(document.get("format", "csv")))]}
        texts[f"sources/{source}.yml"] = text
    settings = yaml.safe_dump({"name": name, "sources": entries}, sort_keys=False)
    return texts | {PROJECT_FILE: _HEADER + settings + "\n" + defaults_as_comments()}  # last: with it the folder is a project


def _glob(place: str, file_format: str) -> str:
    """A folder stands for the files of the mapping's format in it. What is there under this very name is no pattern, nor is the current folder."""
    path = Path(place)
    if path.exists():
        ending = "/" + {"ndjson": "*json*"}.get(file_format, f"*.{file_format}*") if path.is_dir() else ""
        return glob.escape(str(path.resolve())) + ending
    return os.path.normpath(os.path.join(glob.escape(str(Path.cwd())), place))


_HEADER = "# A Waymark project. Every setting has a default; those shown commented are the defaults.\n"
_SUCH_AS = {
    "stages": "{stage: intent, event_types: [product_added_to_cart]}",
    "micro_conversions": "{name: cart, event_types: [product_added_to_cart]}",
    "channels": '{channel: Partners, field: utm_source, pattern: "^partner-"}',
}


def defaults_as_comments() -> str:
    """Every optional setting at its default, each line commented out and explained. "Full refresh" beside one: changing it restates history."""
    import yaml

    from waymark.core.settings_fields import setting_groups

    def line(indent: str, name: str, value: object, said: str) -> str:
        shown = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
        return f"# {indent + name + ': ' + shown:<36} # {said}\n"

    text = '# "full refresh" beside a setting: a change of it binds tables already built, and needs `waymark run --full-refresh`.\n'
    for group in setting_groups():
        optional = [field for field in group.fields if not field.is_required]
        is_group = bool(optional) and optional[0].path.startswith(f"{group.name}.")
        if is_group:
            text += f"# {group.name}:\n"
        for field in optional:
            said = ("full refresh: " if field.needs_full_refresh else "") + field.description
            said += f"; such as {_SUCH_AS[field.path]}" if field.path in _SUCH_AS else ""
            text += line("  " if is_group else "", field.path.rsplit(".", 1)[-1], field.default, said)
    return text


def path(
    place: Annotated[Place, typer.Argument(help="What to locate.")],
    project: ProjectOption = Path("."),
) -> None:
    """Print where the published marts, the warehouse, the lake or MLflow are."""
    home = load_project(project).home
    typer.echo({Place.published: home.published, Place.warehouse: home.warehouse, Place.lake: home.lake, Place.mlflow: home.mlflow}[place])
