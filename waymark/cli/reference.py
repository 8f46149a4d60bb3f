"""`waymark reference`: the pages docs/reference/*.md, from the declarations that the code itself goes by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from waymark.core.settings_fields import SettingField

REGENERATE = "waymark reference docs/reference"


def register(app: typer.Typer) -> None:
    app.command(hidden=True)(reference)


def reference(directory: Annotated[Path, typer.Argument(help="Where the pages go.")] = Path("docs/reference")) -> None:
    """Write the reference of settings, commands, tables and features."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {', '.join(pages())} into {directory}.")


def pages() -> dict[str, str]:
    """Text by file name."""
    return {"settings.md": settings_page(), "commands.md": commands_page(), "tables.md": tables_page(), "features.md": features_page()}


def _head(title: str, said: str) -> str:
    return f"# {title}\n\n<!-- Written by `{REGENERATE}`; a test holds it equal to the code. Do not edit. -->\n\n{said}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# Settings


def settings_page() -> str:
    from waymark.core.settings import VARIABLES
    from waymark.core.settings_fields import setting_groups

    said = (
        "What `waymark.yml` may hold. A setting that is left out has its default. Where the column *full refresh* says yes, a change alters tables already\n"
        "built: `waymark run` refuses it until it is given `--full-refresh`. `waymark init` writes them all, commented, into a new project.\n"
    )
    text = _head("Settings", said)
    for group in setting_groups():
        text += f"\n## {group.name or 'The project'}\n\n{group.description}\n\n".replace("\n\n\n\n", "\n\n")
        text += _table(["setting", "type", "default", "full refresh", "meaning"], [_setting_row(field) for field in group.fields])
    text += "\n## Environment\n\n" + _table(["variable", "meaning"], [[f"`{name}`", said] for name, said in VARIABLES.items()])
    return text


def _setting_row(field: SettingField) -> list[str]:
    default = "must be given" if field.is_required else "none" if field.default is None else f"`{_yaml(field.default)}`"
    allowed = f"{field.kind}, {field.bounds}" if field.bounds else field.kind
    return [f"`{field.path}`", allowed, default, "yes" if field.needs_full_refresh else "no", field.description]


def _yaml(value: object) -> str:
    import yaml

    return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)).removesuffix("...\n").strip()


# Commands


@dataclass(frozen=True)
class CommandLine:
    """A command as it is typed. Of each argument and option: how it is written, its default, its help."""

    name: str
    help: str
    arguments: tuple[tuple[str, str, str], ...]
    options: tuple[tuple[str, str, str], ...]

    @property
    def usage(self) -> str:
        return " ".join(["waymark", self.name, *[name for name, _, _ in self.arguments], "[OPTIONS]" if self.options else ""]).strip()


def command_lines() -> Iterator[CommandLine]:
    """Every command that help lists, groups opened."""
    from waymark.cli.main import app

    yield from _commands_of("", typer.main.get_command(app))


def _commands_of(prefix: str, command: Any) -> Iterator[CommandLine]:
    for name, found in getattr(command, "commands", {}).items():
        if found.hidden:
            continue
        full = f"{prefix} {name}".strip()
        if hasattr(found, "commands"):
            yield from _commands_of(full, found)
        else:
            shown = [parameter for parameter in found.params if parameter.name != "help" and not parameter.hidden]
            arguments = tuple(_parameter(parameter) for parameter in shown if not parameter.opts[0].startswith("-"))
            options = tuple(_parameter(parameter) for parameter in shown if parameter.opts[0].startswith("-"))
            yield CommandLine(full, " ".join((found.help or "").split()), arguments, options)


