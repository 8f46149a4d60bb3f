"""A project in a folder whose name holds what is a pattern or an address elsewhere: its files are found, its refused rows are listed and taken up again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, Source
from waymark.core.clock import wall_now
from waymark.ingestion import source_files
from waymark.ingestion.ingest import restate_clock
from waymark.ingestion.quarantine import purge_quarantine, quarantine_list, quarantine_replay

ROWS = "id,at,what,visitor,amount\ne1,2026-03-01T10:00:00Z,x,v1,1\ne2,2026-03-01T10:00:01Z,x,v1,EUR 5\ne3,01.03.2026,x,v1,\n"
ODD = "it's a shop [2024] * #1 %41?"


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("WAYMARK_HOME", str(tmp_path / "it's a home"))
    return Source(tmp_path / ODD, CSV_MAPPING, "data/*", "")


def test_files_go_in_and_refused_rows_are_listed_replayed_and_deleted(odd: Source) -> None:
    odd.put("a [1].csv", ROWS)
    odd.ingest()
    odd.assert_conserved()
    assert [group.rows for group in quarantine_list(odd.home)] == [1, 1]
    odd.remap(CSV_MAPPING.replace("value: {column: amount, optional: true}", "value: {expr: \"replace(amount, 'EUR ', '')\"}"))
    assert quarantine_replay(odd.project, "shop", odd.connection, SECRET).rows_accepted == 1
    odd.prepare()
    assert odd.value("select count(*) from raw.shop_events") == 2
    odd.connection.execute("update raw.run_clock set data_now = NULL")
    restate_clock(odd.connection, ["shop"])
    assert str(odd.value("select data_now from raw.run_clock")) == "2026-03-01 10:00:01"
    assert purge_quarantine(odd.connection, odd.home, "shop", 1, wall_now() + timedelta(days=2)) == 1
    odd.connection.close()


def test_a_file_that_is_named_and_is_not_there_is_told_of(odd: Source) -> None:
    odd.connection.close()
    named = {"here": "data/x.csv", "outside": "../exports [1]/y.csv", "escaped": "data/[[]z].csv", "landing": "{landing}/w.csv"}
    odd.project.settings.sources["shop"].files[:] = named.values()
    found = {str(path.relative_to(odd.folder.parent)) for path in source_files(odd.project, "shop")}
    assert found == {f"{ODD}/data/x.csv", f"{ODD}/data/[z].csv", "it's a home/landing/shop/w.csv"}
    for path in (odd.folder / "data" / "[z].csv", odd.folder.parent / "exports 1" / "y.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(ROWS)
    assert {path for path in source_files(odd.project, "shop") if path.exists()} == {odd.folder / "data" / "[z].csv", odd.folder.parent / "exports 1" / "y.csv"}
