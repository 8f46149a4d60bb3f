"""The reference pages say what the code says, and the code says something about everything that a user meets."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from ml.features import VIEWS, model_fields
from tests.conftest import REPOSITORY
from waymark.cli.main import app
from waymark.cli.project import defaults_as_comments
from waymark.cli.reference import REGENERATE, command_lines, pages, table_pages
from waymark.core.settings import VARIABLES, Settings
from waymark.core.settings_fields import SettingField, needs_full_refresh, setting_groups

PAGES = REPOSITORY / "docs" / "reference"
LEAST = {"name": "t", "sources": {"shop": {"mapping": "m.yml", "files": ["f"]}}}


def test_the_committed_pages_are_what_the_code_says() -> None:
    made = pages()
    assert sorted(path.name for path in PAGES.iterdir()) == sorted(made), f"run: {REGENERATE}"
    stale = [name for name, text in made.items() if (PAGES / name).read_text(encoding="utf-8") != text]
    assert not stale, f"docs/reference/{', '.join(stale)} is not what the code says any more; run: {REGENERATE}"


def test_every_setting_is_described() -> None:
    groups = setting_groups()
    assert [field.path for group in groups for field in group.fields if len(field.description) < 5] == []
    # A model without a docstring of its own would show the one that it inherits.
    assert [group.name for group in groups[1:] if not group.description or group.description == BaseModel.__doc__] == []
    named = {field.path.split(".")[0].removesuffix("[]") for group in groups for field in group.fields}
    assert named == set(Settings.model_fields)


def test_every_command_argument_and_option_is_described() -> None:
    commands = list(command_lines())
    assert {"init", "run", "sql", "quarantine replay"} <= {command.name for command in commands}
    assert [command.name for command in commands if len(command.help) < 10] == []
    assert [(command.name, name) for command in commands for name, _, said in (*command.arguments, *command.options) if len(said) < 5] == []


def test_help_writes_a_command_as_the_page_does() -> None:
    """But for the options, which come first there, and for how it marks what must be given: by braces, and small letters where no name is said."""
    for command in command_lines():
        told = CliRunner().invoke(app, [*command.name.split(" "), "--help"], env={"COLUMNS": "400", "TERM": "dumb"}).output
        usage = next(line for line in told.splitlines() if "Usage:" in line).split("[OPTIONS]")[1]
        assert [word.strip("{}").upper() for word in usage.split()] == [name for name, _, _ in command.arguments], command.name
        required = {re.findall(r"--[\w-]+", line)[0].removeprefix("--") for line in told.splitlines() if "[required]" in line and "--" in line}
        assert required == {name.strip("`-") for name, default, _ in command.options if default == "must be given"}, command.name


def test_every_table_column_and_feature_is_described() -> None:
    tables = table_pages()
    names = [page.name for page in tables]
    assert len(set(names)) == len(names)
    assert [page.name for page in tables if len(page.description) < 10] == []
    assert [(page.name, name) for page in tables for name, _, said in page.columns if len(said) < 5] == []
    assert [page.name for page in tables if page.is_published and not page.columns] == []
    assert [view.name for view in VIEWS.values() if not view.description] == []
    assert [field.name for field in model_fields(VIEWS) if len(field.meaning) < 5] == []


def test_every_variable_of_ours_is_listed() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    ours = [name for name in listed if name.split("/")[0] in ("waymark", "dagster_project", "ml", "expectations")]
    if not ours:
        pytest.skip("not a checkout of git")
    read = {variable for name in ours for variable in re.findall(r"\"(WAYMARK_[A-Z_]+)\"", (REPOSITORY / name).read_text(encoding="utf-8"))}
    assert read == set(VARIABLES)


SINGLE = [field for group in setting_groups() for field in group.fields if "[]" not in field.path and "<name>" not in field.path]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("field", SINGLE, ids=lambda field: field.path)
def test_what_is_said_of_a_full_refresh_is_what_a_change_does(field: SettingField) -> None:
    settings = Settings.model_validate(LEAST)
    section, _, name = field.path.rpartition(".")
    old = getattr(getattr(settings, section), name) if section else getattr(settings, name)
    changed = _with(settings, section, name, _other(old))
    before, after = settings.refresh_digest(), changed.refresh_digest()
    assert (before != after) == field.needs_full_refresh


def _with(settings: Settings, section: str, name: str, value: Any) -> Settings:
    """A copy that no check has looked at: which values are good is not the point."""
    if section:
        return settings.model_copy(update={section: getattr(settings, section).model_copy(update={name: value})})
    return settings.model_copy(update={name: value})


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {} if value else {"other": ["other"]}
    return [] if isinstance(value, list) and value else ["other"] if isinstance(value, list) else "other"


def test_entries_of_a_list_are_bound_as_the_list_is() -> None:
    assert needs_full_refresh("goals[].name") and needs_full_refresh("counting.bot_user_agents")
    assert not needs_full_refresh("sources.<name>.files") and not needs_full_refresh("time.max_future_skew_days")


def test_what_init_shows_commented_are_the_defaults() -> None:
    text = defaults_as_comments()
    lines = [line.removeprefix("# ") for line in text.splitlines()[1:]]
    document = yaml.safe_load("\n".join(lines))
    assert Settings.model_validate(LEAST | document) == Settings.model_validate(LEAST)
    assert _paths(document) == OPTIONAL


def test_the_demo_shows_every_setting() -> None:
    """At work or commented, each on a line of its own."""
    text = (REPOSITORY / "examples" / "demo" / "waymark.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(re.sub(r"^( *)# (\w+: .*)$", r"\1\2", text, flags=re.M))
    assert _paths(document) >= OPTIONAL


OPTIONAL = {field.path for group in setting_groups() for field in group.fields if not field.is_required}


def _paths(document: dict[str, Any]) -> set[str]:
    groups = {group.name for group in setting_groups()}
    inside = {f"{name}.{key}" for name, value in document.items() if name in groups and isinstance(value, dict) for key in value}
    return inside | {name for name, value in document.items() if name not in groups or not isinstance(value, dict)}