def _parameter(parameter: Any) -> tuple[str, str, str]:
    kind = parameter.type_descriptor.annotation
    choices = [str(member.value) for member in kind] if hasattr(kind, "__members__") else []
    said = parameter.help or ""
    if choices:
        said += f" One of {', '.join(choices)}."
    if parameter.min is not None or parameter.max is not None:
        said += f" From {parameter.min:,}" + ("." if parameter.max is None else f" to {parameter.max:,}.")
    default = getattr(parameter.default, "value", parameter.default)
    shown = "must be given" if parameter.required else "" if default in (None, False, "", []) else f"`{default}`"
    if not parameter.opts[0].startswith("-"):
        name = parameter.metavar or str(parameter.name).upper()
        return (name if parameter.required else f"[{name}]") + ("" if parameter.nargs == 1 else "..."), shown, said
    name = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts]) + (f" {parameter.metavar}" if parameter.metavar else "")
    return name, shown, said + (" May be repeated." if parameter.multiple else "")


def commands_page() -> str:
    said = (
        "Exit codes: 0 done; 1 stopped by an error that the message explains; 2 wrong usage; 3 done, but a file was refused. `waymark COMMAND --help`\n"
        "says the same as this page. Inside a project's folder `--project` can be left out.\n"
    )
    text = _head("Commands", said)
    for command in command_lines():
        text += f"\n## waymark {command.name}\n\n{command.help}\n\n```\n{command.usage}\n```\n"
        if command.arguments:
            text += "\n" + _table(["argument", "default", "meaning"], [[f"`{name}`", default, said] for name, default, said in command.arguments])
        if command.options:
            text += "\n" + _table(["option", "default", "meaning"], command.options)
    return text


# Tables


@dataclass(frozen=True)
class TablePage:
    """A table as documented. columns: name, type (empty where the model declares none) and description. classes: by column (docs/access.md)."""

    name: str
    description: str
    kind: str
    columns: tuple[tuple[str, str, str], ...]
    is_published: bool

    @cached_property
    def classes(self) -> Mapping[str, str]:
        return _classes().get("staging.stg_events" if self.name == "raw.SOURCE_events" else self.name, {})


@cache
def _classes() -> Mapping[str, Mapping[str, str]]:
    from waymark.pipeline.classification import column_classes

    return column_classes()


def table_pages() -> list[TablePage]:
    """Every table that the models, the checks, the scores and ingestion make: those that are published first."""
    from ml.models.propensity.score import COLUMNS, DESCRIPTIONS
    from ml.models.propensity.score import TABLE as SCORES
    from waymark.ingestion.event import CANONICAL_COLUMNS
    from waymark.ingestion.tables import LOG_DESCRIPTIONS, REMOVAL_DESCRIPTIONS
    from waymark.pipeline.dbt_sources import IDENTITY_COLUMNS
    from waymark.pipeline.published import SNAPSHOT_INFO
    from waymark.pipeline.quality import DESCRIPTIONS as OF_RESULTS
    from waymark.pipeline.quality import TABLE as RESULTS

    models, declared = _models(), _declared_sources()
    scores = tuple((name, kind.lower(), DESCRIPTIONS[name]) for name, kind in COLUMNS.items())
    of_events = {name: said for model in models if model.name == "staging.stg_events" for name, _, said in model.columns} | _PROVENANCE
    events = tuple((name, kind.lower(), of_events.get(name, "")) for name, kind in CANONICAL_COLUMNS.items())
    published = [
        *[model for model in models if model.is_published],
        TablePage(SCORES, "One row per customer with features at data_now: its probability of a conversion, and why.", "log", scores, True),
        TablePage(RESULTS, "One row per rule and run: what the check found.", "log", _untyped(OF_RESULTS), True),
        TablePage("raw.ingestion_log", declared.pop("raw.ingestion_log"), "log", _untyped(LOG_DESCRIPTIONS), True),
        TablePage("raw.removals", "One row per removal, file and event type: events that left, too old.", "log", _untyped(REMOVAL_DESCRIPTIONS), True),
        TablePage("main.snapshot_info", "One row: which snapshot this is.", "log", _untyped(SNAPSHOT_INFO), True),
    ]
    inside = [model for model in models if not model.is_published]
    raw = TablePage("raw.SOURCE_events", declared.pop("raw.SOURCE_events"), "pure", events, False)
    others = [TablePage(name, said, "", _untyped(IDENTITY_COLUMNS.get(name.removeprefix("identity."), {})), False) for name, said in declared.items()]
    return [*sorted(published, key=lambda page: page.name), *inside, raw, *others]


