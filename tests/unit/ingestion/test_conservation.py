"""Every row is accepted, a duplicate, or in quarantine, and each file is taken in exactly once."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.core.errors import WaymarkError
from waymark.ingestion import batch, known_files, mark_transformed, new_files, owed_checks, settle_checks
from waymark.ingestion.event import CANONICAL_COLUMNS

HEADER = "id,at,what,visitor,amount"
# Of ten events, every other one twice in its file and once in the next; two come with another content.
TWICE = [f"e{number},2026-03-01T10:00:{number:02d}Z,x,v{number % 3}," for number in range(10)]
AGAIN = [*TWICE[::2], "e1,2026-03-01T10:00:01Z,x,v1,7.00", "e3,2026-03-01T09:00:00Z,x,v0,"]


def test_rows_are_accepted_found_again_or_refused(source: Source) -> None:
    source.put(
        "a.csv",
        f"{HEADER}\ne1,2026-03-01T10:00:00Z,page_viewed,v1,\ne2,2026-03-01T10:00:01Z,bought,v1,9.90\ne1,2026-03-01T10:00:00Z,page_viewed,v1,\ne3,nonsense,x,v1,\n",
    )
    report = source.ingest()
    assert (report.rows_read, report.rows_accepted, report.rows_duplicate, report.rows_quarantined) == (4, 2, 1, 1)
    assert source.log("status, rows_read, rows_accepted, rows_duplicate, rows_conflict, rows_quarantined") == [("ingested", 4, 2, 1, 0, 1)]
    assert source.rows("select rule, field, row_number from raw.quarantine") == [("bad_occurred_at", "occurred_at", 4)]
    source.assert_conserved()


def test_rows_that_are_accepted_owe_their_checks(source: Source) -> None:
    source.put("a.csv", f"{HEADER}\ne1,nonsense,x,v1,\n")
    assert source.ingest().rows_quarantined == 1 and owed_checks(source.connection) == set()
    source.put("b.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\n")
    assert source.ingest().rows_accepted == 1 and owed_checks(source.connection) == {"raw"}
    settle_checks(source.connection, ["raw"])
    source.put("c.csv", f"{HEADER}\n" + "e1,2026-03-01T10:00:00Z,x,v1,\n" * 2)
    assert source.ingest().rows_duplicate == 2 and owed_checks(source.connection) == set()


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_duplicate_is_told_by_file_and_record_not_by_where_the_engine_keeps_it(source: Source, monkeypatch: pytest.MonkeyPatch, is_moved: bool) -> None:
    """Where rows were deleted the engine may move others, between one statement and the next."""
    judge = batch.Batch._judge

    def judge_and_move(self: batch.Batch) -> None:
        judge(self)
        if is_moved:
            moved = f"select * from {batch.EVENTS} order by row_number desc, ingest_file_id desc"
            self.connection.execute(f"create or replace temp table {batch.EVENTS} as {moved}")

    monkeypatch.setattr(batch.Batch, "_judge", judge_and_move)
    source.put("a.csv", "\n".join([HEADER, *TWICE, *TWICE[::2]]) + "\n")
    source.put("b.csv", "\n".join([HEADER, *AGAIN]) + "\n")
    source.ingest()
    assert source.log("rows_accepted, rows_duplicate, rows_conflict") == [(10, 5, 0), (0, 7, 2)]
    assert source.events("source_event_id", "source_event_id") == [(f"e{number}",) for number in range(10)]
    assert source.value("select count(*) from raw.event_index") == 12
    source.assert_conserved()


def test_files_that_do_not_hold_what_was_to_be_written_are_not_registered(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    write = batch.write_partitions
    monkeypatch.setattr(batch, "write_partitions", lambda connection, query, *more, **named: write(connection, f"{query} limit 9", *more, **named))
    source.put("a.csv", "\n".join([HEADER, *TWICE]) + "\n")
    with pytest.raises(WaymarkError, match="hold 9 events, 9 of them different, and 10 were to be written"):
        source.ingest()
    assert source.rows("from raw.lake_files") == source.rows("from raw.event_index") == [] and list(source.home.raw_lake.rglob("*.parquet")) == []
    monkeypatch.undo()
    assert source.ingest().rows_accepted == 10


def test_a_file_is_taken_in_exactly_once_whatever_its_name_or_time(source: Source) -> None:
    first = source.put("a.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\n")
    source.ingest()
    source.put("b.csv", first.read_bytes())
    first.touch()
    assert source.ingest().rows_read == 0
    assert [(str(file)[-5:], status, read) for file, status, read in source.log("file, status, rows_read")] == [
        ("a.csv", "ingested", 1),
        ("b.csv", "skipped", 0),
    ]
    assert "a.csv" in str(source.log("note")[1][0])
    assert source.ingest().files == []
    source.assert_conserved()


def test_a_changed_file_under_an_old_name_is_a_new_file_and_only_its_new_rows_count(source: Source) -> None:
    source.put("a.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\n")
    source.ingest()
    digest = str(source.log("file_digest")[0][0])
    source.put("a.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\ne2,2026-03-01T11:00:00Z,x,v1,\n")
    source.ingest()
    assert source.log("rows_read, rows_accepted, rows_duplicate, note") == [(1, 1, 0, None), (2, 1, 1, f"changed since {digest[:8]}")]
    source.assert_conserved()


@pytest.mark.parametrize(("setting", "accepted", "duplicate"), [("duplicate", 3, 2), ("keep", 4, 1)])
def test_identical_rows_without_ids_are_what_the_mapping_says(make_source: MakeSource, setting: str, accepted: int, duplicate: int) -> None:
    source = make_source(
        CSV_MAPPING.replace("format: csv", f"format: csv\nidentical_rows: {setting}").replace("  event_id: {column: id, optional: true}\n", "")
    )
    row, other = "2026-03-01T10:00:00Z,x,v1", "2026-03-01T10:00:00Z,x,v2"
    source.put("a.csv", f"at,what,visitor\n{row}\n{other}\n{row}\n")
    source.put("b.csv", f"at,what,visitor\n{row}\n2026-03-01T12:00:00Z,x,v1\n")
    report = source.ingest()
    assert (report.rows_accepted, report.rows_duplicate) == (accepted, duplicate)
    source.assert_conserved()


def test_all_formats_give_the_same_events(make_source: MakeSource) -> None:
    records = [
        {"id": f"e{i}", "at": f"2026-03-01T10:00:0{i}Z", "what": "page_viewed", "visitor": "v1" if i % 2 else None, "details": json.dumps({"n": i})}
        for i in range(5)
    ]
    csv_text = "id,at,what,visitor,details\n" + "".join(
        ",".join(['"' + str(value).replace('"', '""') + '"' if value is not None else "" for value in record.values()]) + "\n" for record in records
    )
    contents: dict[str, bytes] = {
        "csv": csv_text.encode(), "ndjson": "".join(json.dumps(record) + "\n" for record in records).encode(), "json": json.dumps(records).encode(),
    }  # fmt: skip
    found = {}
    for kind, content in contents.items():
        for name, data in ((f"a.{kind}", content), (f"a.{kind}.gz", gzip.compress(content))):
            source = make_source(CSV_MAPPING.replace("format: csv", f"format: {kind}"))
            source.put(name, data)
            assert source.ingest().rows_accepted == 5, name
            found[name] = source.events("event_id, content_digest, row_number")
            source.assert_conserved()
    source = make_source(CSV_MAPPING.replace("format: csv", "format: parquet"))
    path = str(source.data / "a.parquet")
    source.connection.execute(f"copy (select * from read_json('{make_source(CSV_MAPPING).put('x.json', contents['json'])}')) to '{path}' (format parquet)")
    source.ingest()
    found["parquet"] = source.events("event_id, occurred_at, row_number")
    csv_events = found.pop("parquet")
    assert [row[0] for row in csv_events] == [row[0] for row in found["a.csv"]]
    assert all(value == found["a.csv"] for value in found.values())


ORDERS = list(itertools.permutations(range(3)))
THERE_AND_BACK = (ORDERS[0], ORDERS[-1])


@pytest.mark.parametrize("order", [order if order in THERE_AND_BACK else pytest.param(order, marks=pytest.mark.prove) for order in ORDERS])
def test_the_survivor_of_a_conflict_is_the_same_whatever_came_first(make_source: MakeSource, order: tuple[int, ...]) -> None:
    contents = ["2026-03-01T10:00:05Z,late,v1", "2026-03-01T10:00:01Z,early,v1", "2026-03-01T10:00:01Z,early,v2"]
    source = make_source()
    for step, which in enumerate(order):
        source.put(f"{step}.csv", f"id,at,what,visitor\nsame,{contents[which]}\nown{which},2026-03-01T09:00:00Z,x,v1\n")
        source.ingest()
        source.assert_conserved()
    kept = source.rows("select event_type, content_digest from raw.shop_events where source_event_id = 'same'")
    conflicts = source.rows("select is_survivor, content_digest, occurred_at from raw.event_conflicts order by occurred_at, content_digest")
    assert len(kept) == 1 and kept[0][0] == "early"
    assert [survives for survives, *_ in conflicts] == [True, False, False]
    assert conflicts[0][1] == kept[0][1] == min(str(digest) for _, digest, at in conflicts if at == conflicts[0][2])
    assert source.rows("select sum(rows_conflict), sum(rows_duplicate) from raw.ingestion_log") == [(2, 2)]


def test_all_at_once_and_one_by_one_give_the_same_events(make_source: MakeSource) -> None:
    lines = [f"e{i % 7},2026-03-01T10:00:{(i * 7) % 60:02d}Z,x{i % 3},v{i % 2}" for i in range(20)]
    files = ["id,at,what,visitor\n" + "\n".join(lines[start : start + 4]) + "\n" for start in range(0, 20, 4)]
    found = []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        for at_once in (True, False):
            source = make_source()
            for index in order:
                source.put(f"{index}.csv", files[index])
                if not at_once:
                    source.ingest()
            source.ingest()
            source.assert_conserved()
            found.append((source.rows("select event_id, content_digest from raw.shop_events order by 1"), source.rows("from raw.run_clock")))
    assert all(each == found[0] for each in found)


def test_a_lesser_content_that_comes_later_takes_over_and_is_pending(source: Source) -> None:
    source.put("1.csv", "id,at,what,visitor\nsame,2026-03-01T10:00:05Z,late,v1\n")
    source.ingest()
    mark_transformed(source.connection, ["shop"])
    assert source.value("select count(*) from raw.shop_pending") == 0
    source.put("2.csv", "id,at,what,visitor\nsame,2026-03-01T10:00:01Z,early,v1\n")
    source.ingest()
    assert source.rows("select event_type from raw.shop_pending") == source.rows("select event_type from raw.shop_events") == [("early",)]
    mark_transformed(source.connection, ["shop"])
    source.put("3.csv", "id,at,what,visitor\nsame,2026-03-01T10:00:09Z,later,v1\n")
    source.ingest()
    assert source.rows("select event_type from raw.shop_pending") == []


def test_the_clock_is_the_greatest_received_at_and_no_skewed_row_moves_it(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING.replace("  event_type: what", "  received_at: {column: got, optional: true}\n  event_type: what"))
    days = "".join(f"e{i},2026-03-01T10:0{i}:00Z,x,2026-03-02T00:00:0{i}Z\n" for i in range(8))
    source.put("a.csv", f"id,at,what,got\n{days}s1,2027-03-01T10:00:00Z,x,\ns2,2026-03-01T10:00:00Z,x,2031-01-01T00:00:00Z\n")
    source.ingest()
    assert str(source.value("select data_now from raw.run_clock")) == "2026-03-02 00:00:07"
    assert source.rows("select rule, field from raw.quarantine order by row_number") == [
        ("too_far_in_future", "occurred_at"),
        ("too_far_in_future", "received_at"),
    ]


def test_a_file_that_spans_a_year_keeps_its_later_half(source: Source) -> None:
    rows = "".join(f"e{month},2025-{month:02d}-15T10:00:00Z,x,v1,\n" for month in range(1, 13))
    source.put("year.csv", f"{HEADER}\n{rows}")
    assert source.ingest().rows_accepted == 12


def test_what_is_new_is_said_from_sizes_and_times_alone(source: Source) -> None:
    path = source.put("a.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\n")
    assert path in new_files(source.project, "shop")
    source.ingest()
    source.home.warehouse.write_bytes(b"")  # the test's warehouse is in memory
    assert new_files(source.project, "shop", known_files(source.home)) == []
    path.write_text(path.read_text() + "e2,2026-03-01T10:00:01Z,x,v1,\n")
    assert new_files(source.project, "shop") == [path]
    source.home.warehouse.unlink()
    assert known_files(source.home) == {}


def test_views_stand_with_their_columns_before_any_file(source: Source) -> None:
    described = source.rows("select column_name, column_type from (describe raw.shop_events)")
    assert described == source.rows("select column_name, column_type from (describe raw.shop_pending)")
    source.put("a.csv", f"{HEADER}\ne1,2026-03-01T10:00:00Z,x,v1,\n")
    source.ingest()
    assert source.rows("select column_name, column_type from (describe raw.shop_events)") == described
    assert ("identifiers", 'STRUCT("type" VARCHAR, "value" VARCHAR)[]') in described and len(described) == len(CANONICAL_COLUMNS)
