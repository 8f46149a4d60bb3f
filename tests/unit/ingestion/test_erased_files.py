"""Records of erased persons leave the files of the landing folder, and nobody else's do."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from duckdb import OperationalError

from tests.unit.ingestion.burying import ANN, ANNS, BOB, HEADER, LANDING, bury, kept, line, put
from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.core.errors import StorageError
from waymark.core.warehouse import QueryError
from waymark.ingestion import load_mapping, readers
from waymark.ingestion.erased import Erased
from waymark.ingestion.erasing import _FRESH, Copy, LandingCopies, erase_from_lake
from waymark.ingestion.files import new_files
from waymark.ingestion.unread import UnreadTexts
from waymark.privacy.needles import Needles
from waymark.privacy.text_search import TextSearch


def landed(source: Source, erased: Erased, search: TextSearch | None = None) -> list[Copy]:
    copies = LandingCopies(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, erased, search)
    return list(copies.erase(told=lambda _: None, about=lambda _: None))


LINES = [
    line(1, visitor="cookie-of-ann"), line(2, mail=BOB, note="a; b"), line(3, mail=ANN), "", f'e4,2026-03-01T10:00:00Z,x,v,,,,,,,"two\nlines",{BOB},',
]  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("utf-8", True), ("utf-16", False), pytest.param("utf-8-sig", False, marks=pytest.mark.prove), pytest.param("latin-1", False, marks=pytest.mark.prove),
    ],
)  # fmt: skip
def test_a_text_file_is_written_anew_without_her_records(make_source: MakeSource, encoding: str, packed: bool) -> None:
    source = make_source(CSV_MAPPING.replace("format: csv", f"format: csv\nencoding: {encoding}"), files=LANDING)
    folder = source.home.landing / "shop"
    folder.mkdir(parents=True)
    path = folder / ("a.csv.gz" if packed else "a.csv")
    text = "\r\n".join([HEADER, *LINES, line(9, mail=BOB, note="Zürich")])
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    source.ingest()
    rows_before = source.events("source_event_id", "source_event_id")
    erased = bury(source, ANNS)
    (copy,) = landed(source, erased)
    assert (copy.struck, copy.source) == (2, "shop") and copy.new_digest not in ("", copy.old_digest)
    left = path.read_bytes()
    plain = (gzip.decompress(left) if packed else left).decode(encoding)
    assert "ann" not in plain and "Zürich" in plain and plain.splitlines()[0].lstrip("\ufeff") == HEADER
    assert plain.count(codecs.BOM_UTF8.decode()) <= 1
    assert landed(source, erased) == []
    report = source.ingest()
    assert report.rows_read == 0, "the log knows the file as it is now"
    erase_from_lake(source.connection, source.home, ["shop"], erased, and_then=lambda: None)
    assert len(rows_before) == 5 and kept(source) == ["e2", "e4", "e9"]
    other = make_source((source.folder / "shop.yml").read_text(), files=LANDING)
    (other.home.landing / "shop").mkdir(parents=True)
    (other.home.landing / "shop" / path.name).write_bytes(left)
    other.ingest()
    assert kept(other) == ["e2", "e4", "e9"], "a fresh home that never knew her"


def test_an_id_in_clear_that_the_scan_looks_for_goes_with_the_record_that_says_it(make_source: MakeSource) -> None:
    """A friend's record with the link that she sent, of her account in another source, which no tombstone of this source tells. A part of another is none."""
    source = make_source(CSV_MAPPING, files=LANDING)
    path = source.home.landing / "shop" / "a.csv"
    path.parent.mkdir(parents=True)
    notes = ["https://x.example/?ref=ann-of-crm-77", "ann-of-crm-771", "plain", "(ann-of-crm-77)."]
    path.write_text("\n".join([HEADER, *(line(n, mail=BOB, note=note) for n, note in enumerate(notes))]) + "\n")
    erased, search = bury(source, ANNS), TextSearch(source.connection, Needles(given=frozenset(["crm:ann-of-crm-77", "ann-of-crm-77"])))
    assert landed(source, erased) == []
    (copy,) = landed(source, erased, search)
    assert copy.struck == 2 and "ref=" not in path.read_text() and "ann-of-crm-771" in path.read_text()
    assert landed(source, erased, search) == []


