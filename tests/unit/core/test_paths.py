"""Folders may be named as people name them: a path is never taken for a pattern or an address; where a library would, the home is refused at the start."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from waymark.core.errors import StorageError
from waymark.core.quoting import file_list, literal, read_only_address
from waymark.core.settings import load_project
from waymark.core.warehouse import connect, rows

ODD = "it's a shop] 100% {a} ü ~;&=+ (1)"


@pytest.mark.parametrize("folder", [ODD, "[2024]", "a#b", "a?b", "50%41"])
def test_sqlite_opens_the_file_of_that_name_to_read_it_and_makes_none(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "kept.db"
    path.parent.mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"), closing(sqlite3.connect(read_only_address(path), uri=True)) as missing:
        missing.execute("select 1 from sqlite_master")
    assert [found.name for found in tmp_path.iterdir()] == [folder] and not path.exists()
    with closing(sqlite3.connect(path)) as made:
        made.execute("create table told (word text)")
    with closing(sqlite3.connect(read_only_address(path), uri=True)) as opened:
        assert opened.execute("select name from sqlite_master").fetchall() == [("told",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            opened.execute("drop table told")


def test_duckdb_reads_the_file_of_that_name_and_not_what_it_is_a_pattern_of(tmp_path: Path) -> None:
    with connect() as connection:
        for number, folder in enumerate((ODD, "a*b", "acb", "a?b", "a[c]b", "a#b")):
            (tmp_path / folder).mkdir()
            connection.execute(f"copy (select {number} as number) to {literal(tmp_path / folder / 'x.parquet')} (format parquet)")
            files = file_list([tmp_path / folder / "x.parquet"])
            found = rows(connection, f"select number, filename from read_parquet({files}, filename = true)")
            assert found == [(number, str(tmp_path / folder / "x.parquet"))]


@pytest.mark.parametrize("folder", ["a#b", "a?b", "a*b", "[2024]", "50%41", "back\\slash", "{{a}}", "{% a"])
def test_a_home_that_a_library_would_look_for_elsewhere_is_refused_and_may_be_elsewhere(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = _project(tmp_path / folder)
    with pytest.raises(StorageError, match="in the path of the home") as caught:
        load_project(project)
    assert caught.value.where == str(project / ".waymark") and "WAYMARK_HOME" in str(caught.value.remedy)
    monkeypatch.setenv("WAYMARK_HOME", str(tmp_path / "elsewhere"))
    assert load_project(project).home.root == tmp_path / "elsewhere"


def test_any_other_name_will_do(tmp_path: Path) -> None:
    assert load_project(_project(tmp_path / ODD)).home.root == tmp_path / ODD / ".waymark"


def _project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "waymark.yml").write_text("name: shop\nsources:\n  shop: {mapping: shop.yml, files: ['data/*.csv']}\n")
    return folder
