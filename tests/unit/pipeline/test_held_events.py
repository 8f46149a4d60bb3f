"""Before what is pending is called done: every pending event is in the table of events, with the content that survived."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from waymark.core.warehouse import Connection, connect
from waymark.ingestion.event import empty_events_sql
from waymark.pipeline.steps import _unseen


@pytest.fixture
def warehouse() -> Iterator[Connection]:
    """Source shop with three pending events, all of them held; the first has arrived with another content, too."""
    with connect() as connection:
        connection.execute("create schema raw; create schema marts")
        connection.execute(f"create table raw.shop_pending as {empty_events_sql()}")
        for number in (1, 2, 3):
            connection.execute(
                "insert into raw.shop_pending (event_id, source, event_type, occurred_at, city) values (?, 'shop', 'page_viewed', ?, 'Ulm')",
                [f"e{number}", f"2026-03-0{number} 10:00:00"],
            )
        connection.execute("create table marts.fct_events as from raw.shop_pending")
        connection.execute("create table raw.event_conflicts as select event_id, occurred_at from raw.shop_pending where event_id = 'e1'")
        yield connection


@pytest.mark.parametrize(
    ("change", "unseen"),
    [
        ("select 1", 0),
        ("delete from marts.fct_events where event_id in ('e2', 'e3')", 2),
        ("update marts.fct_events set occurred_at = occurred_at + interval 1 hour where event_id = 'e2'", 1),
        ("update marts.fct_events set city = 'Bonn' where event_id = 'e1'", 1),  # the loser of the two contents
        ("update marts.fct_events set city = null where event_id = 'e1'", 1),
        ("delete from raw.event_conflicts", 0),
        ("delete from raw.shop_pending", 0),
    ],
)
def test_an_event_that_is_missing_or_holds_another_content_is_not_done(warehouse: Connection, change: str, unseen: int) -> None:
    warehouse.execute(change)
    assert _unseen(warehouse, "shop") == unseen
