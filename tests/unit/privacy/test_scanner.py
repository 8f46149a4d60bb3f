"""The scan finds what is there: in bytes, packed or not, in every kind of store and column; and nothing where nothing is."""

from __future__ import annotations

import gzip
import io
import random
import re
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from waymark.core.home import Home
from waymark.core.warehouse import connect
from waymark.privacy import scanner
from waymark.privacy.needles import Needles
from waymark.privacy.scanner import scan, scrub_stores

WHO = "c_0123456789abcdef01234567"
NODE = -8_234_567_890_123_456_789
KEY = 2**127 + 12_345_678_901_234_567


def test_bytes_are_found_at_every_offset_and_over_the_ends_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against a search of each text at each offset: of what Waymark made anywhere, of the rest where nothing joins it."""
    chance = random.Random(11)
    made = {"".join(chance.choice("abcdef0123") for _ in range(chance.randint(12, 40))) for _ in range(20)}
    given = {"".join(chance.choice("abcdef01") + chance.choice("2:.@-") * (chance.random() < 0.2) for _ in range(chance.randint(10, 30))) for _ in range(20)}
    given |= {text[:-1] for text in sorted(given)[:5]} | {f"{text}x" for text in sorted(given)[:5]}
    needles = Needles(frozenset(made), frozenset(given))
    data = bytearray(chance.randbytes(12_000))
    beside = [b"", b" ", b", ", b"\n", b"a", b".", b"..", b". a", b".uk", b":", b":7", b"_", b"@", b"%", b"-", b"....a", b"\xc3"]
    for _ in range(250):
        text = chance.choice(beside)[::-1] + chance.choice(sorted(made | given)).encode() + chance.choice(beside)
        place = chance.randint(0, len(data) - 80)
        data[place : place + len(text)] = text
    content = bytes(data)
    expected = sum(content.startswith(text.encode(), place) for text in made for place in range(len(content)))
    joined = 0
    for text in given:
        left, right = ("@" in text or ":" in text), "@" in text
        before = rb"(?<![0-9A-Za-z@.%+_\-])" if left else rb"(?<![0-9A-Za-z@.%+_:\-])"
        after = rb"(?![.\-]{0,3}[0-9A-Za-z@%+_])" if right else rb"(?![.:\-]{0,3}[0-9A-Za-z@%+_])"
        found = len(re.findall(b"(?=" + before + re.escape(text.encode()) + after + b")", content))
        expected, joined = expected + found, joined + content.count(text.encode()) - found
    assert expected > 60 and joined > 20
    for size in (64, 1_000, 1 << 24):
        monkeypatch.setattr(scanner, "_CHUNK", size)
        assert scanner._Bytes(needles.all).count(io.BytesIO(content)) == expected, size


ANN, ID = "ann@example.org", "shop:1042"
HOLDING = (
    "ann@example.org", "mail <ann@example.org>, now", "she is ann@example.org.", "ann@example.org: she", '["ann@example.org"]', "mailto:ann@example.org",
    "ann@example.org:8080", "user_id:shop:1042", "shop:1042 and shop:10421", '{"user":"shop:1042","n":1}', f"{WHO}_1700000000000000", f'["{WHO}_17", "x_18"]',
    f"s|{WHO}|goal", f"{NODE}_7", f"key {KEY}", "sho:42", "Z\u00fcrich-cookie-7,x",
)  # fmt: skip
LOOKING_ALIKE = (
    "joann@example.org", "ann@example.org.uk", "ann@example.orgs", "jo.ann@example.org", "jo_ann@example.org", "ann@example.org-x", "shop:10421", "shop:1042_2",
    "shop:1042:3", "myshop:1042", "shop:1042.5", "sho:421", "42", "4711", "123456789012", "f7", "c_0123456789abcdef0123456", "12345678901234",
    "Z\u00fcrich-cookie-78",
)  # fmt: skip


def test_bytes_columns_and_rows_agree_on_what_holds_a_needle(tmp_path: Path) -> None:
    given = {ANN, ID, "sho:42", "42", "4711", "123456789012", "f7", "Z\u00fcrich-cookie-7"}
    needles = Needles(frozenset({WHO}), frozenset(given), frozenset({NODE, KEY}))
    home, texts = Home(tmp_path), [*HOLDING, *LOOKING_ALIKE]
    folder = tmp_path / "dagster"
    folder.mkdir()
    database = sqlite3.connect(folder / "log.db")
    with database:
        database.execute("create table events (number integer, body text)")
        database.executemany("insert into events values (?, ?)", enumerate(texts))
        database.executemany("insert into events values (?, ?)", [(42, 4711), (123_456_789_012, None)])
    database.close()
    with connect(tmp_path / "some.duckdb") as connection:
        for number, text in enumerate(texts):
            connection.execute(f"create table t{number} as select ? as body, ['x', ?] as listed, 42::bigint as n, 4711::hugeint as h", [text, text])
    for number, text in enumerate(texts):
        (tmp_path / f"f{number}.txt").write_text(f"x {text}\n")
    found = scan(home, needles).found
    columns = {where.split(".t")[1].split(".")[0] for where in found if ".listed" in where}
    assert columns == {where.split(".t")[1].split(".")[0] for where in found if ".body" in where and "log.db" not in where}
    assert {texts[int(number)] for number in columns} == set(HOLDING)
    files = {texts[int(where[1:-4])] for where in found if where.endswith(".txt")}
    assert files == set(HOLDING) - {"sho:42"}, "what is so short stands in bytes by accident"
    assert found["dagster/log.db: events.body"] == len(HOLDING) and not any(where.endswith((".number", ".n", ".h")) for where in found)
    told: list[tuple[str, int]] = []
    assert scrub_stores(folder, needles, told=lambda path, count: told.append((path.name, count))) == len(HOLDING) and told == [("log.db", len(HOLDING))]
    database = sqlite3.connect(folder / "log.db")
    assert [body for (body,) in database.execute("select body from events where number < 42 order by number")] == list(LOOKING_ALIKE)
    assert database.execute("select count(*) from events where number >= 42").fetchone() == (2,)
    database.close()
    assert [text for text in texts if needles.are_in(text)] == list(HOLDING)


def test_in_what_is_made_of_events_an_id_counts_with_its_namespace_only(tmp_path: Path) -> None:
    """Without it, it is what somebody else's record says: the address of a page, say, that she sent a friend."""
    given = frozenset({"web:cookie-of-ann-one", "cookie-of-ann-one", ANN})
    with connect(tmp_path / "made.duckdb") as connection:
        connection.execute("create table t as select 'https://shop.example/?id=cookie-of-ann-one' as page, 'web:cookie-of-ann-one' as who, ? as mail", [ANN])
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.csv").write_text("https://shop.example/?id=cookie-of-ann-one\n")
    (tmp_path / "note.txt").write_text("cookie-of-ann-one\n")
    found = scan(Home(tmp_path), Needles(given=given), made_of_events=[tmp_path / "lake", tmp_path / "made.duckdb"]).found
    assert {where for where in found if ": " in where or "/" in where} == {"made.duckdb: main.t.who", "made.duckdb: main.t.mail"} and "note.txt" in found
    assert {"made.duckdb: main.t.page", "lake/a.csv"} <= set(scan(Home(tmp_path), Needles(given=given)).found)


