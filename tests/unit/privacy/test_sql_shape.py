"""What the audit log keeps of a query says what was asked, and nothing of what it was asked about."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from waymark.core.warehouse import Connection, connect
from waymark.privacy.sql_shape import known_words, without_literals

SECRET = ("anna", "example.org", "4179", "c_3fa9", "1234", "0041", "smith", "jane", "berlin", "9e2ab34a", "李明")
KEPT = {
    "select * from marts.fct_events where customer_id = 'c_3fa9' limit 5": "select * from marts.fct_events where customer_id = ? limit ?",
    "select 'it''s anna' || x, e'a\\'anna' from t": "select ? || x, ? from t",
    "select $$anna$$, $tag$anna $$ example.org$tag$ from t -- anna": "select ?, ? from t",
    "select 1234.5e-3, .5, 0x1234, 1_234 /* anna\n */ from t2": "select ?, ?, ?, ? from t2",
    'select "customer_id", "anna@example.org" from t': 'select "customer_id", "?" from t',
    "select *\n  from\tt where x in (1234, 0041)": "select * from t where x in (?, ?)",
    "from 'anna.csv'": "from ?",
    "where mail = anna@example.org and phone = +41791234567": "where ? = ?@?.? and ? = +?",
    "select 'anna": "select ?",
    'select "anna example.org': 'select "?"',
    "select /* anna": "select",
    "select $x$ anna": "select ?",
    "select x'616e6e61', b'01', user_41791234567 from t": "select ?, ?, ? from t",
    'where customer_id = "c_9e2ab34a65a7f7dc950e5be0"': 'where customer_id = "?"',
    "where customer_id = c_9e2ab34a65a7f7dc950e5be0": "where customer_id = ?",
    'where "User_Id" in ("Smith", "jane_doe_berlin", jane_doe_berlin, shop:jane.doe)': 'where "?" in ("?", "?", ?, ?:?.?)',
    "where customer_id = 李明 or \"李明\" or jo@count.min": 'where customer_id = ? or "?" or ?',
    "with anna as (from Marts.Fct_Events e1) select count(*), Epoch_US(occurred_at)::BIGINT from anna": (
        "with ? as (from Marts.Fct_Events e1) select count(*), Epoch_US(occurred_at)::BIGINT from ?"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def snapshot() -> Iterator[Connection]:
    with connect() as connection:
        connection.execute("create schema marts; create table marts.fct_events (customer_id varchar, session_count_28d bigint, occurred_at timestamp)")
        connection.execute("create schema features; create view features.feat_customer_value as from marts.fct_events")
        yield connection


def shape_of(connection: Connection, query: str) -> str:
    return without_literals(query, known_words(connection, query))


@pytest.mark.parametrize("query", KEPT)
def test_literals_are_replaced_and_the_rest_is_kept(snapshot: Connection, query: str) -> None:
    shape = shape_of(snapshot, query)
    assert shape == KEPT[query]
    assert [told for told in SECRET if told in shape.lower()] == []
    assert shape_of(snapshot, shape) == shape, "what has no literals stays as it is"


def test_names_and_words_that_the_snapshot_knows_stay(snapshot: Connection) -> None:
    assert shape_of(snapshot, "select session_count_28d, $1, x::decimal(18,4) from features.feat_customer_value") == (
        "select session_count_28d, $?, x::decimal(?,?) from features.feat_customer_value"
    )
    assert shape_of(snapshot, "select customer_name from marts.dim_people") == "select ? from marts.?"
    for shift in range(20):
        shape = shape_of(snapshot, "select t" + "." * shift + 'customer_id."customer_id"' * 300)
        assert 3_900 < len(shape) <= 4_002 and shape_of(snapshot, shape) == shape, "a long one ends with a whole word"


def test_any_text_has_a_shape_which_stays_as_it_is(snapshot: Connection) -> None:
    parts = ("'", '"', "$", "$x$", "/*", "*/", "--", "\n", " ", ".", "@", "%40", "+", "-", "e", "x", "t", "4", "17", "select", "count", "Customer_Id", "anna")
    draw = random.Random(17)
    known = known_words(snapshot, "select count Customer_Id anna")
    assert known == {"select", "count", "customer_id"}
    for _ in range(20_000):
        text = "".join(draw.choices(parts, k=draw.randrange(1, 14)))
        shape = without_literals(text, known)
        assert without_literals(shape, known) == shape, text
        assert "anna" not in shape, text
