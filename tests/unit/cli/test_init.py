"""`waymark init`: a folder for one's own files by a mapping or by a shipped one's name, or the demo, wherever the code is installed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import REPOSITORY
from waymark.cli.main import app
from waymark.core import shipped as where
from waymark.core.errors import SettingsError, StorageError
from waymark.core.settings import load_project
from waymark.ingestion import load_mapping, source_files

SOURCES = REPOSITORY / "examples" / "sources"


def init(directory: Path, *options: object) -> Result:
    return CliRunner().invoke(app, ["init", str(directory), *map(str, options)])


@pytest.mark.parametrize("source", [path.stem for path in sorted(SOURCES.glob("*.yml"))])
def test_a_shipped_mapping_goes_by_its_name(source: str, tmp_path: Path) -> None:
    made = init(tmp_path / "shop", "--source", source, "--files", tmp_path)
    assert made.exit_code == 0, made.output
    project = load_project(tmp_path / "shop")
    assert load_mapping(project.mapping_path(source)).source == source
    assert project.mapping_path(source).read_bytes() == (SOURCES / f"{source}.yml").read_bytes()


def test_a_file_goes_before_a_shipped_mapping_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "segment").write_text((SOURCES / "rees46.yml").read_text())
    assert init(tmp_path / "shop", "--source", "segment", "--files", tmp_path).exit_code == 0
    assert list(load_project(tmp_path / "shop").settings.sources) == ["rees46"]


@pytest.mark.parametrize("files", ["exports", "exports/a [1].csv", "exports/*.csv"])
def test_files_are_found_from_a_folder_whose_name_looks_like_a_pattern(files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "shop [2024]"
    (here / "exports").mkdir(parents=True)
    (here / "exports" / "a [1].csv").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("WAYMARK_HOME", str(tmp_path / "home"))
    assert init(here / "project", "--source", "shop_events", "--files", files).exit_code == 0
    assert source_files(load_project(here / "project"), "shop_events") == [here / "exports" / "a [1].csv"]


def test_what_to_type_next_is_told_for_any_folder(tmp_path: Path) -> None:
    told = init(tmp_path / "it's a shop", "--demo").output.replace("\n", " ").split("then: ")[1]
    assert [shlex.split(command) for command in told.split(", and ")] == [
        ["waymark", command, "--project", str(tmp_path / "it's a shop")] for command in ("world", "run")
    ]


def test_no_project_is_made_where_no_home_can_be(tmp_path: Path) -> None:
    made = init(tmp_path / "shop #1", "--demo")
    assert isinstance(made.exception, StorageError) and not (tmp_path / "shop #1").exists()


def test_the_demo_is_the_shipped_one_and_needs_nothing_outside_its_folder(tmp_path: Path) -> None:
    made = init(tmp_path / "demo", "--demo")
    assert made.exit_code == 0 and "waymark world" in made.output
    project, shipped = load_project(tmp_path / "demo"), load_project(REPOSITORY / "examples" / "demo")
    sources = {name: entry.model_copy(update={"mapping": Path("sources") / entry.mapping.name}) for name, entry in shipped.settings.sources.items()}
    assert project.settings == shipped.settings.model_copy(update={"sources": sources})
    assert project.rates_text == shipped.rates_text != ""
    for source in project.settings.sources:
        path = project.mapping_path(source)
        assert path.is_relative_to(tmp_path / "demo") and path.read_bytes() == shipped.mapping_path(source).read_bytes()
    assert sorted(str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*") if path.is_file()) == [
        "rates.csv", "sources/waymark_world.yml", "waymark.yml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no --source"),
        (["--source", "nix", "--files", "f"], "no such mapping"),
        (["--source", "segment"], "1 --source and 0 --files"),
        (["--demo", "--source", "segment", "--files", "f"], "--demo has its own source"),
        (["--source", "segment", "--files", "f", "--source", "segment", "--files", "g"], "two mappings are for"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(options: list[str], said: str, tmp_path: Path) -> None:
    made = init(tmp_path / "shop", *options)
    assert isinstance(made.exception, SettingsError) and said in str(made.exception)
    assert not (tmp_path / "shop").exists()


def test_a_project_is_never_overwritten(tmp_path: Path) -> None:
    assert init(tmp_path, "--demo").exit_code == 0
    before = (tmp_path / "waymark.yml").read_bytes()
    assert isinstance(init(tmp_path, "--source", "segment", "--files", "f").exception, SettingsError)
    assert (tmp_path / "waymark.yml").read_bytes() == before


def test_an_installation_without_its_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert where.shipped("dbt") == REPOSITORY / "dbt"
    monkeypatch.setattr(where, "PACKAGED", tmp_path)
    with pytest.raises(StorageError, match="lacks its folder dbt"):
        where.shipped("dbt")
    (tmp_path / "dbt").mkdir()
    assert where.shipped("dbt") == tmp_path / "dbt"
