"""Malformed input of every format: nothing crashes, nothing is lost, each refusal has a reason.

An example holds several files, which are ingested together: the plan costs more than the rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.core.warehouse import connect, rows
from waymark.ingestion.readers import _csv_source
from waymark.ingestion.salvage import csv_records, split_record

FILES = 8
FORMATS = ("csv", "ndjson", "json", "parquet")
QUICK = ("csv", "ndjson")  # the others with the proofs, which look at hundreds of each
NORMAL = settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROVE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOKENS = [
    b'"', b'""', b",", b"\n", b"\r\n", b"\r", b" ", b"a", b"\\", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\x01", b"{", b"}", b"[", b"]", b":", b"null",
    b"1e999",
    b'{"x":1}', b"2026-03-01T10:00:00Z", b"2026-03-01 10:00:00 +25:00", b"9999-12-31", b"e1", b"page_viewed",
    b"'; drop table raw.ingestion_log; --", b"\xe2\x80\xa8", b"%00", b"{}",
]  # fmt: skip
GARBAGE = st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4)), max_size=25).map(b"".join)
# What a field may hold: everything that is text, the odd and the hostile.
FIELDS = st.one_of(
    st.none(), st.text(st.characters(blacklist_categories=["Cs"]), max_size=20),
    st.sampled_from(["", " ", "2026-03-01T10:00:00Z", "1772359200", "1772359200123", "-1", "99999999999999999", "1e400", "0x10",
                     "NaN", "{}", "[]", "{", "null", "\0", '"', ",", "\n", "a@b.example",
                     "+41791234567", "%ff%00", "http://[::1", "?utm_source=%ff", "gclid=", "Ω" * 50]),
)  # fmt: skip
COLUMNS = ("id", "at", "what", "visitor", "url", "amount", "details", "note", "mail", "tel")
ROWS = st.lists(st.lists(FIELDS, min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=6)
GOOD = ("2026-03-01T10:00:00Z", "page_viewed")


def _serialised(kind: str, table: list[list[str | None]]) -> bytes:
    if kind == "csv":
        out = io.StringIO()
        csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([COLUMNS, *([field or "" for field in row] for row in table)])
        return out.getvalue().encode()
    records = [dict(zip(COLUMNS, row, strict=True)) for row in table]
    return "".join(json.dumps(record) + "\n" for record in records).encode() if kind == "ndjson" else json.dumps(records).encode()


def _as_parquet(source: Source, content: bytes) -> bytes:
    document, target = source.folder / "records.json", source.folder / "records.parquet"
    document.write_bytes(content)
    columns = ", ".join(f"'{column}': 'VARCHAR'" for column in COLUMNS)
    source.connection.execute(f"copy (select * from read_json('{document}', columns = {{{columns}}}, format = 'array')) to '{target}' (format parquet)")
    return target.read_bytes()


class Arena:
    """One source that swallows example after example."""

    def __init__(self, make_source: MakeSource, kind: str) -> None:
        self.kind, self.count = kind, 0
        self.source = make_source(CSV_MAPPING.replace("format: csv", f"format: {kind}"))

    def swallow(self, contents: list[bytes]) -> list[tuple[str, int, str | None]]:
        """(status, rows read, error) of each file; checks that each is conserved or refused with a reason."""
        paths = []
        for content in contents:
            self.count += 1
            paths.append(str(self.source.put(f"{self.count:06d}.{self.kind}", content)))
        self.source.ingest()
        self.source.assert_conserved()
        log = {str(file): (str(status), int(str(read)), error) for file, status, read, error in self.source.log("file, status, rows_read, error")}
        for path in paths:
            status, _, error = log[path]
            assert (status == "refused") == (error is not None)
            assert error is None or ("source 'shop'" in str(error) and "\n  " in str(error))
            Path(path).unlink()
        assert self.source.rows("select 1 from raw.quarantine where rule is null or reason is null or original is null") == []
        return [(status, read, None if error is None else str(error)) for status, read, error in (log[path] for path in paths)]


def _bytes_case(make_source: MakeSource, kind: str, limit: settings) -> None:
    arena = Arena(make_source, kind)
    base = _serialised("csv" if kind == "csv" else "ndjson" if kind == "ndjson" else "json", [["e1", *GOOD, "v1", None, None, None, None, None, None]])
    base = _as_parquet(arena.source, base) if kind == "parquet" else base

    @limit
    @given(st.lists(st.tuples(st.integers(0, len(base)), st.integers(0, 12), GARBAGE), min_size=FILES, max_size=FILES))
    def run(mutations: list[tuple[int, int, bytes]]) -> None:
        arena.swallow([base[:at] + garbage + base[at + dropped :] for at, dropped, garbage in mutations])

    run()


def _fields_case(make_source: MakeSource, kind: str, limit: settings) -> None:
    arena = Arena(make_source, kind)

    @limit
    @given(st.lists(ROWS, min_size=FILES, max_size=FILES))
    def run(tables: list[list[list[str | None]]]) -> None:
        contents = [_serialised("json" if kind == "parquet" else kind, table) for table in tables]
        if kind == "parquet":
            contents = [_as_parquet(arena.source, content) for content in contents]
        for table, content, (status, read, error) in zip(tables, contents, arena.swallow(contents), strict=True):
            if not content.strip():
                assert status == "refused"
            else:
                assert status == "skipped" or read == len(table), error

    run()


def _garbage_line_case(make_source: MakeSource, limit: settings) -> None:
    """A line of garbage among good ones costs no good one."""
    arena = Arena(make_source, "csv")

    @limit
    @given(st.lists(GARBAGE.map(lambda text: text.replace(b"\n", b"").replace(b"\r", b"")), min_size=FILES, max_size=FILES))
    def run(lines: list[bytes]) -> None:
        contents = []
        for number, garbage in enumerate(lines):
            ids = [f"g{arena.count}x{number}x{k}" for k in range(4)]
            good = [f"{name},{GOOD[0]},{GOOD[1]},v1,,".encode() for name in ids]
            contents.append(b"id,at,what,visitor,amount,details\n" + b"\n".join([good[0], good[1], garbage, good[2], good[3]]) + b"\n")
        before = int(str(arena.source.value("select count(*) from raw.shop_events where regexp_matches(source_event_id, '^g[0-9]+x')")))
        arena.swallow(contents)
        after = int(str(arena.source.value("select count(*) from raw.shop_events where regexp_matches(source_event_id, '^g[0-9]+x')")))
        assert after - before == 4 * FILES

    run()


@pytest.mark.parametrize("kind", QUICK)
def test_mutated_bytes_are_refused_or_conserved(make_source: MakeSource, kind: str) -> None:
    _bytes_case(make_source, kind, NORMAL)


@pytest.mark.parametrize("kind", QUICK)
def test_odd_fields_are_all_accounted_for(make_source: MakeSource, kind: str) -> None:
    _fields_case(make_source, kind, NORMAL)


def test_garbage_costs_its_own_line(make_source: MakeSource) -> None:
    _garbage_line_case(make_source, NORMAL)


@pytest.mark.prove
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", [_bytes_case, _fields_case])
def test_three_hundred_malformed_inputs_of_each_format(make_source: MakeSource, kind: str, case: Callable[[MakeSource, str, settings], None]) -> None:
    case(make_source, kind, PROVE)


@pytest.mark.prove
def test_three_hundred_lines_of_garbage(make_source: MakeSource) -> None:
    _garbage_line_case(make_source, PROVE)


CSV_TEXT = st.lists(st.sampled_from(["a", "bc", '"', '""', '","', ",", "\n", "\r\n", " ", "ü", "x\ty", '"q, r"', '"two\nlines"']), max_size=30).map("".join)
SCRATCH = connect()


def _both_readers(folder: Path, body: str) -> None:
    """Where DuckDB's strict reader takes a text, the tolerant one gives the same records and values."""
    path = folder / "both.csv"
    path.write_bytes(("c1,c2,c3\n" + body).encode())
    columns = {"c1": "VARCHAR", "c2": "VARCHAR", "c3": "VARCHAR"}
    try:
        fast = [list(row) for row in rows(SCRATCH, f"select * from {_csv_source([path], columns, ',', chr(34), header=True)}")]
    except Exception:
        return
    with open(path, encoding="utf-8", newline="") as handle:
        records = list(csv_records(iter(handle.readlines()[1:]), ",", 3))
    assert [record.rule for record in records] == [None] * len(fast)
    assert [(record.fields or split_record(record.raw, ","))[:3] for record in records] == fast  # type: ignore[index]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=CSV_TEXT)
