"""Retention through every layer: an incremental project equals one that took everything in at once, and what left is nowhere in what is published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stepwise import Row, Stepwise, assert_equal
from waymark.core.digest import table_digest
from waymark.core.home import Home
from waymark.core.warehouse import connect, rows
from waymark.pipeline.anchors import anchored, known_anchors
from waymark.pipeline.freshness import nothing_new, what_is_new
from waymark.pipeline.kept_digests import STORED_AS
from waymark.pipeline.verify import verify_project
from waymark.privacy.audit import AuditLog

COLUMNS = {"event_id": "id", "event_type": "type", "occurred_at": "at", "anonymous_id": "visitor", "user_id": {"column": "user", "optional": True}}
MAPPING: dict[str, Any] = {"format": "ndjson", "columns": COLUMNS, "namespaces": {"user_id": "people"}}
SETTINGS: dict[str, Any] = {
    "retention": {"page_viewed": "30 days"}, "access": {"roles": ["analyst"], "file_mode": "0400"}, "learning": {"min_positives": 20},
}  # fmt: skip


def event(number: int, kind: str, day: str, visitor: str, user: str | None = None) -> Row:
    return {"id": f"telling-id-{number}", "type": kind, "at": f"{day}T10:00:00Z", "visitor": visitor, **({"user": user} if user else {})}


# The first visits leave; the link of b to ann goes with one of them, so b is nobody's afterwards. The order stays.
BATCHES: list[list[Row]] = [
    [event(1, "page_viewed", "2026-03-01", "a"), event(2, "page_viewed", "2026-03-02", "b", "ann"), event(3, "order_completed", "2026-03-03", "a", "ann")],
    [event(4, "page_viewed", "2026-03-30", "a"), event(5, "page_viewed", "2026-04-20", "b"), event(2, "page_viewed", "2026-03-02", "b", "ann")],
]


@pytest.fixture
def kept_mask() -> Iterator[None]:
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.mark.prove
def test_nothing_of_what_left_is_published_and_the_log_adds_up(tmp_path: Path, kept_mask: None) -> None:
    stepwise = increments(tmp_path)
    _check_what_is_published(stepwise.home)
    assert nothing_new(stepwise.project)
    settings = stepwise.directory / "waymark.yml"
    settings.write_text(settings.read_text().replace("30 days", "40 days"))
    assert list(what_is_new(stepwise.project, json.loads(stepwise.home.manifest.read_text()))) == ["the retention of events changed"]


@pytest.mark.prove
def test_an_increment_equals_everything_at_once(tmp_path: Path, kept_mask: None) -> None:
    stepwise, at_once = increments(tmp_path), Stepwise(tmp_path / "at_once", {"web": MAPPING}, SETTINGS)
    for number, batch in enumerate(BATCHES):
        at_once.add("web", str(number), batch)
    at_once.run(checks=False)
    assert_equal(stepwise, at_once)
    assert [table.name for table in verify_project(stepwise.project) if not table.equal] == []


def increments(folder: Path) -> Stepwise:
    """The project after a run for each batch; the second finds what is too old."""
    project = Stepwise(folder / "stepwise", {"web": MAPPING}, SETTINGS)
    for number, batch in enumerate(BATCHES):
        project.add("web", str(number), batch)
        project.run(checks=False)
        with connect(project.home.published, read_only=True) as connection:
            there = [str(found) for (found,) in rows(connection, "select source_event_id from marts.fct_events order by 1")]
        assert there == [f"telling-id-{n}" for n in ((1, 2, 3), (3, 4, 5))[number]]
    return project


def _check_what_is_published(home: Home) -> None:
    """The log adds up, no byte of what left stands in a published file or in the lake, roles and the audit log are as the settings say."""
    with connect(home.published, read_only=True) as connection:
        assert rows(connection, "select sum(rows_accepted), (select sum(rows_removed) from raw.removals) from raw.ingestion_log") == [(5, 2)]
        assert rows(connection, "select distinct event_type, older_than::varchar from raw.removals") == [("page_viewed", "2026-03-21")]
        # The rebuild forgot the digests that were kept of what stood before.
        digests = json.loads(home.manifest.read_text())["digests"]
        assert {name: table_digest(connection, STORED_AS.get(name, name))[1] for name in digests} == digests and len(digests) == 10
    for path in (home.published, home.role_file("analyst"), home.warehouse.with_name("outputs.duckdb")):
        assert b"telling-id-1" not in path.read_bytes(), path
    assert b"telling-id-3" in home.published.read_bytes()
    with connect() as connection:
        assert rows(connection, f"select count(*) from read_parquet('{home.raw_lake}/*/*/*.parquet') where event_date < date '2026-03-03'") == [(0,)]
    role_file = home.role_file("analyst")
    modes = [path.stat().st_mode & 0o777 for path in (home.published, home.manifest, role_file, role_file.parent, home.warehouse, home.lake)]
    assert modes == [0o400, 0o600, 0o400, 0o700, 0o600, 0o700]
    with connect(home.role_file("analyst"), read_only=True) as connection:
        columns = {column for (column,) in rows(connection, "select column_name from duckdb_columns() where table_name = 'fct_events'")}
        assert "customer_id" in columns and not {"anonymous_id", "properties"} & columns
    log = AuditLog(home)
    assert [entry.action for _, entry in log.lines() if entry] == ["publish", "retention", "publish"]
    assert log.verify(known_anchors(home)).problems == () and len(known_anchors(home)) == 1
    # A tail cut by hand is found by the manifest, and the next run's manifest hands the knowledge on.
    manifest, content = home.manifest.read_bytes(), log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(content[:-1]))
    assert "its end was cut" in log.verify(known_anchors(home)).problems[0]
    home.manifest.write_text(json.dumps(json.loads(manifest) | anchored(home, {})))
    assert "written anew" in log.verify(known_anchors(home)).problems[0] and len(known_anchors(home)) == 2
    home.manifest.write_bytes(manifest)
    log.path.write_bytes(b"".join(content))
