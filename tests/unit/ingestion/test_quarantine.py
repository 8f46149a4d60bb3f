"""Refused rows: kept privately with their original text, taken up again once the mapping is mended, deleted in time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, MakeSource, Source
from waymark.cli.quarantine import app
from waymark.core.clock import wall_now
from waymark.core.errors import WaymarkError
from waymark.ingestion.quarantine import purge_quarantine, quarantine_list, quarantine_replay, quarantine_show

ROWS = (
    "id,at,what,visitor,amount\ne1,2026-03-01T10:00:00Z,x,v1,1\ne2,2026-03-01T10:00:01Z,x,v1,EUR 5\n"
    "e3,2026-03-01T10:00:02Z,x,v1,EUR 6\ne4,01.03.2026 10:00,x,v1,\n"
)
MENDED = CSV_MAPPING.replace("value: {column: amount, optional: true}", "value: {expr: \"replace(amount, 'EUR ', '')\"}")


def replay(source: Source) -> tuple[int, int, int, int]:
    report = quarantine_replay(source.project, "shop", source.connection, SECRET)
    return report.rows_tried, report.rows_accepted, report.rows_duplicate, report.rows_quarantined


def test_refused_rows_are_listed_and_shown_with_what_the_file_said(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.ingest()
    assert [(group.rule, group.field, group.rows, group.first_row) for group in quarantine_list(source.home)] == [
        ("bad_value", "value", 2, 2),
        ("bad_occurred_at", "occurred_at", 1, 4),
    ]
    shown = quarantine_show(source.home, "shop", rule="bad_value", limit=1)
    assert [row.row_number for row in shown] == [2] and '"amount":"EUR 5"' in shown[0].original
    assert quarantine_list(source.home, "other") == []


def test_the_files_are_for_their_owner_alone(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.ingest()
    files = list((source.home.quarantine / "shop").iterdir())
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600]
    assert (source.home.quarantine / "shop").stat().st_mode & 0o777 == 0o700 == source.home.quarantine.stat().st_mode & 0o777


def test_a_replay_moves_what_now_passes_in_the_files_own_line(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.ingest()
    assert replay(source) == (3, 0, 0, 3)
    source.remap(MENDED)
    assert replay(source) == (3, 2, 0, 1)
    assert source.log("rows_read, rows_accepted, rows_duplicate, rows_quarantined") == [(4, 3, 0, 1)]
    assert source.events("source_event_id, value, row_number") == [("e1", 1, 1), ("e2", 5, 2), ("e3", 6, 3)]
    assert source.rows("select source_event_id from raw.shop_pending order by 1") == [("e1",), ("e2",), ("e3",)]
    assert source.rows("select rule, row_number from raw.quarantine") == [("bad_occurred_at", 4)]
    assert [path.name for path in (source.home.quarantine / "shop").iterdir()] == ["b00000002.parquet"]
    source.assert_conserved()
    assert replay(source) == (1, 0, 0, 1)


def test_a_replayed_row_equals_one_that_was_good_from_the_start(make_source: MakeSource) -> None:
    late, early = make_source(), make_source(MENDED)
    for source in (late, early):
        source.put("a.csv", ROWS)
        source.ingest()
    late.remap(MENDED)
    replay(late)
    columns = "event_id, content_digest, row_number, event_date"
    assert late.events(columns) == early.events(columns)
    assert late.log("rows_accepted, rows_quarantined") == early.log("rows_accepted, rows_quarantined")
    assert late.rows("from raw.run_clock") == early.rows("from raw.run_clock")


def test_a_replayed_row_may_be_a_duplicate_or_a_conflict(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.put("b.csv", "id,at,what,visitor,amount\ne2,2026-03-01T10:00:01Z,x,v1,5\ne3,2026-03-01T09:00:00Z,x,v1,7\n")
    source.ingest()
    source.remap(MENDED)
    assert replay(source) == (3, 0, 2, 1)
    assert source.rows("select rows_accepted, rows_duplicate, rows_conflict, rows_quarantined from raw.ingestion_log order by file_id") == [
        (1, 2, 1, 1),
        (2, 0, 0, 0),
    ]
    assert source.rows("select value from raw.shop_events where source_event_id = 'e3'") == [(7,)]
    source.assert_conserved()


def test_a_wrong_encoding_is_mended_by_mapping_and_replay(source: Source) -> None:
    source.put("a.csv", "id,at,what,visitor\ne1,2026-03-01T10:00:00Z,x,Zürich\ne2,2026-03-01T10:00:00Z,x,Bern\n".encode("latin-1"))
    source.ingest()
    assert source.events("anonymous_id") == [("Bern",)]
    assert "\\xfc" in quarantine_show(source.home, "shop")[0].original
    source.remap(CSV_MAPPING.replace("format: csv", "format: csv\nencoding: latin-1"))
    assert replay(source) == (1, 1, 0, 0)
    assert source.events("anonymous_id") == [("Zürich",), ("Bern",)]
    assert source.rows("from raw.quarantine") == [] and list((source.home.quarantine / "shop").iterdir()) == []
    source.assert_conserved()


def test_json_records_are_replayed_from_their_text(make_source: MakeSource) -> None:
    mapping = CSV_MAPPING.replace("format: csv", "format: ndjson")
    source = make_source(mapping)
    source.put("a.ndjson", '{"id": "e1", "at": "2026-03-01T10:00:00Z", "what": "x"}\n{"id": "e2", "when": "2026-03-01T10:00:00Z", "what": "x"}\n{broken\n')
    source.ingest()
    source.remap(mapping.replace("occurred_at: at", "occurred_at: [at, when]"))
    assert replay(source) == (2, 1, 0, 1)
    assert source.events("source_event_id, row_number") == [("e1", 1), ("e2", 2)]


def test_what_the_mapping_cannot_try_is_said(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.ingest()
    source.remap(CSV_MAPPING.replace("occurred_at: at", "occurred_at: when"))
    report = quarantine_replay(source.project, "shop", source.connection, SECRET)
    assert report.rows_accepted == 0 and "no column for occurred_at" in str(report.skipped)
    with pytest.raises(WaymarkError, match="no source 'other'"):
        quarantine_replay(source.project, "other", source.connection, SECRET)


def test_refused_rows_are_deleted_when_their_days_are_over_and_stay_counted(source: Source) -> None:
    source.put("a.csv", ROWS)
    source.ingest()
    assert purge_quarantine(source.connection, source.home, "shop", 90) == 0
    assert purge_quarantine(source.connection, source.home, "shop", 90, wall_now() + timedelta(days=91)) == 3
    assert source.rows("from raw.quarantine") == [] and list((source.home.quarantine / "shop").iterdir()) == []
    assert source.log("rows_quarantined") == [(3,)]


def test_the_command_line_lists_shows_and_replays(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "shop.yml").write_text(CSV_MAPPING)
    (tmp_path / "waymark.yml").write_text("name: t\nsources:\n  shop: {mapping: shop.yml, files: ['data/*']}\n")
    (tmp_path / "data" / "a.csv").write_text(ROWS)
    run = CliRunner().invoke
    assert "No row is in quarantine" in run(app, ["list", "--project", str(tmp_path)]).output
    from waymark.core.settings import load_project
    from waymark.core.warehouse import connect
    from waymark.ingestion import ingest_source
    from waymark.privacy import load_secret

    project = load_project(tmp_path)
    project.home.ensure()
    with connect(project.home.warehouse) as connection:
        ingest_source(project, "shop", connection, load_secret(project))
    listed = run(app, ["list", "--project", str(tmp_path)], env={"COLUMNS": "200"}).output
    assert "bad_value" in listed and "a.csv" in listed
    assert run(app, ["show", "shop", "--project", str(tmp_path)]).output.count("EUR 5") == 1
    (tmp_path / "shop.yml").write_text(MENDED)
    replayed = run(app, ["replay", "shop", "--project", str(tmp_path)])
    assert replayed.exit_code == 0 and "2 accepted" in replayed.output and project.home.unpublished.exists()
