"""What the leak check's scratch warehouse is given of probable links: what was known at the point, of the sampled."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from waymark.core.warehouse import connect, rows
from waymark.identity import prepare_identity
from waymark.identity.linkage.links import LINKS, prepare_links
from waymark.identity.probable import rebuild_probable
from waymark.pipeline.leaks import _copy_events, _known_links


def day(number: int) -> datetime:
    return datetime(2026, 1, number)


def test_the_rebuilt_sample_has_the_links_that_were_known_at_the_point(tmp_path: Path) -> None:
    scratch: Any = SimpleNamespace(mappings={}, warehouse=tmp_path / "warehouse.duckdb")
    known = [
        (1, 2, 0.97, 5, day(1), None), (1, 3, 0.97, 5, day(1), day(2)), (2, 3, 0.97, 5, day(1), day(6)), (2, 4, 0.97, 5, day(1), day(5)),
        (3, 4, 0.97, 5, day(5), None), (1, 9, 0.97, 5, day(1), None), (8, 9, 0.97, 5, day(1), None),
    ]  # fmt: skip
    with connect() as connection:
        prepare_links(connection, anew=True)
        connection.executemany(f"insert into {LINKS} values (?, ?, ?, ?, ?, ?)", known)
        connection.execute("create temp table sampled_nodes as select unnest([1, 2, 3, 4]) as node_id")
        _copy_events(connection, scratch, str(day(5)))
    with connect(scratch.warehouse) as connection:
        prepare_identity(connection)
        rebuild_probable(connection, _known_links, threshold=0.95)
        found = rows(connection, f"from {LINKS} order by node_a, node_b")
        assert rows(connection, "select node_a, node_b from identity.edges order by all") == [(1, 2), (1, 3), (2, 3), (2, 4)]
    # As known at T, a link that ends at T holds; it and one that ends later had no end then.
    assert found == [(*known[0],), (*known[1],), (2, 3, 0.97, 5, day(1), None), (2, 4, 0.97, 5, day(1), None)]
