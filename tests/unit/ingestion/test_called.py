"""Files that are called after persons stop their erasure; what the home says of such files names nobody afterwards, and of others what it said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.ingestion.burying import ANN, ANNS, BOB, HEADER, LANDING, hashed, line
from tests.unit.ingestion.conftest import CSV_MAPPING, SECRET, MakeSource, Source
from waymark.core.errors import WaymarkError
from waymark.ingestion import load_mapping
from waymark.ingestion.called import FileNames
from waymark.ingestion.files import known_files, save_known
from waymark.ingestion.quarantine import quarantine_list
from waymark.privacy.needles import Needles
from waymark.privacy.tombstones import first_erasure_key, tombstone

HERS = [*ANNS, ("user_id", "shop:ann-the-customer"), ("anonymous_id", "shop:4711471147"), ("crm_id", hashed("crm_id", "CRM-00042-a"))]
NEEDLES = Needles(given=frozenset(["shop:ann-7", "cookie-of-ann", "shop:cookie-of-ann", "old_shop:visitor-of-old"]))


def names_of(source: Source, identifiers: list[tuple[str, str]] = HERS, needles: Needles = NEEDLES, label: str = "e_1") -> FileNames:
    key = first_erasure_key(source.home, buried=False)
    tombstones = [[kind, tombstone(key, kind, value)] for kind, value in [*identifiers, ("anonymous_id", "old_shop:visitor-of-old")]]
    return FileNames(source.project, {"shop": load_mapping(source.folder / "shop.yml")}, SECRET, tombstones, needles=needles, label=label)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (f"takeout_{ANN}.csv", "takeout_*.csv"), (f"{ANN}.csv.gz", "*.csv.gz"), ("Ann%40Example.org-2026.csv", "*-2026.csv"), ("ann-the-customer", "*"),
        ("export (+41 44 123 45 67).csv", "export (*).csv"), ("CRM-00042-a.json", "*.json"), ("cookie-of-ann+ann@example.org.csv", "*+*.csv"),
        ("cookie-of-ann.csv", "*.csv"), ("u\u0308nï_ann-the-customer_ü.csv", "u\u0308nï_*_ü.csv"), ("visitor-of-old.csv", "*.csv"), ("shop:ann-7.csv", "*.csv"),
        # What only the search of texts tells: the letters beside it are none of its, and a longer word hides it from who reads names by words.
        ("顧客cookie-of-annのデータ.csv", "*"),
    ],
)  # fmt: skip
def test_an_identifier_is_told_in_a_name_and_the_rest_of_it_stays(name: str, kept: str, make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files=LANDING)
    fresh = Path(names_of(source).without(str(source.home.landing / "shop" / name)))
    assert re.sub("erased-[0-9a-f]{12}", "*", fresh.name) == kept and fresh.parent == source.home.landing / "shop"


@pytest.mark.parametrize(
    "name", [f"jo{ANN}.csv", BOB, "ann-7.csv", "4711471147.csv", "events_2026-03-01.csv", "2026/03/01.csv", "anns", "cookie-of-anna.csv", "Ann-The-Customer"]
)
def test_who_has_another_name_and_what_is_short_or_a_number_is_not(name: str, make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files=LANDING)
    path = str(source.home.landing / "shop" / name)
    assert names_of(source).without(path) == path


def test_files_and_folders_called_so_are_refused_and_folders_above_are_not_theirs(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING)
    plain, landed = source.put("plain.csv", HEADER + "\n"), source.home.landing / "shop" / "cookie-of-ann"
    names_of(source).refuse()
    above = source.folder.name  # a user whose id is what the project's folder is called: names below it do not name her
    assert len(above) >= 8 and names_of(source, [("user_id", f"shop:{above}")]).without(str(plain)) == str(plain)
    with pytest.raises(WaymarkError, match=r"or one above it, is called after one of the persons.*\n  Move it"):
        names_of(source, needles=Needles(given=frozenset([above]))).refuse()
    called = source.put(f"{ANN}.csv", HEADER + "\n")
    with pytest.raises(WaymarkError, match=rf"{ANN}\.csv: called after one of the persons.*\(1 such files and folders\)\n  Rename or remove"):
        names_of(source).refuse()
    called.unlink()
    operators = source.home.landing / "waymark_operator"  # Waymark's own folder, and a source's, are called after nobody
    operators.mkdir(parents=True)
    names_of(source, [("user_id", "shop:operator"), ("user_id", "shop:waymark_operator")]).refuse()
    landed.mkdir(parents=True)
    with pytest.raises(WaymarkError, match=r"cookie-of-ann: called after one of the persons"):
        names_of(source).refuse()


def test_log_and_refused_rows_say_another_name_and_nothing_else_changes(make_source: MakeSource) -> None:
    source = make_source(CSV_MAPPING, files="{landing}/**/*.csv")
    folder = source.home.landing / "shop" / "cookie-of-ann"
    folder.mkdir(parents=True)
    text = "\n".join([HEADER, line(1, mail=BOB), line(2, at="some day", mail=BOB)]) + "\n"
    others = source.home.landing / "shop" / f"jo{ANN}.csv"
    for path in (folder / "first.csv", folder / "same.csv", others):
        path.write_text(text if path != others else text.replace("e1,", "e3,").replace("e2,", "e4,"))
    (source.home.landing / "shop" / "ann-the-customer.csv").write_bytes(b"\xff\xfe\x00nothing")
    source.ingest()
    source.home.warehouse.touch()  # without one nothing counts as known
    save_known(source.home, "gone", {"/data/cookie-of-ann/a.csv": (1, 2), "/data/plain.csv": (1, 2)})
    logged = "select file, note, error, * exclude (file, note, error) from raw.ingestion_log order by file_id"
    before = source.connection.execute(logged).fetchall()
    assert len(before) == 4 and any("cookie-of-ann" in str(row[1]) for row in before) and any("ann-the-customer" in str(row[2]) for row in before)
    noted: list[str] = []
    names = names_of(source)
    names.rename(source.connection, noted.extend)
    assert sorted(Path(name).name for name in noted if "/" in name) == ["ann-the-customer.csv", "first.csv", "same.csv"]
    assert [name for name in noted if "/" not in name] == ["ann-the-customer.csv"]
    after = source.connection.execute(logged).fetchall()
    groups = quarantine_list(source.home)
    said = [*map(str, after), *(group.file for group in groups)]
    assert not any(text in told for text in ("cookie-of-ann", "ann-the-customer") for told in said)
    assert [row[3:] for row in after] == [row[3:] for row in before] and sorted(group.rows for group in groups) == [1, 1]
    files = {str(row[0]) for row in after}
    assert str(others) in files and {group.file for group in groups} <= files and len(files) == 4
    (note,) = [str(row[1]) for row in after if row[1]]
    assert note.removeprefix("same content as ") in files
    assert known_files(source.home)["gone"] == {"/data/plain.csv": (1, 2)} and str(others) in known_files(source.home)["shop"]
    names.rename(source.connection, noted.append)
    assert source.connection.execute(logged).fetchall() == after, "a second time changes nothing"


def test_what_a_crash_left_half_done_is_done_by_the_next_try(make_source: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(CSV_MAPPING, files="{landing}/*.csv")
    path = source.home.landing / "shop" / f"takeout_{ANN}.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([HEADER, line(1, mail=BOB), line(2, at="some day", mail=BOB)]) + "\n")
    source.ingest()
    names = names_of(source)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(source.connection.__class__, "begin", kill, raising=False)
        names.rename(source.connection, lambda _: None)
    assert [Path(group.file).name.startswith("takeout_erased-") for group in quarantine_list(source.home)] == [True]
    assert source.value("select file from raw.ingestion_log") == str(path)
    names.rename(source.connection, lambda _: None)
    assert source.value("select file from raw.ingestion_log") == quarantine_list(source.home)[0].file
