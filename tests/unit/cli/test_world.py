"""`waymark world` and `make run`: the world that was asked for, or a word about the one that stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import REPOSITORY
from waymark.cli.main import app
from waymark.core.errors import SettingsError, StorageError


def world(project: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["world", "--project", str(project), *options])


@pytest.fixture
def demo_folder(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "examples" / "sources", tmp_path / "sources")
    (tmp_path / "demo").mkdir()
    shutil.copyfile(REPOSITORY / "examples" / "demo" / "waymark.yml", tmp_path / "demo" / "waymark.yml")
    return tmp_path / "demo"


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    (tmp_path / "waymark.yml").write_text("name: own\nsources: {shop: {mapping: shop.yml, files: [f]}}\n")
    return tmp_path


def test_the_same_world_again_is_left_as_it_is_and_another_is_refused_with_a_remedy(demo_folder: Path) -> None:
    assert world(demo_folder, "--customers", "30").exit_code == 0
    files = {path: path.read_bytes() for path in (demo_folder / ".waymark" / "landing" / "waymark_world").iterdir()}
    again = world(demo_folder, "--customers", "30")
    assert again.exit_code == 0 and "there already" in again.output
    for other in (["--customers", "31"], ["--customers", "30", "--seed", "2"]):
        refused = world(demo_folder, *other)
        assert isinstance(refused.exception, StorageError)
        assert "--customers 30 --seed 1" in str(refused.exception) and f"rm -r {demo_folder / '.waymark'}" in str(refused.exception)
    assert files == {path: path.read_bytes() for path in (demo_folder / ".waymark" / "landing" / "waymark_world").iterdir()}


def test_what_is_to_be_removed_can_be_typed_whatever_the_folder_is_called(demo_folder: Path) -> None:
    odd = demo_folder.rename(demo_folder.with_name("it's a shop"))
    (odd / ".waymark" / "landing" / "waymark_world" / "another").mkdir(parents=True)
    remedy = str(world(odd).exception).rsplit(": ", 1)[1]
    assert shlex.split(remedy) == ["rm", "-r", str(odd / ".waymark"), str(odd / "truth")]


def test_a_world_that_was_cut_short_is_not_taken_for_a_whole_one(demo_folder: Path) -> None:
    assert world(demo_folder, "--customers", "30").exit_code == 0
    (demo_folder / ".waymark" / "world.json").unlink()
    refused = world(demo_folder, "--customers", "30")
    assert isinstance(refused.exception, StorageError) and "not those of a whole world" in str(refused.exception)


def test_a_project_without_the_worlds_source_gets_none_and_is_told(own_folder: Path) -> None:
    assert isinstance(world(own_folder).exception, SettingsError)
    told = world(own_folder, "--if-named")
    assert told.exit_code == 0 and "no world is made" in told.output and not (own_folder / ".waymark").exists()


def test_make_run_fits_any_project(own_folder: Path) -> None:
    """The commands that make would give the shell, with a command line that notes its arguments in place of Waymark's."""
    noted = own_folder / "waymark"
    noted.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$(dirname "$0")/said"; echo >> "$(dirname "$0")/said"\n')
    noted.chmod(0o755)
    spaced = own_folder / "a project"
    variables = [f"PROJECT={spaced}", f"BIN={own_folder}", "CUSTOMERS=7"]
    dry = subprocess.run(["make", "-n", "run", *variables], cwd=REPOSITORY, capture_output=True, text=True, check=True, env={**os.environ, "MAKEFLAGS": ""})
    for line in re.findall(r"^.*/waymark .*$", dry.stdout, flags=re.MULTILINE):
        subprocess.run(["bash", "-c", line], check=True)
    assert (own_folder / "said").read_text().splitlines() == [f"world|--project|{spaced}|--customers|7|--if-named|", f"run|--project|{spaced}|"]


def test_what_stands_there_is_written_down_last(demo_folder: Path) -> None:
    assert world(demo_folder, "--customers", "30", "--seed", "5").exit_code == 0
    assert json.loads((demo_folder / ".waymark" / "world.json").read_text()) == {"customers": 30, "seed": 5}


def test_a_world_may_be_given_the_rates_of_mechanisms_and_is_another_then(demo_folder: Path) -> None:
    rates = ["--rate", "names=0.5", "--rate", "late=0", "--rate", "duplicates=0.01"]
    assert world(demo_folder, "--customers", "30", *rates).exit_code == 0
    note = json.loads((demo_folder / ".waymark" / "world.json").read_text())
    assert note == {"customers": 30, "seed": 1, "rates": {"late": 0.0, "names": 0.5}}, "the rate that every world has makes no other world"
    assert "there already" in world(demo_folder, "--customers", "30", "--rate", "late=0", "--rate", "names=0.5").output
    refused = world(demo_folder, "--customers", "30")
    assert isinstance(refused.exception, StorageError) and "--customers 30 --seed 1 --rate late=0 --rate names=0.5" in str(refused.exception)


@pytest.mark.parametrize(("rate", "said"), [("names", "not NAME=RATE"), ("moonlight=0.1", "no mechanism 'moonlight'"), ("names=2", "share from 0 to 1")])
def test_a_rate_that_makes_no_world_leaves_none_behind(demo_folder: Path, rate: str, said: str) -> None:
    refused = world(demo_folder, "--customers", "30", "--rate", rate)
    assert isinstance(refused.exception, SettingsError) and said in str(refused.exception)
    assert not (demo_folder / ".waymark" / "landing").exists() or not any((demo_folder / ".waymark" / "landing").rglob("*.csv*"))
    assert world(demo_folder, "--customers", "30").exit_code == 0
