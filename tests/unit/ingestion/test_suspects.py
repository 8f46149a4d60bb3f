"""Patterns are prepared only for columns that may hold something: no column in which a name is redacted may be overlooked, also where it alone holds one."""

from __future__ import annotations

from tests.unit.ingestion.conftest import MakeSource
from waymark.core.warehouse import connect
from waymark.ingestion.batch import suspects
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.consent import ACT_TEXTS
from waymark.ingestion.event import UTM_COLUMNS
from waymark.ingestion.extraction import Shape
from waymark.ingestion.mapping import load_mapping

TEXTS = ("referrer", "properties", "text")
NAMES = (
    "source_channel", *UTM_COLUMNS,
    "click_id_type", "click_id", "screen", "user_agent", "device_type", "os", "browser", "country", "region", "city", "language",
)  # fmt: skip
COLUMNS = (*NAMES, *TEXTS, "page_url")
MAPPING = (
    "source: shop\nformat: csv\ntime_zone: UTC\ncolumns:\n  event_id: id\n  occurred_at: at\n  event_type: what\n  anonymous_id: visitor\n"
    + "".join(f"  {column}: {{column: {column}, optional: true}}\n" for column in COLUMNS)
    + "consent:\n  events:\n    types: {consent_granted: grant}\n    scopes: scopes\n"
    + "".join(f"    {field}: {field}\n" for field in ACT_TEXTS)
)
WHAT = ("id", "at", "what", "visitor", "scopes", *COLUMNS, *ACT_TEXTS)
ADDRESS = "jane@mail.example"


def row(number: int, **told: str) -> str:
    plain = {"id": str(number), "at": "2026-03-01T10:00:00Z", "what": "page_view", "visitor": "v1", "os": "ios", "text": "hi", "properties": '{"a":1}'}
    values = {**plain, "page_url": "https://shop.example/?utm_source=ad", **told}
    return ",".join('"' + values.get(column, "").replace('"', '""') + '"' for column in WHAT)


CASES = [
    *[(column, {column: ADDRESS}, {column}) for column in NAMES],
    *[(column, {column: f"see {ADDRESS}"}, {column}) for column in ("referrer", "text")],
    ("properties", {"properties": '{"a":"jane\\u0040mail.example"}'}, {"properties"}),
    ("event_type", {"what": f"wrote to {ADDRESS}"}, {"event_type_raw"}),
    ("page_url", {"page_url": f"https://shop.example/?m={ADDRESS}"}, {"page_url"}),
    ("utm_content", {"page_url": "https://shop.example/?utm_content=jane%40mail.example"}, {"page_url", "tags"}),
    ("utm_term", {"page_url": "https://shop.example/?utm_term=555+123-4567"}, {"tags"}),
    *[(field, {"what": "consent_granted", "scopes": "ads", field: ADDRESS, "user_agent": "x"}, {f"t_act_{field}"}) for field in ACT_TEXTS],
    ("nothing", {}, set()),
]  # fmt: skip
FILE = "\n".join([",".join(WHAT), *(row(number, **told) for number, (_, told, _) in enumerate(CASES))]) + "\n"


def test_a_column_that_alone_holds_something_is_told(make_source: MakeSource) -> None:
    source = make_source(MAPPING)
    canonical = Canonical(load_mapping(source.folder / "shop.yml"), Shape(WHAT), source.project.settings, "a.csv")
    with connect() as connection:
        path = source.put("a.csv", FILE)
        read = f"read_csv('{path}', all_varchar = true, header = true)"
        records = f"(select 1 as _wm_file, cast(id as bigint) as _wm_row, cast(null as varchar) as _wm_rule, * from {read})"
        connection.execute(f"create temp table parsed as {canonical.parsed_sql(records)}")
        for number, (_, told, expected) in enumerate(CASES):
            assert suspects(connection, canonical, f"(select * from parsed where _wm_row = {number})") == expected, told


def test_what_is_told_is_redacted(make_source: MakeSource) -> None:
    source = make_source(MAPPING)
    source.put("a.csv", FILE)
    source.ingest()
    shown = source.rows("select source_event_id, cast(e as varchar) from raw.shop_events e")
    assert len(shown) == len(CASES) and not [text for _, text in shown if "jane" in str(text).lower()]
    assert source.rows("select utm_term from raw.shop_events where page_url like '%utm_term%'") == [("[phone]",)]
