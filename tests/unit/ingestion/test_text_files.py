"""Text files are split in blocks: what is told of many lines at once is what splitting each with care says, wherever blocks and parts end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource
from waymark.ingestion import salvage
from waymark.ingestion.clean import Clean
from waymark.ingestion.lines import odd_lines
from waymark.ingestion.salvage import Record, Split, csv_records, salvage_csv, split_record

TOKENS = [
    "a", "bc", '"', '""', '","', ",", ",,", " ", "ü", "\0", "\udcff", "\r", "\r\n", "\n", "\n", 'x,"y",z\n', 'x,"y ""q"", r",\n', "x,y,z\n", ",,\r\n",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)


def lines_of(text: str) -> list[str]:
    return list(salvage._physical_lines(text))


@settings(max_examples=500, deadline=None)
@given(TEXTS, st.sampled_from([2, 3, 4]))
def test_a_line_told_to_be_plain_is_one_good_record_when_split_with_care(text: str, width: int) -> None:
    lines = lines_of(text)
    odd = set(odd_lines(lines, ",", width))
    for index, line in enumerate(lines):
        if index not in odd:
            fields = split_record(line, ",")
            assert fields is not None and len(fields) == width and "\0" not in line and "\udcff" not in line


def test_lines_with_and_without_quotes_are_told_to_be_plain() -> None:
    lines = ["a,b,c\n", 'a,"b, ""q""",c\n', '"","",""\n', 'a,"b\n', "a,b\n", 'a,b"c,d\n', ',,"{""k"": 1}"\r\n', "a,b,c"]
    assert odd_lines(lines, ",", 3) == [3, 4, 5]


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 5))
def test_where_a_block_ends_makes_no_difference(text: str, block: int) -> None:
    lines = lines_of(text)
    whole = list(csv_records(lines, ",", 3))
    found = []
    for run in salvage._csv_runs(iter([lines[start : start + block] for start in range(0, len(lines), block)]), ",", 3):
        found += [run] if isinstance(run, Record) else [Record(line.rstrip("\r\n")) for line in run]
    assert [(record.raw, record.rule) for record in found] == [(record.raw, record.rule) for record in whole]


@pytest.mark.parametrize("part_rows", [None, 1, 2, 3, 100])
def test_parts_hold_every_good_record_with_its_numbers(tmp_path: Path, part_rows: int | None) -> None:
    clean = Clean(tmp_path, ",", part_rows)
    kept, expected = [], {}
    for file_id, body in enumerate(["a,1\nb\nc,3\r\nd,4", 'e,"5\n5"\n', "f,6\ng,7\n"], 1):
        path = tmp_path / f"{file_id}.txt"
        path.write_bytes(f"x,y\n{body}".encode())
        mark = clean.mark()
        salvage_csv(path, "utf-8", 2, Split(file_id, clean, tmp_path / "refused.parquet"))
        if file_id == 2:
            clean.rewind(mark, file_id)
        else:
            kept.append(file_id)
    expected = {1: "1,1,a,1\n1,3,c,3\n1,4,d,4\n", 3: "3,1,f,6\n3,2,g,7\n"}
    clean.close()
    parts = [part.read_text() for part in clean.parts]
    assert "".join(parts) == expected[1] + expected[3]
    assert all(part.count("\n") <= (part_rows or 5) for part in parts)
    assert [clean.cut_out(file_id).read_text() for file_id in kept] == [expected[1], expected[3]]
    clean.forget()
    assert list(tmp_path.glob("clean_*")) == []


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("csv", "duplicate"), ("ndjson", "duplicate"),
        pytest.param("csv", "keep", marks=pytest.mark.prove), pytest.param("json", "duplicate", marks=pytest.mark.prove),
    ],
)  # fmt: skip
def test_a_file_in_many_parts_gives_what_it_gives_in_one(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch, kind: str, setting: str) -> None:
    rows = [(f"2026-03-{1 + i % 9:02d}T10:00:00Z", "x" if i % 7 else "", f"v{i % 4}") for i in range(41)] + [("2031-01-01T00:00:00Z", "x", "late")]
    if kind == "csv":
        content = "at,what,visitor\n" + "".join(",".join(row) + ("" if i % 5 else ",more") + "\n" for i, row in enumerate(rows))
    else:
        objects = [f'{{"at": "{at}", "what": "{what}", "visitor": "{visitor}"}}' for at, what, visitor in rows]
        content = "\n".join(objects) + "\n" if kind == "ndjson" else "[" + ", ".join(objects) + "]"
    mapping = CSV_MAPPING.replace("  event_id: {column: id, optional: true}\n", "").replace("format: csv", f"format: {kind}\nidentical_rows: {setting}")
    found = []
    for part_rows in (400_000, 12):
        monkeypatch.setattr("waymark.ingestion.group.PART_ROWS", part_rows)
        source = make_source(mapping)
        source.put(f"a.{kind}", content)
        source.put(f"b.{kind}", content.replace("v1", "v9"))
        source.ingest()
        source.assert_conserved()
        counts = source.log("rows_read, rows_accepted, rows_duplicate, rows_quarantined, last_occurred_at")
        refused = source.rows("select ingest_file_id, row_number, rule, original from raw.quarantine order by all")
        found.append((counts, source.events("event_id, content_digest, ingest_file_id, row_number"), refused))
    assert found[0] == found[1]
    assert "too_far_in_future" in [rule for _, _, rule, _ in found[0][2]]


def test_one_file_that_the_mapping_cannot_take_costs_itself_alone(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(CSV_MAPPING)
    for name in ("a", "b", "c"):
        source.put(f"{name}.csv", f"id,at,what\n{name},2026-03-01T10:00:00Z,x\n")
    real = salvage.Clean.write

    def spoilt(self: Clean, file_id: int, number: int, lines: list[str]) -> None:
        real(self, file_id, number, [line.replace("b,", '"b,', 1) for line in lines])  # what DuckDB's strict reader refuses

    monkeypatch.setattr(salvage.Clean, "write", spoilt)
    report = source.ingest()
    assert report.rows_accepted == 2 and len(report.refused) == 1 and "b.csv" in str(report.refused[0])
    source.assert_conserved()
