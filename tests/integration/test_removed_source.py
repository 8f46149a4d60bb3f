"""A source that waymark.yml no longer names: what it leaves behind, and that it can be added again."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stepwise import Row, Stepwise, assert_equal
from waymark.core.clock import wall_now
from waymark.core.warehouse import connect, rows
from waymark.pipeline import steps
from waymark.pipeline.freshness import nothing_new
from waymark.pipeline.verify import verify_project

COLUMNS = {"event_id": "id", "event_type": "type", "occurred_at": "at", "anonymous_id": "visitor", "user_id": {"column": "user", "optional": True}}
MAPPING: dict[str, Any] = {"format": "ndjson", "columns": COLUMNS, "namespaces": {"user_id": "people"}}
WEB: list[Row] = [
    {"id": "w1", "type": "page_viewed", "at": "2026-03-01T10:00:00Z", "visitor": "v1", "user": "ann"},
    {"id": "w2", "type": "page_viewed", "at": "2026-03-02T10:00:00Z", "visitor": "v2"},
]
# It joins two of the web's visitors, it ends its journeys by being half a year later, and it holds a row that is refused.
DESK: list[Row] = [
    {"id": "d1", "type": "order_completed", "at": "2026-09-01T10:00:00Z", "visitor": "k1", "user": "ann"},
    {"id": "d2", "type": "page_viewed", "at": "2026-09-01T11:00:00Z", "visitor": "k1", "user": "bob"},
    {"id": "d3", "type": "page_viewed", "at": "never", "visitor": "k1"},
]
LATER: list[Row] = [{"id": "w3", "type": "page_viewed", "at": "2026-03-03T10:00:00Z", "visitor": "v2", "user": "bob"}]


def project(directory: Path, *sources: str) -> Stepwise:
    return Stepwise(directory, dict.fromkeys(sources, MAPPING))


def given(directory: Path, *sources: str) -> Stepwise:
    made = project(directory, *sources)
    for source, records in (("web", WEB), ("desk", DESK)):
        if source in sources:
            made.add(source, "first", records)
    made.run(checks=False)
    return made


@pytest.mark.prove
def test_tables_are_those_of_a_project_that_never_or_always_had_the_source(tmp_path: Path) -> None:
    both = given(tmp_path / "changing", "desk", "web")
    always, never = given(tmp_path / "always", "desk", "web"), given(tmp_path / "never", "web")
    lapsed = "select 1 from marts.fct_journeys where status = 'lapsed'"
    assert both.rows(lapsed) and not never.rows(lapsed)
    alone = project(both.directory, "web")
    alone.run(stop_before="transform_marts", checks=False)  # killed on the way: the next run takes up the change
    alone.run(checks=False)
    assert_equal(alone, never)
    assert [table.name for table in verify_project(alone.project) if not table.equal] == []
    assert nothing_new(alone.project)
    for each in (alone, never, always):
        each.add("web", "later", LATER)
        each.run(checks=False)
    assert_equal(alone, never)
    again = project(both.directory, "desk", "web")
    again.run()
    assert_equal(again, always)
    assert again.rows("select source, rows_read, rows_accepted, rows_quarantined from raw.ingestion_log order by all") == [
        ("desk", 3, 2, 1), ("web", 1, 1, 0), ("web", 2, 2, 0),
    ]  # fmt: skip


@pytest.mark.prove
def test_the_published_log_tells_of_the_sources_that_are_published_and_the_warehouses_of_all(tmp_path: Path) -> None:
    given(tmp_path, "desk", "web")
    alone = project(tmp_path, "web")
    alone.run(checks=False)
    assert alone.rows("select distinct source from raw.ingestion_log order by 1") == [("desk",), ("web",)]
    with connect(alone.home.published, read_only=True) as connection:
        assert rows(connection, "select source, rows_accepted from raw.ingestion_log") == [("web", 2)]
        assert rows(connection, "select (select count(*) from marts.fct_events) = (select sum(rows_accepted) from raw.ingestion_log)") == [(True,)]


@pytest.mark.prove
def test_refused_rows_of_a_removed_source_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = given(tmp_path, "desk", "web")
    [refused] = both.home.quarantine.rglob("*.parquet")
    alone = project(tmp_path, "web")
    alone.run(checks=False)
    assert refused.exists() and nothing_new(alone.project)
    os.utime(refused, (0, 0))
    monkeypatch.setattr("waymark.ingestion.quarantine.wall_now", lambda: wall_now() + timedelta(days=91))
    assert not nothing_new(alone.project)
    steps.prepare(alone.started())
    assert not refused.exists() and alone.rows("select path from raw.quarantine_files") == []
    assert alone.rows("select rows_quarantined from raw.ingestion_log where source = 'desk'") == [(1,)]
