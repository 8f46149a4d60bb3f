"""Files that are called after erased persons get another name, wherever that stands; and nobody else's do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.ingestion.burying import ANN, ANNS, BOB, HEADER, LANDING, bury, hashed, line
from tests.unit.ingestion.conftest import CSV_MAPPING, MakeSource, Source
from waymark.core.errors import WaymarkError
from waymark.ingestion import load_mapping
from waymark.ingestion.called import FileNames, telling_name
from waymark.ingestion.erased import Erased
from waymark.ingestion.files import known_files, new_files
from waymark.ingestion.quarantine import quarantine_list
from waymark.privacy.needles import Needles

HERS = [
    *ANNS, ("user_id", "shop:ann-the-customer"), ("anonymous_id", "shop:4711471147"), ("crm_id", hashed("crm_id", "CRM-00042-a")), ("order_id", "O-2026-77"),
]  # fmt: skip


def names_of(source: Source, erased: Erased, label: str = "e_1") -> FileNames:
    return FileNames(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, erased, label)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (f"takeout_{ANN}.csv", "takeout_*.csv"), (f"{ANN}.csv.gz", "*.csv.gz"), ("Ann%40Example.org-2026.csv", "*-2026.csv"), ("ann-the-customer", "*"),
        ("export (+41 44 123 45 67).csv", "export (*).csv"), ("CRM-00042-a.json", "*.json"), ("invoice O-2026-77.csv", "invoice *.csv"),
        ("cookie-of-ann+ann@example.org.csv", "*+*.csv"), ("cookie-of-ann.csv", "*.csv"), ("ünï_ann-the-customer_ü.csv", "ünï_*_ü.csv"),
    ],
)  # fmt: skip
def test_an_identifier_leaves_the_name_of_a_file_and_the_rest_stays(name: str, kept: str, make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files=LANDING)
    names = names_of(source, bury(source, HERS))
    fresh = Path(names._renamed(str(names.landing / "shop" / name))).name
    assert re.sub("erased-[0-9a-f]{12}", "*", fresh) == kept


@pytest.mark.parametrize(
    "name", [f"jo{ANN}.csv", BOB, "ann-7.csv", "4711471147.csv", "events_2026-03-01.csv", "2026/03/01.csv", "anns", "cookie-of-anna.csv", "Ann-The-Customer"]
)
def test_who_has_another_name_and_what_is_short_or_a_number_keeps_it(name: str, make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files=LANDING)
    names = names_of(source, bury(source, HERS))
    path = str(names.landing / "shop" / name)
    assert names._renamed(path) == path


def test_file_log_refused_rows_and_what_is_known_get_the_other_name_and_the_next_run_reads_nothing(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files="{landing}/**/*.csv")
    folder = source.home.landing / "shop" / "cookie-of-ann"
    folder.mkdir(parents=True)
    text = "\n".join([HEADER, line(1, mail=BOB), line(2, at="some day", mail=BOB)]) + "\n"
    for path in (folder / f"takeout_{ANN}.csv", folder / "same.csv", source.home.landing / "shop" / "plain.csv"):
        path.write_text(text if path.name != "plain.csv" else text.replace("e1,", "e3,").replace("e2,", "e4,"))
    (folder / f"broken_{ANN}.csv").write_bytes(b"\xff\xfe\x00nothing")
    source.ingest()
    source.home.warehouse.touch()  # without one nothing counts as known
    logged = "select file, note, error, file_digest from raw.ingestion_log order by file_id"
    before = source.connection.execute(logged).fetchall()
    assert len(before) == 4 and any("cookie-of-ann" in str(note) for _, note, _, _ in before)
    names = names_of(source, bury(source, HERS))
    found = names.found()
    assert len(found) == 3 and {telling_name(*pair) for pair in found.items()} == {"shop/cookie-of-ann"}
    names.rename(found)
    after = source.connection.execute(logged).fetchall()
    groups = quarantine_list(source.home)
    said = [*map(str, after), *(group.file for group in groups), *map(str, source.home.landing.rglob("*")), str(known_files(source.home))]
    assert not any("ann" in text.replace("landing", "") for text in said)
    assert [row[3] for row in after] == [row[3] for row in before] and sorted(group.rows for group in groups) == [1, 1]
    paths = {path for path in source.home.landing.rglob("*") if path.is_file()}
    assert {file for file, *_ in after} == set(map(str, paths)) and {group.file for group in groups} <= set(map(str, paths))
    assert len(paths) == 4 and not folder.exists() and names.found() == {}
    assert {path.name.split("_")[0] for path in new_files(source.project, "shop")} == {"broken"}, "a refused file is tried at every run"
    report = source.ingest()
    assert report.rows_read == 0 and source.connection.execute("select count(*) from raw.ingestion_log").fetchall() == [(4,)]


def test_what_a_crash_left_half_done_is_done_by_the_next_try_and_what_came_again_stays(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(CSV_MAPPING, files="{landing}/*.csv")
    folder = source.home.landing / "shop"
    folder.mkdir(parents=True)
    path = folder / f"takeout_{ANN}.csv"
    path.write_text("\n".join([HEADER, line(1, mail=BOB)]) + "\n")
    source.ingest()
    names = names_of(source, bury(source, HERS))
    found = names.found()

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("waymark.ingestion.called.rename_quarantined", kill)
        names.rename(found)
    (fresh,) = folder.iterdir()
    assert names.found() == found == {str(path): str(fresh)}, "the log still says the old one"
    path.write_text("another")
    names.rename(names.found())
    assert path.read_text() == "another" and fresh.read_text() != "another"
    assert source.connection.execute("select file from raw.ingestion_log").fetchall() == [(str(fresh),)]
    again = names_of(source, names.erased, "e_2").found()
    assert list(again) == [str(path)] and again[str(path)] != str(fresh), "a name that an earlier request gave is not given again"


def test_files_outside_of_the_home_are_told_of_and_folders_above_them_are_not_theirs(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING)
    source.put(f"{ANN}.csv", HEADER + "\n")
    source.put("plain.csv", HEADER + "\n")
    names = names_of(source, bury(source, HERS))
    with pytest.raises(WaymarkError, match=rf"{ANN}\.csv: the file is called after one of the persons.*\n  Rename or remove it \(1 such"):
        names.refuse_outside()
    above = names_of(source, bury(source, [("user_id", f"shop:{source.folder.name}")]))
    with pytest.raises(WaymarkError, match=r"\(1 such"):
        above.refuse_outside()
    (source.data / f"{ANN}.csv").unlink()
    above.refuse_outside()


def test_a_name_is_found_again_by_what_is_known_in_clear() -> None:
    needles = Needles(given=frozenset([ANN, "shop:ann-the-customer", "shop:short"]))
    assert all(map(needles.are_in_name, (f"takeout_{ANN}.csv", f"{ANN.upper()}", "ann-the-customer", "x (ann-the-customer)")))
    assert not any(map(needles.are_in_name, (f"jo{ANN}", "short", "ann-the-customers", "Ann-The-Customer", "shop")))
