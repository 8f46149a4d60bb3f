"""Parts that are compared: only keyed hashes pass the door, in a column of the lake's files that no view shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, Source
from waymark.core.errors import MappingError
from waymark.ingestion import load_mapping, remove_expired
from waymark.ingestion.event import CANONICAL_COLUMNS
from waymark.ingestion.tables import comparables_sql

COMPARE = """
compare:
  given_name: {column: first, kind: name, optional: true}
  family_name: {column: last, kind: name, household: true, optional: true}
  street: {column: street, kind: street, optional: true}
  town: {column: town, kind: place, optional: true}
  birth: {column: born, kind: date, optional: true}
"""
REPOSITORY = Path(__file__).resolve().parents[3]
MakeSource = Callable[..., Source]
HEADER = "id,at,what,login,mail,url,note,details,first,last,street,town,born"
ROW = (
    'e1,2026-01-01T10:00:00Z,signed_up,u1,a@b.example,https://shop.example/hello/Friederike?n=Zimmermann,"it is Friederike Zimmermann, Kastaniengasse 12",'
    '"{""name"": ""Friederike"", ""born"": ""1961-03-17"", ""plan"": ""gold""}",Friederike,Zimmermann,Kastaniengasse 12,Leipzig,1961-03-17'
)
PLAIN = ("Friederike", "Zimmermann", "Kastaniengasse", "1961", "friederike", "zimmermann")


def number(kind: str, form: str, text: str) -> int:
    return int(SECRET.hmac(f"compare|{kind}|{form}|{text}")[:15], 16)


def lake_text(source: Source) -> str:
    """All that the lake holds, column by column, as text."""
    return str(source.rows(f"select * from read_parquet('{source.home.raw_lake}/**/*.parquet', union_by_name = true)"))


def test_plain_text_ends_at_the_door_and_hashes_go_on(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\n{ROW}\n")
    assert source.ingest().rows_accepted == 1
    text = lake_text(source)
    assert [word for word in PLAIN if word in text] == []
    assert source.events("json_extract_string(properties, '$.plan')") == [("gold",)]
    ((_, told),) = source.rows(comparables_sql(source.connection))
    found = {part["part"]: part for part in told}  # type: ignore[attr-defined]
    assert set(found) == {"given_name", "family_name", "street", "town", "birth"}
    assert found["given_name"]["exact"] == number("name", "exact", "friederike")
    assert found["family_name"]["phonetic"] == number("name", "phonetic", "z565")
    assert found["birth"]["exact"] == number("date", "exact", "19610317")
    assert len(found["street"]["bigrams"]) == len(set(zip("^kastanieng12", "kastanieng12$", strict=True)))


def test_no_view_of_raw_shows_what_is_compared(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\n{ROW}\n")
    source.ingest()
    for view in ("shop_events", "shop_pending"):
        assert [name for name, *_ in source.rows(f"describe raw.{view}")] == list(CANONICAL_COLUMNS)


def test_nothing_between_raw_and_what_is_published_reads_it() -> None:
    """The files' column and identity's tables of it are named by ingestion, linkage, the pipeline's step and the export of a person alone."""
    folders = [REPOSITORY / name for name in ("dbt", "expectations", "dagster_project", "ml", "waymark/cli", "waymark/pipeline", "waymark/core")]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".sql", ".yml", ".py") and "target" not in path.parts]
    assert len(texts) > 100
    naming = [str(path.relative_to(REPOSITORY)) for path in texts if re.search("comparables|comparable_", path.read_text(encoding="utf-8"))]
    assert sorted(naming) == ["waymark/pipeline/linkage.py", "waymark/pipeline/subject_export.py"]


def test_a_mapping_without_it_writes_the_files_it_wrote_before(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING)
    source.put("one.csv", f"{HEADER}\n{ROW}\n")
    source.ingest()
    columns = [name for name, *_ in source.rows(f"describe from read_parquet('{source.home.raw_lake}/**/*.parquet', hive_partitioning = true)")]
    assert sorted(columns) == sorted(CANONICAL_COLUMNS)
    assert source.rows(comparables_sql(source.connection)) == []


@pytest.mark.prove
def test_files_of_before_and_after_a_mapping_compares_are_read_together(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING)
    source.put("one.csv", f"{HEADER}\n{ROW}\n")
    source.ingest()
    source.remap(CSV_MAPPING + COMPARE)
    source.put("two.csv", f"{HEADER}\n{ROW.replace('e1,', 'e2,')}\n")
    source.ingest()
    assert source.value("select count(*) from raw.shop_events") == 2
    assert len(source.rows(comparables_sql(source.connection))) == 1