JSON_MAPPING = """
source: shop
format: FORMAT
columns: {event_id: id, occurred_at: at, event_type: what, anonymous_id: {column: visitor, optional: true}}
identifiers:
  email: {column: mail, optional: true}
"""
RECORDS = [
    {"id": "e1", "at": "2026-03-01T10:00:00Z", "what": "seen", "visitor": "cookie-of-ann", "mail": None, "n": 1.5},
    {"id": "e2", "at": "2026-03-01T10:00:00Z", "what": "seen", "visitor": "v2", "mail": BOB, "n": None},
    {"id": "e3", "at": "2026-03-01T10:00:00Z", "what": "seen", "visitor": "v3", "mail": ANN, "n": 2.0},
]


@pytest.mark.parametrize("format", ["ndjson", "json", "parquet"])
def test_documents_and_parquet_are_written_anew_too(make_source: MakeSource, format: str) -> None:
    source = make_source(JSON_MAPPING.replace("FORMAT", format), files=LANDING)
    folder = source.home.landing / "shop"
    folder.mkdir(parents=True)
    path = folder / f"a.{format}"
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    else:
        path.write_text(json.dumps(RECORDS) if format == "json" else "".join(json.dumps(record) + "\n" for record in RECORDS))
    source.ingest()
    (copy,) = landed(source, bury(source, ANNS))
    assert copy.struck == 2
    if format == "parquet":
        assert pq.read_table(path).to_pylist() == RECORDS[1:2] and pq.read_schema(path).field("n").type == pa.float64()
    else:
        assert [json.loads(text) for text in path.read_text().splitlines()] in ([RECORDS[1]], [RECORDS[1:2]])
    assert source.ingest().rows_read == 0


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_document_keeps_its_encoding(make_source: MakeSource, encoding: str) -> None:
    source = make_source(JSON_MAPPING.replace("FORMAT", f"json\nencoding: {encoding}"), files=LANDING)
    folder = source.home.landing / "shop"
    folder.mkdir(parents=True)
    path = folder / "a.json"
    records = [*RECORDS, {**RECORDS[1], "id": "e4", "visitor": "Zürich", "what": "é"}]
    path.write_bytes(json.dumps(records, ensure_ascii=False).encode(encoding))
    source.ingest()
    (copy,) = landed(source, bury(source, ANNS))
    assert copy.struck == 2 and json.loads(path.read_bytes().decode(encoding)) == [records[1], records[3]]
    assert source.ingest().rows_read == 0
    again = make_source((source.folder / "shop.yml").read_text())
    again.put("a.json", path.read_bytes())
    again.ingest()
    assert again.events("anonymous_id", "source_event_id") == [("v2",), ("Zürich",)]


def test_files_with_nothing_else_and_files_that_nobody_reads_go_whole(make_source: MakeSource) -> None:
    source = make_source(files="{landing}/*.csv")
    folder = source.home.landing / "shop"
    (folder / "old").mkdir(parents=True)
    hers, other, strange, quiet = (folder / name for name in ("hers.csv", "other.csv", "old/notes.txt", "old/quiet.txt"))
    hers.write_text("\n".join([HEADER, line(1, mail=ANN)]) + "\n")
    other.write_text("\n".join([HEADER, line(2, mail=BOB)]) + "\n")
    strange.write_text(f"ask {ANN} about it\n")
    quiet.write_text("nothing\n")
    source.ingest()
    found = landed(source, bury(source, ANNS))
    assert {(Path(copy.file).name, copy.new_digest) for copy in found} == {("hers.csv", ""), ("notes.txt", "")}
    assert [path.exists() for path in (hers, other, strange, quiet)] == [False, True, False, True]