def test_the_tolerant_reader_agrees_with_the_strict_one(tmp_path: Path, body: str) -> None:
    _both_readers(tmp_path, body)


@pytest.mark.prove
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=CSV_TEXT)
def test_the_tolerant_reader_agrees_with_the_strict_one_at_length(tmp_path: Path, body: str) -> None:
    _both_readers(tmp_path, body)


@pytest.mark.parametrize("broken", ["short", 'e9,2026-03-01T10:00:00Z,x,"open,,'])
def test_good_rows_get_the_same_ids_whether_or_not_another_row_is_broken(make_source: MakeSource, broken: str) -> None:
    good = [
        'e1,2026-03-01T10:00:00Z,x,"a ""quoted"" one",1.5,"{""k"": ""v, w""}"',
        'e2,2026-03-01T10:00:01Z,x,"two\nlines",,',
        "e3,2026-03-01T10:00:02Z,x, spaced ,,",
        'e4,2026-03-01T10:00:03Z,x,in"side,,',
    ]
    head = "id,at,what,visitor,amount,details\n"
    found = []
    for lines in (good, [broken, *good], [*good[:2], broken, *good[2:]]):
        source = make_source()
        source.put("a.csv", head + "\n".join(lines) + "\n")
        assert source.ingest().rows_accepted == 4
        found.append(source.events("event_id, content_digest, anonymous_id", "source_event_id"))
    assert found[0] == found[1] == found[2]
