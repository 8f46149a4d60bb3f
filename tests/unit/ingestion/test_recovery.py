"""A crash at any moment, a full disk, a lost file: nothing is half registered, and the next run puts it right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, Source
from waymark.core.errors import StorageError
from waymark.core.warehouse import connect
from waymark.ingestion import batch, lake, load_mapping, prepare_raw

FILE = "id,at,what,visitor\ne1,2026-03-01T10:00:00Z,x,v1\ne2,2026-03-02T10:00:00Z,x,v1\nbad\n"


class Crash(BaseException):
    """Stands for a kill: no handler for ordinary errors sees it."""


def lake_files(source: Source) -> list[str]:
    return sorted(str(path.relative_to(source.home.lake)) for path in source.home.lake.rglob("*") if path.is_file())


@pytest.mark.parametrize("step", ["write_partitions", "write_quarantine", "build_views", "build_quarantine_view"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_between_rename_and_commit_leaves_nothing_registered(source: Source, monkeypatch: pytest.MonkeyPatch, step: str, moment: str) -> None:
    source.put("a.csv", FILE)
    real = getattr(batch, step)

    def crash(*arguments: Any, **named: Any) -> object:
        if moment == "after":
            real(*arguments, **named)
        raise Crash

    monkeypatch.setattr(batch, step, crash)
    with pytest.raises(Crash):
        source.ingest()
    monkeypatch.undo()
    assert source.rows("select * from raw.ingestion_log") == source.rows("select * from raw.lake_files") == source.rows("select * from raw.event_index") == []
    source.prepare()
    assert lake_files(source) == []
    assert source.ingest().rows_accepted == 2
    assert source.prepare() == []
    assert len(lake_files(source)) == 3
    source.assert_conserved()


@pytest.mark.parametrize("count", [1, 4, 7, 10, *(pytest.param(count, marks=pytest.mark.prove) for count in (2, 3, 5, 6, 8, 9, 11))])
def test_a_crash_at_any_rename_or_sync_is_taken_up(source: Source, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    source.put("a.csv", FILE)
    calls = {"n": 0}

    def counted(real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls["n"] += 1
            if calls["n"] == count:
                raise Crash
            return real(*arguments)

        return call

    for name in ("sync_file", "sync_folder"):
        monkeypatch.setattr(lake, name, counted(getattr(lake, name)))
    monkeypatch.setattr(lake.os, "replace", counted(os.replace))
    crashed = False
    try:
        source.ingest()
    except Crash:
        crashed = True
    monkeypatch.undo()
    source.prepare()
    assert source.ingest().rows_accepted == (2 if crashed else 0)
    assert source.rows("select count(*), count(distinct event_id) from raw.shop_events") == [(2, 2)]
    assert len(lake_files(source)) == 3 and source.prepare() == []
    source.assert_conserved()


def test_a_full_disk_is_said_and_registers_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.put("a.csv", FILE)

    def full(*_: Any, **__: Any) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lake, "sync_file", full)
    with pytest.raises(StorageError, match="disk is full"):
        source.ingest()
    monkeypatch.undo()
    assert lake_files(source) == [] and source.log("file") == []
    assert source.ingest().rows_accepted == 2


def test_a_registered_file_that_is_gone_or_altered_is_named(source: Source) -> None:
    source.put("a.csv", FILE)
    source.ingest()
    path = next(source.home.raw_lake.rglob("*.parquet"))
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(StorageError, match="bytes, not"):
        source.prepare()
    path.unlink()
    with pytest.raises(StorageError, match="is gone"):
        source.prepare()
    path.write_bytes(content)
    assert source.prepare() == []


def test_what_a_killed_run_left_in_scratch_is_removed(source: Source) -> None:
    left = lake.scratch_folder(source.home) / "plain"
    left.write_text("jane@mail.example")
    source.prepare()
    assert not left.exists()


def test_the_home_may_be_moved(source: Source, tmp_path: Path) -> None:
    source.put("a.csv", FILE)
    source.ingest()
    moved = tmp_path / "moved"
    source.home.root.rename(moved)
    source.home.__init__(moved)  # type: ignore[misc]
    source.prepare()
    assert source.value("select count(*) from raw.shop_events") == 2


def test_a_flush_between_files_of_two_shapes_keeps_every_row(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waymark.ingestion.ingest.GROUP_ROWS", 4)
    monkeypatch.setattr("waymark.ingestion.ingest.FLUSH_ROWS", 5)
    for number, header in enumerate(["id,at,what,visitor", "id,at,what,visitor", "id,at,what,visitor,url", "id,at,what,visitor"]):
        rows = [f"f{number}r{i},2026-03-01T10:00:0{i}Z,page_viewed,v{',' if 'url' in header else ''}" for i in range(3)]
        source.put(f"{number}.csv", "\n".join([header, *rows]) + "\n")
    source.ingest()
    log = source.rows("select rows_read, rows_accepted + rows_duplicate + rows_quarantined from raw.ingestion_log order by file")
    assert log == [(3, 3)] * 4
    assert source.value("select count(*) from raw.shop_events") == 12


def test_a_lake_that_knows_more_than_its_warehouse_is_left_alone(source: Source) -> None:
    source.put("a.csv", "id,at,what,visitor\n1,2026-03-01T10:00:00Z,page_viewed,v\n")
    source.ingest()
    kept = sorted(source.home.raw_lake.rglob("*.parquet"))
    with connect() as other, pytest.raises(StorageError, match="was removed, or restored from an older copy"):
        prepare_raw(other, {"shop": load_mapping(source.folder / "shop.yml")}, source.home)
    assert kept and sorted(source.home.raw_lake.rglob("*.parquet")) == kept


def test_a_file_without_ids_that_grew_under_another_mapping_is_refused(source: Source) -> None:
    without_ids = CSV_MAPPING.replace("  event_id: {column: id, optional: true}\n", "")
    source.remap(without_ids)
    source.put("a.csv", "at,what,visitor\n2026-03-01T10:00:00Z,page_viewed,v\n")
    source.ingest()
    source.remap(without_ids.replace("  text: {column: note, optional: true}\n", "  screen: {column: note, optional: true}\n"))
    source.put("a.csv", "at,what,visitor,note\n2026-03-01T10:00:00Z,page_viewed,v,x\n2026-03-02T10:00:00Z,page_viewed,v,y\n")
    report = source.ingest()
    assert ["without event ids" in str(refusal) for refusal in report.refused] == [True]
    assert source.value("select count(*) from raw.shop_events") == 1


def test_a_file_that_grew_when_its_mapping_began_to_name_ids_is_refused(source: Source) -> None:
    source.remap(CSV_MAPPING.replace("  event_id: {column: id, optional: true}\n", ""))
    source.put("a.csv", "id,at,what,visitor\n1,2026-03-01T10:00:00Z,page_viewed,v\n")
    source.ingest()
    source.remap(CSV_MAPPING)
    source.put("a.csv", "id,at,what,visitor\n1,2026-03-01T10:00:00Z,page_viewed,v\n2,2026-03-02T10:00:00Z,page_viewed,v\n")
    assert len(source.ingest().refused) == 1
    assert source.value("select count(*) from raw.shop_events") == 1


def test_events_stay_as_the_mapping_read_them_that_first_accepted_them(source: Source) -> None:
    header, first, second = "id,at,what,visitor,note\n", "1,2026-03-01T10:00:00Z,page_viewed,v,x\n", "2,2026-03-01T11:00:00Z,page_viewed,v,y\n"
    source.remap(CSV_MAPPING.replace("  text: {column: note, optional: true}\n", ""))
    source.put("a.csv", header + first + second)
    assert source.ingest().notes == []
    source.remap(CSV_MAPPING)
    assert source.ingest().notes == ["shop.yml changed since 1 files were taken in: they stay as they were read (a fresh home, WAYMARK_HOME, reads them anew)."]
    source.put("a.csv", header + first + second + "3,2026-03-01T12:00:00Z,page_viewed,v,z\n")
    report = source.ingest()
    assert (report.rows_accepted, report.rows_duplicate, report.rows_conflict) == (1, 2, 0)
    assert "2 rows are of events that stay as an earlier mapping read them" in str(report.files[0].note)
    assert source.events("source_event_id, text") == [("1", None), ("2", None), ("3", "z")]
    assert source.value("select count(*) from raw.event_conflicts") == 0
    source.put("b.csv", header + "3,2026-03-01T12:00:00Z,page_viewed,v,other\n")
    assert source.ingest().rows_conflict == 1  # the same mapping read both: the source says two things
    source.assert_conserved()


def test_a_comment_in_a_mapping_changes_nothing(source: Source) -> None:
    source.put("a.csv", "id,at,what,visitor\n1,2026-03-01T10:00:00Z,page_viewed,v\n")
    source.ingest()
    source.remap("# the web shop\n" + CSV_MAPPING)
    assert source.ingest().notes == []
