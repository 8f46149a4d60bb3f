from __future__ import annotations

import hashlib
import random
from pathlib import Path

from waymark.core.digest import file_digest, table_digest
from waymark.core.warehouse import connect


def test_a_table_digest_is_free_of_row_order_and_storage_but_not_of_content() -> None:
    rows = [(i, f"t{i}", None if i % 7 == 0 else i / 3) for i in range(500)]
    digests = set()
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        connection = connect()
        connection.execute("create table t (a integer, b varchar, c double)")
        connection.executemany("insert into t values (?, ?, ?)", rows)
        digests.add(table_digest(connection, "t"))
    assert len(digests) == 1
    before = digests.pop()
    connection.execute("update t set c = c + 1e-9 where a = 1")
    assert table_digest(connection, "t") != before


def test_a_table_digest_sees_a_row_that_stands_twice() -> None:
    connection = connect()
    once = table_digest(connection, "(select 1 as a union all select 2)")
    assert table_digest(connection, "(select 1 as a union all select 2 union all select 2)") != once
    assert table_digest(connection, "(select null::integer as a)") != table_digest(connection, "(select 0 as a)")


def test_a_file_digest_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 3_000_000)
    assert file_digest(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
