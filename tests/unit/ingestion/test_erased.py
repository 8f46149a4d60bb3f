"""Records of erased persons are never taken in, and leave the lake and the refused rows; nobody else's do."""

from __future__ import annotations

import pytest

from tests.unit.ingestion.burying import ANN, ANNS, BOB, bury, hashed, kept, line, put
from tests.unit.ingestion.conftest import SECRET, Source
from waymark.core.errors import StorageError
from waymark.ingestion import load_mapping
from waymark.ingestion.erased import Erased
from waymark.ingestion.erasing import erase_from_lake
from waymark.ingestion.quarantine import erase_quarantined, quarantine_replay, quarantined_of
from waymark.privacy.needles import Needles
from waymark.privacy.text_search import TextSearch


def test_a_file_that_comes_again_brings_nobody_back(source: Source) -> None:
    bury(source, ANNS)
    put(source, "a.csv", [
        line(1, visitor="cookie-of-ann"), line(2, login="ann-7", visitor="shared"), line(3, mail=" Ann@Example.ORG"), line(4, tel="0041 (0)44 123 45 67"),
        line(5, visitor="shared"), line(6, mail=BOB), line(7, login="ann-77"), line(8),
    ])  # fmt: skip
    assert kept(source) == ["e5", "e6", "e7", "e8"]
    source.assert_conserved()
    refused = source.rows("select row_number, rule, original from raw.quarantine order by row_number")
    assert refused == [(number, "erased", "") for number in (1, 2, 3, 4)]
    assert quarantine_replay(source.project, "shop", source.connection, SECRET).rows_tried == 0
    source.assert_conserved()


def test_without_the_key_of_the_tombstones_nothing_is_taken_in(source: Source) -> None:
    bury(source, ANNS)
    (source.home.privacy / "erasure_key").unlink()
    with pytest.raises(StorageError, match="gone"):
        put(source, "a.csv", [line(1, mail=ANN)])
    with pytest.raises(StorageError, match="gone"):
        Erased.looking_for(source.connection, source.home, SECRET, ANNS)
    assert kept(source) == [] and not (source.home.privacy / "erasure_key").exists()


def test_who_comes_back_after_the_erasure_is_a_new_person(source: Source) -> None:
    bury(source, ANNS, until="2026-03-01 12:00:00")
    put(source, "a.csv", [line(1, mail=ANN), line(2, mail=ANN, at="2026-03-02T10:00:00Z"), line(3, mail=ANN, at="2037-01-01T00:00:00Z"), line(4)])
    assert kept(source) == ["e2", "e4"], "a time that is still to come says nothing of when"
    assert source.rows("select row_number, rule from raw.quarantine order by 1") == [(1, "erased"), (3, "erased")]


def test_an_event_that_names_nobody_goes_by_its_order(source: Source) -> None:
    bury(source, [("order_id", "O-1")])
    put(source, "a.csv", [line(1, order="O-1"), line(2, order="O-1", mail=BOB), line(3, order="O-2")])
    assert kept(source) == ["e2", "e3"]


def test_refused_records_that_mention_an_erased_person_keep_no_text(source: Source) -> None:
    bury(source, ANNS)
    put(source, "a.csv", [
        f'e1,2026-03-01T10:00:00Z,page_viewed,v1,,,,,,,"never closed {ANN}', f"e2,soon,page_viewed,v2,,,,,,,call {ANN}.,,",
        "e3,2026-03-01T10:00:00Z,cookie-of-ann",
        "e4,soon,page_viewed,v4,,,,,,,nothing,,", line(5, visitor="v5", note=f"ask {ANN}"),
    ])  # fmt: skip
    found = dict(source.rows("select row_number, rule from raw.quarantine"))
    assert found == {1: "erased", 2: "erased", 3: "erased", 4: "bad_occurred_at"}
    assert source.rows("select distinct original from raw.quarantine where rule = 'erased'") == [("",)]
    assert kept(source) == ["e5"], "who mentions her is somebody else: the door has masked her address"
    source.assert_conserved()


def test_what_was_taken_in_leaves_lake_index_and_refused_rows(source: Source) -> None:
    put(source, "a.csv", [line(1, visitor="cookie-of-ann"), line(2, mail=ANN, visitor="shared"), line(3, visitor="shared"), line(4, mail=BOB)])
    put(source, "b.csv", [line(5, mail=BOB), f"e6,soon,page_viewed,v,,,,,,,{ANN},,", "e7,soon,page_viewed,v,,,,,,,,,", line(8, at="2026-03-05T10:00:00Z")])
    clock = source.value("select data_now from raw.run_clock")
    erased = bury(source, ANNS)
    told = quarantined_of(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, erased)
    assert [row.row_number for row in told] == [2]
    assert erase_quarantined(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, source.connection, SECRET) == 1
    asked: list[int] = []
    removals = erase_from_lake(source.connection, source.home, ["shop"], erased, and_then=lambda: asked.append(1))
    assert [(removal.rows, removal.files) for removal in removals] == [(2, 2)] and asked == [1]
    assert kept(source) == ["e3", "e4", "e5", "e8"]
    assert source.value("select count(*) from raw.event_index") == 4
    assert source.rows("select file_id, event_type, rows_removed, reason from raw.removals") == [(None, None, 2, "erasure")]
    assert source.value("select data_now from raw.run_clock") == clock
    assert source.rows("select row_number, rule from raw.quarantine order by 1") == [(3, "bad_occurred_at")]
    assert erase_from_lake(source.connection, source.home, ["shop"], erased, and_then=lambda: asked.append(1)) == []
    assert erase_quarantined(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, source.connection, SECRET) == 0


def test_what_the_last_scan_looks_for_in_a_text_of_somebody_else_goes_with_its_event(source: Source) -> None:
    """A customer id that a mailing put into an address, or an id with its namespace: nobody else's is like it. Where it is part of a longer one, it stays."""
    customer, said = "c_0123456789abcdef01234567", "shop:cookie-of-ann"
    put(source, "a.csv", [
        line(1, mail=BOB, note=f"https://x.example/?c={customer}"), line(2, mail=BOB, note=f"see {said}"), line(3, mail=BOB, note=f"see {said}a"),
        line(4, mail=BOB), f"e5,soon,page_viewed,v,,,,,,,{customer},,", "e6,soon,page_viewed,v,,,,,,,,,",
    ])  # fmt: skip
    erased, search = bury(source, ANNS), TextSearch(source.connection, Needles(frozenset([customer]), frozenset([said])))
    mappings = {"shop": load_mapping(source.folder / "shop.yml")}
    assert erase_quarantined(source.project, mappings, source.connection, SECRET) == 0
    assert erase_quarantined(source.project, mappings, source.connection, SECRET, search) == 1
    erase_from_lake(source.connection, source.home, ["shop"], erased, search=search, and_then=lambda: None)
    assert kept(source) == ["e3", "e4"]


def test_another_content_of_an_event_shows_when_hers_has_left(source: Source) -> None:
    put(source, "a.csv", [line(1, mail=ANN)])
    put(source, "b.csv", [line(1, mail=BOB, at="2026-03-01T11:00:00Z")])
    assert source.rows("select count(*), count(*) filter (where is_survivor) from raw.event_conflicts") == [(2, 1)]
    erase_from_lake(source.connection, source.home, ["shop"], bury(source, ANNS), and_then=lambda: None)
    assert source.events("source_event_id, identifiers") == [("e1", [{"type": "email", "value": hashed("email", BOB)}])]
    assert source.rows("from raw.event_conflicts") == []
    source.assert_conserved()