@pytest.mark.prove
def test_the_loser_of_a_conflict_is_not_compared(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\n{ROW}\n{ROW.replace('Friederike,', 'Waltraud,').replace('T10:00', 'T09:00')}\n")
    source.ingest()
    ((_, told),) = source.rows(comparables_sql(source.connection))
    assert {part["exact"] for part in told if part["part"] == "given_name"} == {number("name", "exact", "waltraud")}  # type: ignore[attr-defined]


def test_rows_that_differ_only_in_what_is_compared_are_two_contents(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\n{ROW}\n{ROW.replace(',Leipzig,', ',Basel,')}\n")
    source.ingest()
    assert source.log("rows_duplicate, rows_conflict") == [(1, 1)]


@pytest.mark.prove
def test_a_row_that_tells_nothing_has_none(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\ne1,2026-01-01T10:00:00Z,signed_up,u1,,,,,,-,,,unknown\n")
    assert source.ingest().rows_accepted == 1
    assert source.rows(comparables_sql(source.connection)) == []


def test_a_json_record_is_compared_and_its_properties_lose_the_part(make_source: MakeSource) -> None:
    mapping = """
source: shop
format: ndjson
columns:
  occurred_at: at
  event_type: what
  user_id: {json: "$.who.id"}
  properties: who
compare:
  given_name: {json: "$.who.name.first", kind: name}
"""
    source = make_source(mapping, files="data/*.json")
    record = {"at": "2026-01-01T10:00:00Z", "what": "signed_up", "who": {"id": "u1", "name": {"first": "Ulla", "title": "Dr"}}}
    source.put("one.json", json.dumps(record) + "\n")
    source.ingest()
    assert source.events("properties") == [('{"id":"u1","name":{"title":"Dr"}}',)]
    assert len(source.rows(comparables_sql(source.connection))) == 1


@pytest.mark.parametrize(
    ("compare", "said"),
    [
        ("given_name: first", "compare.given_name.kind: does not say its kind"),
        ("given_name: {column: first}", "compare.given_name.kind: does not say its kind"),
        ("given_name: {column: first, kind: forename}", "compare.given_name.kind: 'forename' is not a kind of part"),
        ("Given: {column: first, kind: name}", "compare.Given: not a name for a part"),
        ("email: {column: mail, kind: name}", "compare.email: not a name for a part"),
        ("given_name: {column: first, kind: name, household: maybe}", "compare.given_name.household: 'maybe' is neither true nor false"),
        ("given_name: {const: Anna, kind: name}", "compare.given_name: a part is one text of each row"),
        ("given_name: {json: $.x, kind: name}", "compare.given_name.from: missing"),
        ("given_name: {kind: name}", "compare.given_name: needs exactly one of"),
        ("[a, b]", "compare: must be a list"),
    ],
)  # fmt: skip
def test_a_bad_part_is_refused_with_its_place(tmp_path: Path, compare: str, said: str) -> None:
    path = tmp_path / "shop.yml"
    path.write_text(CSV_MAPPING + f"compare:\n  {compare}\n")
    with pytest.raises(MappingError) as refused:
        load_mapping(path)
    assert said in str(refused.value) and "shop.yml" in str(refused.value)


def test_a_column_that_the_file_lacks_is_named(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + "compare:\n  given_name: {column: forename, kind: name}\n")
    source.put("one.csv", f"{HEADER}\n{ROW}\n")
    (refusal,) = source.ingest().refused
    assert "no column for given_name" in str(refusal)


@pytest.mark.prove
def test_what_retention_leaves_keeps_what_is_compared(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING + COMPARE)
    source.put("one.csv", f"{HEADER}\n{ROW}\n{ROW.replace('e1,', 'e2,').replace('signed_up', 'page_viewed')}\n")
    source.put("two.csv", f"{HEADER}\n{ROW.replace('e1,', 'e3,').replace('2026-01-01', '2026-02-01')}\n")
    source.ingest()
    before = dict(source.rows(comparables_sql(source.connection)))
    (removal,) = remove_expired(source.connection, source.home, ["shop"], {"page_viewed": 10}, and_then=lambda: None)
    after = dict(source.rows(comparables_sql(source.connection)))
    assert removal.rows == 1 and len(after) == 2 and after == {event: told for event, told in before.items() if event in after}
