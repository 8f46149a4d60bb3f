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


SAID: dict[str, Any] = {
    **MAPPING,
    "columns": {**COLUMNS, "country": "country"},
    "consent": {
        "scopes": {"column": "stated", "optional": True}, "separator": ",", "declared": ["profiling", "email"],
        "events": {"types": {"consent_withdrawn": "withdraw"}, "scopes": "withdrawn"},
    },
}  # fmt: skip
CONSENT: dict[str, Any] = {"consent": {"when_absent": {"profiling": {"EU": "denied"}}, "jurisdictions": {"EU": ["FR"]}}, "learning": {"min_positives": 20}}
_KNOWN = "identity.nodes n join identity.membership_history h using (node_id) cross join (select unnest({}) as at) p"
_THEN = "h.valid_from < p.at and (h.valid_to is null or p.at <= h.valid_to)"


def told(number: int, day: str, visitor: str, **said: str) -> Row:
    kind = "consent_withdrawn" if "withdrawn" in said else "page_viewed"
    return {"country": None, "stated": None, "withdrawn": None, "user": None, **event(number, kind, day, visitor), **said}


# Jane (a, b) is granted by the web, withdraws by letter, and her old cookie says granted again; somebody was seen in Lyon once (f); of n nothing is known.
FIRST = [
    told(1, "2026-03-01", "a", user="jane", stated="profiling"), told(2, "2026-03-01", "a"), told(3, "2026-03-02", "b", user="jane"),
    told(4, "2026-03-06", "a", withdrawn="profiling"), told(5, "2026-03-03", "f", country="FR"), told(6, "2026-03-04", "n"),
]  # fmt: skip
LATER = [
    told(7, "2026-04-20", "a", stated="profiling"), told(8, "2026-04-20", "b"), told(9, "2026-04-20", "f"), told(10, "2026-04-18", "n"),
]  # fmt: skip


def answers(project: Stepwise) -> tuple[set[tuple[object, ...]], ...]:
    """By identifier: those known at each of some points; the ledger; denials at the points as known then; whose scope is not valid today; who may be scored."""
    points = "[timestamp '2026-03-09', timestamp '2026-04-06', timestamp '2026-04-20 10:00:00.000001']"
    known, today = _KNOWN.format(points), "identity.nodes n join identity.memberships m using (node_id)"
    return tuple(
        set(project.rows(query))
        for query in (
            f"select n.identifier_value, p.at from {known} where {_THEN}",
            f"""select n.identifier_value, i.scope, i.state, i.valid_from, i.valid_to, i.event_id
                from {today} join marts.fct_consent_intervals i using (customer_id)""",
            f"""select distinct n.identifier_value, p.at, d.scope from {known} join intermediate.int_consent_denials d using (customer_id)
                where {_THEN} and d.valid_from < p.at and (d.valid_to is null or p.at <= d.valid_to)""",
            f"""select distinct n.identifier_value, d.scope from {today} join intermediate.int_consent_denied_today d using (customer_id)
                where d.valid_to is null""",
            f"""select distinct n.identifier_value from {today} join features.score_points s using (customer_id)
                where s.as_of_at = (select data_now from raw.run_clock)""",
        )
    )


@pytest.mark.prove
def test_ledger_and_denials_are_what_they_were_and_who_does_not_grant_a_scope_leaves_sooner(tmp_path: Path) -> None:
    whole = Stepwise(tmp_path / "whole", {"web": SAID}, CONSENT)
    project = Stepwise(tmp_path / "project", {"web": SAID}, CONSENT | {"retention": {"page_viewed": "30 days", "consent_withdrawn": "30 days"}})
    for one in (whole, project):
        for name, batch in (("first", FIRST), ("later", LATER)):
            one.add("web", name, batch)
            one.run(checks=False)
    events = "select cast(right(source_event_id, -11) as integer) from marts.fct_events order by 1"
    assert [number for (number,) in project.rows(events)] == [1, 3, 4, 5, 7, 8, 9, 10], "what says nothing leaves"
    (known, *left), (known_before, *before) = answers(project), answers(whole)
    assert known < known_before
    assert left[0] == {row for row in before[0] if row[0] in {who for who, _ in known}} != set()
    assert left[1] == {row for row in before[1] if row[:2] in known} != set()
    assert left[2:] == before[2:] and {str(who)[-1] for (who,) in left[3]} == {"n"}

    # By scope: of those who do not grant profiling; n says nothing, and where it was seen that is a grant.
    settings = project.directory / "waymark.yml"
    settings.write_text(settings.read_text() + "retention_without_consent: {profiling: 10 days}\n")
    project.add("web", "last", [told(11, "2026-05-05", "n")])
    project.run(checks=False)
    assert [number for (number,) in project.rows(events)] == [1, 3, 4, 5, 10, 11]
    assert project.rows("select distinct reason from raw.removals order by 1") == [("consent",), ("retention",)]
    assert answers(project)[3] == left[2]
