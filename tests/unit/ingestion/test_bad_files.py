"""Files that cannot be read, and rows that cannot: each is named with file, row, field and remedy, and costs no more than itself."""

from __future__ import annotations

import gzip

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.core.errors import MappingError

HEADER = "id,at,what,visitor,amount,details"
GOOD = "{id},2026-03-01T10:00:00Z,page_viewed,v1,,"


def body(*lines: str | bytes) -> bytes:
    return b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in (HEADER, *lines))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.csv.gz", gzip.compress(body(*(GOOD.format(id=i) for i in range(500))), mtime=0)[:-200], "truncated or damaged"),
        ("lying.csv.gz", body(GOOD), "not gzip"),
        ("empty.csv", b"", "the file is empty"),
        ("empty.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("parquet.csv", b"PAR1 and so on", "this is a Parquet file"),
        ("columns.csv", b"a,b,c,d,e\n1,2,3,4,5\n", "no column for occurred_at"),
        ("header.csv", b'"id,at\nnever closed', "never closed"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_costs_itself_alone(source: Source, name: str, content: bytes, message: str) -> None:
    source.put(name, content)
    source.put("good.csv", body(GOOD.format(id="e1")))
    report = source.ingest()
    assert report.rows_accepted == 1 and len(report.refused) == 1
    error = str(report.refused[0])
    assert message in error and name in error and "\n  " in error  # what, where, remedy
    assert source.rows("select error from raw.ingestion_log where status = 'refused'") == [(error,)]
    assert [outcome.status for outcome in source.ingest().files] == ["refused"], "tried again, the good file not, and refused again"
    assert len(source.rows("select 1 from raw.ingestion_log where status = 'refused'")) == 1
    assert len(source.ingest().refused) == 1, "but still said"
    source.assert_conserved()


def test_a_folder_and_a_missing_file_are_refused(make_source: MakeSource) -> None:
    source = make_source(files="data/*.csv', 'data/absent.csv")
    (source.data / "folder.csv").mkdir()
    source.put("good.csv", body(GOOD.format(id="e1")))
    report = source.ingest()
    assert report.rows_accepted == 1
    assert ["no such file" in str(report.refused[0]), "is a folder" in str(report.refused[1])] == [True, True]


def test_the_error_of_a_missing_column_names_file_row_field_and_remedy(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING.replace("anonymous_id: {column: visitor, optional: true}", "anonymous_id: client_id"))
    source.put("a.csv", body())
    assert str(source.ingest().refused[0]) == (
        "source 'shop': a.csv, row 1: no column for anonymous_id\n"
        "  The mapping looks for client_id; the file has id, at, what, visitor, … (6 columns).\n"
        "  Add it: anonymous_id: [client_id, NAME] in shop.yml, or mark it optional: true; then run again."
    )


def test_a_refused_file_is_tried_again_when_it_or_the_mapping_changes(source: Source) -> None:
    source.put("a.csv", "nr,when,what\ne1,2026-03-01T10:00:00Z,x\n")
    assert len(source.ingest().refused) == 1
    source.remap(CSV_MAPPING.replace("occurred_at: at", "occurred_at: [at, when]"))
    report = source.ingest()
    assert report.rows_accepted == 1 and report.refused == []
    assert source.log("status, columns_renamed") == [("ingested", "when for at")]
    source.put("b.csv", "")
    assert len(source.ingest().refused) == 1
    source.put("b.csv", "id,at,what\n")
    assert source.ingest().refused == []
    assert source.value("select count(*) from raw.ingestion_log where status = 'refused'") == 0


def test_header_only_is_fine(source: Source) -> None:
    source.put("a.csv", body())
    assert source.ingest().refused == [] and source.log("status, rows_read") == [("ingested", 0)]


@pytest.mark.parametrize(
    ("line", "rule", "field"),
    [
        ("q,2026-03-01T10:00:00Z,x,v1,1,{},more", "malformed_row", None),
        ("q,2026-03-01T10:00:00Z", "malformed_row", None),
        ('q,2026-03-01T10:00:00Z,x,"v1,1,', "unterminated_quote", None),
        ('q,2026-03-01T10:00:00Z,x,"v"1,1,', "malformed_row", None),
        (b"q,2026-03-01T10:00:00Z,x,v\xff\xfe,1,", "invalid_encoding", None),
        ("q,2026-03-01T10:00:00Z,x,v\0,1,", "nul_byte", None),
        (f"q,2026-03-01T10:00:00Z,x,{'v' * 2000},1,", "field_too_large", "visitor"),
        ("q,,x,v1,1,", "missing_occurred_at", "occurred_at"),
        ("q,yesterday,x,v1,1,", "bad_occurred_at", "occurred_at"),
        ("q,2026-02-30,x,v1,1,", "bad_occurred_at", "occurred_at"),
        ("q,infinity,x,v1,1,", "bad_occurred_at", "occurred_at"),
        ("q,1969-12-31T23:00:00Z,x,v1,1,", "before_1990", "occurred_at"),
        ("q,2026-03-09T10:00:00Z,x,v1,1,", "too_far_in_future", "occurred_at"),
        ("q,2026-03-01T10:00:00Z,,v1,1,", "missing_event_type", "event_type"),
        ("q,2026-03-01T10:00:00Z,?!,v1,1,", "missing_event_type", "event_type"),
        ("q,2026-03-01T10:00:00Z,x,v1,EUR 5,", "bad_value", "value"),
        ("q,2026-03-01T10:00:00Z,x,v1,NaN,", "bad_value", "value"),
        ("q,2026-03-01T10:00:00Z,x,v1,1e30,", "bad_value", "value"),
        ("q,2026-03-01T10:00:00Z,x,v1,1,{broken", "bad_properties", "properties"),
    ],
)
def test_a_bad_row_costs_that_row_and_says_why(make_source: MakeSource, line: str | bytes, rule: str, field: str | None) -> None:
    source = make_source(extra="ingestion: {max_field_bytes: 1000}\n")
    source.put("a.csv", body(GOOD.format(id="e1"), GOOD.format(id="e2"), line, GOOD.format(id="e3")))
    report = source.ingest()
    assert (report.rows_read, report.rows_accepted, report.rows_quarantined) == (4, 3, 1)
    assert source.rows("select rule, field, row_number from raw.quarantine") == [(rule, field, 3)]
    reason, original = source.rows("select reason, original from raw.quarantine")[0]
    assert str(reason).endswith(".") and len(str(original)) > 4
    assert source.events("source_event_id, row_number") == [("e1", 1), ("e2", 2), ("e3", 4)]
    source.assert_conserved()


def test_rows_are_judged_by_currency_id_and_known_events(make_source: MakeSource) -> None:
    mapping = """
source: shop
columns: {event_id: id, occurred_at: at, event_type: what, value: amount, currency: cur}
events: {Bought It: order_completed}
unknown_events: quarantine
"""
    source = make_source(mapping)
    at = "2026-03-01T10:00:00Z"
    source.put(
        "a.csv", f"id,at,what,amount,cur\na,{at},Bought It,1,eur\n,{at},Bought It,1,EUR\nc,{at},Bought It,1,\nd,{at},Bought It,1,Euro\ne,{at},Sold It,1,EUR\n"
    )
    source.ingest()
    assert source.rows("select rule from raw.quarantine order by row_number") == [
        ("missing_event_id",),
        ("value_without_currency",),
        ("bad_currency",),
        ("unknown_event_type",),
    ]
    assert source.events("event_type, currency") == [("order_completed", "EUR")]


def test_ten_megabytes_in_one_field_cost_one_row(source: Source) -> None:
    source.put("a.csv", body(GOOD.format(id="e1"), f'big,2026-03-01T10:00:00Z,x,"{"v" * 10_000_000}",,', GOOD.format(id="e2")))
    report = source.ingest()
    assert (report.rows_accepted, report.rows_quarantined) == (2, 1)
    assert source.rows("select rule, length(original) > 10000000 from raw.quarantine") == [("field_too_large", True)]


def test_nested_json_where_text_was_mapped_is_kept_as_its_text(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING.replace("format: csv", "format: ndjson"))
    source.put("a.ndjson", '{"id": "e1", "at": "2026-03-01T10:00:00Z", "what": "x", "note": {"a": [1, 2]}, "details": {"deep": {"b": null}}}\n')
    assert source.ingest().rows_accepted == 1
    assert source.events("text, properties") == [('{"a":[1,2]}', '{"deep":{"b":null}}')]


def test_broken_lines_of_json_are_quarantined_one_by_one(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING.replace("format: csv", "format: ndjson"))
    good = '{"id": "%s", "at": "2026-03-01T10:00:00Z", "what": "x"}'
    lines = [
        good % "e1",
        "{broken",
        "",
        "[1, 2]",
        '"text"',
        good % "e2",
        '{"at": "2026-03-01T10:00:00Z", "what": "a\\u0000b"}',
        '{"a": "\\ud800"}',
        good % "e3",
    ]
    source.put("a.ndjson", "\n".join(lines) + "\n")
    assert source.ingest().rows_accepted == 3
    assert source.rows("select row_number, rule from raw.quarantine order by 1") == [
        (2, "malformed_row"),
        (3, "malformed_row"),
        (4, "malformed_row"),
        (6, "nul_byte"),
        (7, "malformed_row"),
    ]
    assert source.events("source_event_id, row_number") == [("e1", 1), ("e2", 5), ("e3", 8)]
    source.assert_conserved()


@pytest.mark.parametrize("content", ['[{"at": 1}, {"at"', '{"at": "2026-03-01"}', "nothing"])
def test_a_broken_json_document_is_refused_whole(make_source: MakeSource, content: str) -> None:
    source = make_source(CSV_MAPPING.replace("format: csv", "format: json"))
    source.put("a.json", content)
    report = source.ingest()
    assert report.rows_read == 0 and "JSON" in str(report.refused[0])


@pytest.mark.parametrize(
    ("encoding", "written"), [("utf-8", "utf-8-sig"), ("latin-1", "latin-1"), ("utf-16", "utf-16"), ("cp1252", "cp1252"), ("shift_jis", "shift_jis")]
)
def test_encodings_are_read_as_the_mapping_says(make_source: MakeSource, encoding: str, written: str) -> None:
    name = "テスト" if encoding == "shift_jis" else "Zürich"
    source = make_source(CSV_MAPPING.replace("format: csv", f"format: csv\nencoding: {encoding}"))
    source.put("a.csv", f"id,at,what,visitor\ne1,2026-03-01T10:00:00Z,x,{name}\n".encode(written))
    assert source.ingest().rows_accepted == 1
    assert source.events("anonymous_id") == [(name,)]


def test_bytes_that_are_no_text_in_another_encoding_cost_their_row(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING.replace("format: csv", "format: csv\nencoding: cp1252"))
    source.put("a.csv", b"id,at,what,visitor\ne1,2026-03-01T10:00:00Z,x,v\x81\ne2,2026-03-01T10:00:00Z,x,\xfc\n")
    source.ingest()
    assert source.events("anonymous_id") == [("ü",)]
    assert source.rows("select rule from raw.quarantine") == [("invalid_encoding",)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("currency: USD", "currency: USD\ntime_zone: Mars/Olympus", "time_zone: unknown time zone 'Mars/Olympus'"),
        ("currency: USD", "currency: USD\nencoding: klingon", "encoding: unknown encoding 'klingon'"),
        ("currency: USD", "currency: dollars", "currency: 'dollars'"),
        ("  occurred_at: at\n", "", "columns.occurred_at: missing"),
        ("occurred_at: at", "occurd_at: at", "columns.occurd_at: no such canonical column"),
        ("occurred_at: at", "occurred_at: {colum: at}", "columns.occurred_at.colum: no such setting"),
        ("occurred_at: at", "occurred_at: {json: at}", "not a JSON path"),
        ("  phone:", "  order_id:", "identifiers.order_id"),
        ("event_type: what", 'event_type: {json: "$.what"}', "columns.event_type.from: missing"),
        ("columns:", "columns: [", "not readable as YAML"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_by_field(source: Source, old: str, new: str, message: str) -> None:
    source.remap(CSV_MAPPING.replace(old, new, 1))
    with pytest.raises(MappingError) as refused:
        source.ingest()
    assert message in str(refused.value) and "shop.yml" in str(refused.value) and "\n  " in str(refused.value)


@pytest.mark.parametrize("expression", ["no_such_function(what)", "lower(", "count(*)", "what) as x, (1", "what -- and more", "(select 1", "row_number("])
def test_an_expression_that_duckdb_refuses_is_named_with_its_field(source: Source, expression: str) -> None:
    source.remap(CSV_MAPPING.replace("event_type: what", f"event_type: {{expr: {expression!r}}}"))
    source.put("a.csv", body(GOOD.format(id="e1")))
    if expression == "what -- and more":  # a comment ends with its line, and breaks out of nothing
        assert source.ingest().rows_accepted == 1
        return
    with pytest.raises(MappingError, match=r"columns\.event_type: DuckDB refuses the expression"):
        source.ingest()
    assert source.log("file") == []


def test_an_expression_over_a_column_that_the_file_lacks_costs_that_file_or_is_optional(source: Source) -> None:
    source.remap(CSV_MAPPING.replace("value: {column: amount, optional: true}", "value: {expr: 'amount'}"))
    source.put("a.csv", "id,at,what\na,2026-03-01T10:00:00Z,x\n")
    source.put("b.csv", "id,at,what,amount\nb,2026-03-01T10:00:00Z,x,5\n")
    report = source.ingest()
    assert report.rows_accepted == 1 and "no column amount, which the expression of columns.value needs" in str(report.refused[0])
    source.remap(CSV_MAPPING.replace("value: {column: amount, optional: true}", "value: {expr: 'amount', optional: true}"))
    report = source.ingest()
    assert report.rows_accepted == 1 and report.refused == []
    assert source.rows("select columns_missing from raw.ingestion_log where columns_missing like '%value%'") != []


def test_an_expression_that_fails_on_a_row_costs_that_row(source: Source) -> None:
    source.remap(CSV_MAPPING.replace("value: {column: amount, optional: true}", "value: {expr: 'cast(amount as integer) * 2'}"))
    source.put("a.csv", "id,at,what,amount\na,2026-03-01T10:00:00Z,x,5\nb,2026-03-01T10:00:00Z,x,five\nc,2026-03-01T10:00:00Z,x,\n")
    source.ingest()
    assert source.events("value") == [(10,), (None,)]
    assert source.rows("select rule, field, row_number from raw.quarantine") == [("bad_value", "value", 2)]