_PROVENANCE = {
    "ingest_file_id": "The file that it was read from: raw.ingestion_log.file_id.",
    "row_number": "Number of the record in that file, from 1; a CSV header is none.",
    "event_date": "Date of occurred_at, UTC: the folder in the lake.",
}


def _untyped(descriptions: dict[str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple((name, "", said) for name, said in descriptions.items())


def _models() -> list[TablePage]:
    """The dbt models, by the yml beside each, in the order of the layers."""
    import yaml

    from waymark.core.shipped import shipped

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    layers = ("marts", "features", "intermediate", "staging")
    found = []
    for layer in layers:
        for path in sorted((shipped("dbt") / "models" / layer).rglob("*.yml")):
            for model in yaml.load(path.read_text(encoding="utf-8"), Loader=loader).get("models", []):
                columns = tuple((str(column["name"]), str(column.get("data_type", "")), str(column.get("description", ""))) for column in model["columns"])
                kind = str(model.get("config", {}).get("meta", {}).get("kind", ""))
                is_published = layer in ("marts", "features") or "database='outputs'" in path.with_suffix(".sql").read_text(encoding="utf-8")
                found.append(TablePage(f"{layer}.{model['name']}", str(model.get("description", "")), kind, columns, is_published))
    return found


def _declared_sources() -> dict[str, str]:
    """Description by name of what dbt reads and does not make."""
    from waymark.pipeline.dbt_sources import sources_document

    document = sources_document(["SOURCE"])
    return {f"{source['schema']}.{table['name']}": str(table["description"]) for source in document["sources"] for table in source["tables"]}


def tables_page() -> str:
    said = (
        "Times are UTC, money is DECIMAL(18,4). A table of kind *pure* is a function of the accepted events, the settings and the seed, and\n"
        "`waymark verify` derives it anew; one of kind *log* depends on when things ran. SOURCE stands for each source's name. Who writes which, and how\n"
        "it is re-stated: [architecture](../architecture.md). What the classes mean, and which role sees which: [access](../access.md).\n"
    )
    text = _head("Tables", said)
    tables = table_pages()
    for title, published in (("Published: what analysts read", True), ("Inside the warehouse", False)):
        text += f"\n## {title}\n"
        for page in (page for page in tables if page.is_published == published):
            text += f"\n### {page.name}\n\n{' '.join(page.description.split())}{f' Kind: {page.kind}.' if page.kind else ''}\n"
            if page.columns:
                text += "\n" + _table(
                    ["column", "type", "class", "meaning"], [[f"`{name}`", kind, page.classes.get(name, ""), said] for name, kind, said in page.columns]
                )
    return text


# Features


def _days(window: int | None) -> str:
    return "ever" if window is None else f"{window} day{'' if window == 1 else 's'}"


def features_page() -> str:
    from ml.features import VIEWS
    from ml.labels import LABEL

    said = (
        "A row of a view belongs to a customer as known at `as_of_at`: Mondays' midnights (UTC) and `data_now`. It uses only events before that instant,\n"
        "linked as was known then. *Measures* are the columns of `intermediate.int_node_days` that a feature is made from; `waymark lineage FEATURE`\n"
        "follows them to the raw events.\n"
    )
    text = _head("Features", said)
    for view in VIEWS.values():
        text += f"\n## {view.table}\n\nSays {view.description}. Owner: {view.owner}; consent scope: {view.consent_scope}; entity: {view.entity}.\n\n"
        rows = [
            [f"`{field.name}`", field.dtype, _days(field.window_days), field.meaning, ", ".join(field.measures)]
            for field in view.fields
        ]
        text += _table(["feature", "type", "looks back", "meaning", "measures"], rows)
    return text + f"\n## The label\n\n`{LABEL.table}.{LABEL.name}`: {LABEL.meaning}. The horizon is `{LABEL.horizon_setting}`.\n"
