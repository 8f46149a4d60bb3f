from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from waymark.core.errors import SettingsError
from waymark.core.settings import load_project
from waymark.ingestion import Mapping, load_mapping
from waymark.pipeline import steps
from waymark.pipeline.dbt_project import rates
from waymark.pipeline.trace import record_lines


def _with_rates(folder: Path, text: str) -> list[dict[str, str]]:
    (folder / "waymark.yml").write_text("name: t\nsources: {shop: {mapping: m.yml, files: [f]}}\nmoney: {rates: rates.csv}\n")
    (folder / "rates.csv").write_text(text)
    return rates(load_project(folder))


def test_rates_are_read_as_text_so_that_no_digit_is_lost(tmp_path: Path) -> None:
    found = _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01, eur ,1.08340000000000001\n")
    assert found == [{"valid_from": "2026-01-01", "currency": "EUR", "rate": "1.08340000000000001"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("day,currency,rate\n", "lacks a column"),
        ("valid_from,currency,rate\n2026-01-01,EUR,1\n01.02.2026,EUR,1\n", "row 2: valid_from '01.02.2026'"),
        ("valid_from,currency,rate\n2026-01-01,EUR,one\n", "row 1: rate 'one'"),
        ("valid_from,currency,rate\n2026-01-01,EUR,0\n", "not above zero"),
        ("valid_from,currency,rate\n2026-01-01,EUR,NaN\n", "not above zero"),
    ],
)
def test_a_bad_rate_is_named_by_file_row_and_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        _with_rates(tmp_path, text)
    assert "rates.csv" in str(caught.value) and caught.value.remedy


def test_a_rate_that_is_added_needs_a_flag_only_where_something_is_published_by_the_rates_before(tmp_path: Path) -> None:
    _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01,EUR,1.1\n")
    (tmp_path / "m.yml").write_text("source: shop\nformat: csv\ncolumns: {occurred_at: a, event_type: b, anonymous_id: c}\n")

    def prepared() -> bool:
        return steps.prepare(steps.preflight(load_project(tmp_path)))

    assert prepared()  # and the run stops at a value in GBP
    _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01,EUR,1.1\n2026-01-01,GBP,1.3\n")
    assert prepared()
    project = load_project(tmp_path)
    project.home.published.touch()
    project.home.manifest.write_text(json.dumps({"settings_digest": project.refresh_digest}))
    _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01,EUR,1.1\n2026-01-01,GBP,1.4\n")
    with pytest.raises(SettingsError, match="--full-refresh"):
        prepared()
    assert steps.prepare(steps.preflight(load_project(tmp_path)), full_refresh=True)  # and stops, at a value in CHF
    _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01,EUR,1.1\n2026-01-01,GBP,1.4\n2026-01-01,CHF,1.2\n")
    assert prepared()
    with steps.preflight(load_project(tmp_path)).open_warehouse() as connection:
        connection.execute("update raw.build_state set full_refresh_needed = false")
    _with_rates(tmp_path, "valid_from,currency,rate\n2026-01-01,EUR,1.1\n")
    with pytest.raises(SettingsError, match="money with its rates"):  # nothing is rebuilt anyway
        prepared()


def _mapping(folder: Path, more: str = "") -> Mapping:
    (folder / "m.yml").write_text("source: shop\nformat: csv\ncolumns: {occurred_at: a, event_type: b}\n" + more)
    return load_mapping(folder / "m.yml")


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_a_record_is_found_on_its_physical_line(tmp_path: Path, name: str) -> None:
    text = 'a,b\n1,"two\nlines"\n2,x\n\n3,"three\n\nlines"\n4,end\n'
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    lines = text.split("\n")
    found = record_lines(path, [1, 2, 3, 4], _mapping(tmp_path))
    assert lines[found[1] - 1].startswith("1,") and lines[found[2] - 1].startswith("2,")
    assert lines[found[3] - 1].startswith("3,") and lines[found[4] - 1].startswith("4,")


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert record_lines(tmp_path / "gone.csv", [1], _mapping(tmp_path)) == {}


def test_the_mapping_says_how_the_lines_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "semicolons.csv"
    path.write_text('a;b\n1;"x, ""y""\nz"\n2;w\n')
    assert record_lines(path, [2], _mapping(tmp_path, "delimiter: ';'\n")) == {2: 4}