@pytest.mark.parametrize("form", ["utf-16 by its mapping", "utf-16 by its mark", "parquet", "damaged parquet"])
def test_what_no_mapping_reads_is_read_as_what_it_is(make_source: MakeSource, form: str) -> None:
    encoding = "utf-16-be" if form == "utf-16 by its mapping" else "latin-1"
    source = make_source(CSV_MAPPING.replace("format: csv", f"format: csv\nencoding: {encoding}"), files="{landing}/*.csv")
    folder = source.home.landing / "shop"
    folder.mkdir(parents=True)
    for file, who in (("hers", ANN), ("his", BOB)):
        if "parquet" in form:
            strings = [*(f"somebody{number}" for number in range(99)), who]
            pq.write_table(pa.table({"n": range(100), "who": [{"mail": text} for text in strings]}), folder / file, use_dictionary=False)
            if form.startswith("damaged"):
                pq.write_table(pa.table({"who": strings}), folder / file, compression="none")
                (folder / file).write_bytes((folder / file).read_bytes()[:-20])
        else:
            (folder / file).write_bytes(f"one\nask {who} about it\n".encode("utf-16-be" if encoding == "utf-16-be" else "utf-16"))
    found = [(Path(copy.file).name, copy.is_read, copy.new_digest == "") for copy in landed(source, bury(source, ANNS))]
    assert found == [("hers", True, True), *([("his", False, False)] if form.startswith("damaged") else [])]


def test_files_outside_of_the_home_are_told_and_stay(source: Source) -> None:
    path = put(source, "a.csv", [line(1, mail=ANN), line(2, mail=BOB), line(3, note=f"ask {ANN}")])
    before = path.read_bytes()
    (copy,) = landed(source, bury(source, ANNS))
    assert (copy.struck, copy.old_digest) == (2, copy.new_digest) and path.read_bytes() == before


def one_file(make_source: MakeSource) -> tuple[Source, Path]:
    """A source that took in one file of the home's landing folder, with a record of hers and one of his."""
    source = make_source(files=LANDING)
    source.home.warehouse.touch()  # the files are known as long as it is there
    path = source.home.landing / "shop" / "a.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([HEADER, line(1, mail=ANN), line(2, mail=BOB)]) + "\n")
    source.ingest()
    return source, path


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text + "\n")


def test_what_a_file_gained_before_the_erasure_is_taken_in_by_the_next_run(make_source: MakeSource) -> None:
    source, path = one_file(make_source)
    add(path, line(3, mail=BOB))
    assert landed(source, bury(source, ANNS))[0].struck == 1
    assert path in new_files(source.project, "shop"), "nobody has read its last record yet"
    source.ingest()
    assert kept(source) == ["e1", "e2", "e3"]
    source.assert_conserved()
    other, path = one_file(make_source)
    assert landed(other, bury(other, ANNS))[0].struck == 1
    assert new_files(other.project, "shop") == [], "all of it is known"


@pytest.mark.parametrize("times", [1, pytest.param(9, marks=pytest.mark.prove)])
def test_what_a_file_gains_while_it_is_read_is_kept(make_source: MakeSource, times: int) -> None:
    source, path = one_file(make_source)
    copies, seen = LandingCopies(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, bury(source, ANNS)), list[Copy]()

    def about(copy: Copy) -> None:
        seen.append(copy)
        if len(seen) <= times:
            add(path, line(2 + len(seen), mail=BOB))

    if times > 5:
        with pytest.raises(StorageError, match="writes to the file again and again"):
            list(copies.erase(told=lambda _: None, about=about))
        assert path.read_text().count(BOB) == 6 and ANN in path.read_text()
        return
    (copy,) = copies.erase(told=lambda _: None, about=about)
    assert copy == seen[1] and path.read_text().count(BOB) == 2 and ANN not in path.read_text()
    assert copies.finish(seen[0]) is None, "the first try came to nothing"
    source.ingest()
    assert kept(source) == ["e1", "e2", "e3"]
    assert [path.name for path in path.parent.iterdir()] == ["a.csv"]


def test_a_link_is_what_it_leads_to(make_source: MakeSource, tmp_path: Path) -> None:
    source, path = one_file(make_source)
    outside, inside = tmp_path / "a.csv", source.home.root / "kept" / "b.csv"
    inside.parent.mkdir()
    for place, name in ((outside, "outside.csv"), (outside, "old.txt"), (inside, "inside.csv")):
        place.write_text(path.read_text())
        (path.parent / name).symlink_to(place)
    whole = source.home.root / "kept" / "hers.csv"
    whole.write_text("\n".join([HEADER, line(1, mail=ANN)]) + "\n")
    (path.parent / "hers.csv").symlink_to(whole)
    before = outside.read_text()
    found = {Path(copy.file).name: (copy.struck, copy.new_digest == copy.old_digest, copy.new_digest == "") for copy in landed(source, bury(source, ANNS))}
    told, gone = (1, True, False), (1, False, False)
    assert found == {"a.csv": gone, "inside.csv": gone, "outside.csv": told, "old.txt": told, "hers.csv": (1, False, True)}
    assert outside.read_text() == before and (path.parent / "outside.csv").is_symlink()
    assert ANN not in inside.read_text() and BOB in inside.read_text() and (path.parent / "inside.csv").is_symlink()
    assert not whole.exists() and not (path.parent / "hers.csv").is_symlink()


