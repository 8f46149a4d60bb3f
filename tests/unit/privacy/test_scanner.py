"""The scan finds what is there: in bytes, packed or not, in every kind of store and column; and nothing where nothing is."""

from __future__ import annotations

import gzip
import io
import random
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from waymark.core.home import Home
from waymark.core.warehouse import connect
from waymark.privacy import scanner
from waymark.privacy.scanner import Needles, scan, scrub_stores

WHO = "c_0123456789abcdef01234567"
NODE = -8_234_567_890_123_456_789
KEY = 2**127 + 12_345_678_901_234_567


def test_bytes_are_found_at_every_offset_and_over_the_ends_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against a search of each text at each offset."""
    chance = random.Random(11)
    texts = ["".join(chance.choice("abcdef0123") for _ in range(chance.randint(8, 40))) for _ in range(40)]
    texts += [texts[0][:9], texts[0] + "x"]  # one begins another
    data = bytearray(chance.randbytes(6_000))
    for _ in range(60):
        text, place = chance.choice(texts).encode(), chance.randint(0, len(data) - 50)
        data[place : place + len(text)] = text
    content = bytes(data)
    expected = sum(content.startswith(text.encode(), place) for text in set(texts) for place in range(len(content)))
    assert expected > 40
    for size in (64, 1_000, 1 << 24):
        monkeypatch.setattr(scanner, "_CHUNK", size)
        assert scanner._Bytes(texts).count(io.BytesIO(content)) == expected, size


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
    report = scan(home, Needles(frozenset({WHO}), frozenset({NODE, KEY})))
    where = set(report.found)
    assert {"plain.txt", "packed.gz (unpacked)", "packed.zip (inside.txt)", "a.parquet: who", "a.parquet: nested", "log.db: events.body", "log.db"} <= where
    assert {f"some.duckdb: main.t.{column}" for column in ("who", "node", "key", "nodes", "json", "raw")} <= where
    assert not {f"some.duckdb: main.t.{column}" for column in ("small", "n")} & where and "a.parquet: n" not in where
    assert report.files == 6
    nothing = scan(home, Needles(frozenset({"c_nobody_has_this_id"}), frozenset({12_345_678_901_234})))
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