def test_of_many_addresses_the_bytes_are_looked_for_that_tell_them_apart() -> None:
    needles = Needles(given=frozenset({f"waymark_world:cookie-{number:04d}@example.org" for number in range(300)}))
    assert max(len(sharing) for sharing in scanner._Bytes(needles.all).by_window.values()) == 1


def test_every_store_and_every_kind_of_column_is_looked_at(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "plain.txt").write_text(f"seen {WHO} here")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(f"seen {WHO} here".encode()))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inside.txt", f"{WHO}")
    pq.write_table(pa.table({"who": [WHO, "c_other"], "nested": [[{"value": WHO}], None], "n": [1, 2]}), tmp_path / "a.parquet", compression="zstd")
    with connect(tmp_path / "some.duckdb") as connection:
        connection.execute(f"""
            create table t as select '{WHO}' as who, {NODE}::bigint as node, {KEY}::uhugeint as key, [{NODE}::bigint] as nodes, 7::bigint as small,
                '{{"of": "{WHO}"}}' as json, encode('{WHO}') as raw, 1.5 as n""")
    database = sqlite3.connect(tmp_path / "log.db")
    with database:
        database.execute("create table events (body text, n integer)")
        database.execute("insert into events values (?, 1), ('nothing', 2)", (f'{{"who": "{WHO}"}}',))
    database.close()
    report = scan(home, Needles(frozenset({WHO}), numbers=frozenset({NODE, KEY})))
    where = set(report.found)
    assert {"plain.txt", "packed.gz (unpacked)", "packed.zip (inside.txt)", "a.parquet: who", "a.parquet: nested", "log.db: events.body", "log.db"} <= where
    assert {f"some.duckdb: main.t.{column}" for column in ("who", "node", "key", "nodes", "json", "raw")} <= where
    assert not {f"some.duckdb: main.t.{column}" for column in ("small", "n")} & where and "a.parquet: n" not in where
    assert report.files == 6
    nothing = scan(home, Needles(given=frozenset({"c_nobody_has_this_id"}), numbers=frozenset({12_345_678_901_234})))
    assert nothing.found == {} and (nothing.files, nothing.columns) == (report.files, report.columns)
    assert "plain.txt" not in scan(home, Needles(frozenset({WHO})), besides=[tmp_path / "plain.txt"]).found


def test_what_a_query_no_longer_finds_is_found_in_freed_blocks_and_not_in_a_fresh_file(tmp_path: Path) -> None:
    gone, home = "c_000000000000000000000777", Home(tmp_path)
    with connect(tmp_path / "old.duckdb") as connection:
        connection.execute("pragma force_compression = 'uncompressed'")
        connection.execute("create table t as select format('c_{:024d}', i) as who from range(200000) r(i)")
        connection.execute("checkpoint")
        connection.execute(f"create or replace table t as from t where who <> '{gone}'")
        connection.execute("checkpoint")
        connection.execute(f"attach '{tmp_path / 'fresh.duckdb'}' as fresh")
        connection.execute("copy from database old to fresh")
    found = scan(home, Needles(frozenset({gone}))).found
    assert set(found) == {"old.duckdb"}


def test_rows_of_a_log_are_scrubbed_with_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.db"
    path.parent.mkdir()
    database = sqlite3.connect(path)
    with database:
        database.execute("create table events (body text)")
        database.executemany("insert into events values (?)", [(f"about {WHO}",), ("about nobody",)])
    database.close()
    needles = Needles(frozenset({WHO}))
    assert scrub_stores(tmp_path, needles) == 1 and scrub_stores(tmp_path, needles) == 0
    assert scan(Home(tmp_path), needles).found == {}
    database = sqlite3.connect(path)
    assert database.execute("select body from events").fetchall() == [("about nobody",)]
    database.close()