def test_a_file_that_may_not_be_read_stops_it_with_a_remedy(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = one_file(make_source)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(readers, "_plain", refuse)
    monkeypatch.setattr(UnreadTexts, "__iter__", refuse)
    with pytest.raises(StorageError, match=r"cannot be read \(Permission denied\)\n  Grant read permission"):
        landed(source, bury(source, ANNS))
    assert ANN in path.read_text()


def test_a_rewriting_that_a_kill_cut_short_is_finished(make_source: MakeSource) -> None:
    source, path = one_file(make_source)
    left = path.with_name(f".b.csv{_FRESH}")
    left.write_text("half")
    copies = LandingCopies(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, bury(source, ANNS))
    begun: list[Copy] = []

    class Killed(Exception):
        """In the place of a kill."""

    def kill(*_: object) -> None:
        raise Killed

    copies._log = kill  # type: ignore[method-assign]
    with pytest.raises(Killed):
        list(copies.erase(told=lambda _: None, about=begun.append))
    assert ANN not in path.read_text() and not left.exists()
    again = LandingCopies(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, copies.erased)
    finished = again.finish(begun[0])
    assert finished and finished.new_digest and finished.struck == 1
    assert again.finish(Copy("shop", str(path), 1, finished.new_digest, "")) is None, "what has not changed yet is not begun"
    assert source.ingest().rows_read == 0


@pytest.mark.parametrize(("said", "raised"), [("Out of Memory Error: failed to pin block", StorageError), ("IO Error: Input/output error", QueryError)])
def test_an_engine_at_its_end_takes_nobodys_file(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch, said: str, raised: type[Exception]) -> None:
    source, path = one_file(make_source)
    erased = bury(source, ANNS)

    def fail(*_: object) -> int:
        raise OperationalError(said)

    monkeypatch.setattr(erased, "mark", fail)
    with pytest.raises(raised):
        landed(source, erased)
    assert BOB in path.read_text()


@pytest.mark.parametrize("damage", ["truncated", pytest.param("altered", marks=pytest.mark.prove)])
def test_a_damaged_file_goes_if_its_readable_part_mentions_her_and_is_told_of_if_not(make_source: MakeSource, damage: str) -> None:
    source = make_source(files="{landing}/*.csv.gz")
    folder = source.home.landing / "shop"
    (folder / "old").mkdir(parents=True)

    def damaged(text: str) -> bytes:
        packed = gzip.compress(text.encode())
        return packed[:-9] if damage == "truncated" else packed[:-8] + b"\0" * 8

    rest = "".join(f"{line(number, mail=BOB)}\n" for number in range(10, 60))
    files = {"hers.csv.gz": f"{HEADER}\n{line(1, mail=ANN)}\n{rest}", "his.csv.gz": f"{HEADER}\n{rest}"}
    for file, text in files.items():
        (folder / file).write_bytes(damaged(text))
        (folder / "old" / file).write_bytes(damaged(text))
    (folder / "whole.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n{rest}".encode()) * 2 + b"\0" * 5)
    erased = bury(source, ANNS)
    copies = LandingCopies(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, erased)
    assert {Path(copy.file).name for copy in copies.naming()} == {"hers.csv.gz"}, "an export names no file that only cannot be read"
    found = sorted((str(Path(copy.file).relative_to(folder)), copy.is_read, copy.new_digest == "") for copy in landed(source, erased))
    assert found == [("hers.csv.gz", True, True), ("his.csv.gz", False, False), ("old/hers.csv.gz", True, True), ("old/his.csv.gz", False, False)]
    assert sorted(path.name for path in folder.rglob("*.gz")) == ["his.csv.gz", "his.csv.gz", "whole.csv.gz"]
