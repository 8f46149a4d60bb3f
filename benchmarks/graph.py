"""Ten million links to clusters, beside SciPy's connected_components on the same links; then a hundredth more links.

`python -m benchmarks.graph`. The links are those of persons with few identifiers each, as events give them; every number comes from one run of one process.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.report import table
from waymark.core.settings import EngineSettings
from waymark.core.warehouse import Connection, connect, rows
from waymark.identity.clusters import JoinRules, find_affected, rebuild_memberships, restate_memberships
from waymark.identity.history import NEVER, LinkGraph, linked_clusters
from waymark.identity.linkage.links import prepare_links
from waymark.identity.tables import prepare_identity

Numbers = np.ndarray[Any, Any]
RULES = JoinRules(threshold=0.95, one_account=True)
LINKS_A_PERSON = 2.0
SINCE = 1_767_225_600_000_000  # microseconds: 2026-01-01
_PROBABILITIES = np.array([0.999, 0.995, 0.99, 0.98])


def links_of_persons(count: int, seed: int) -> tuple[Numbers, Numbers, Numbers]:
    """About so many links (pairs of node numbers), of persons whose 2, 3, … identifiers each hang on an earlier one of theirs; and of each node its place among
    its person's."""
    chance = np.random.default_rng(seed)
    sizes = 2 + chance.poisson(LINKS_A_PERSON - 1, size=int(count / LINKS_A_PERSON))
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    place = np.arange(int(sizes.sum())) - np.repeat(first, sizes)
    later = np.flatnonzero(place > 0)
    earlier = np.repeat(first, sizes)[later] + (chance.random(len(later)) * place[later]).astype(np.int64)
    return earlier, later, place


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, of the wall and of the processor."""
    wall, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - cpu


def committed(connection: Connection, work: Callable[[], object]) -> None:
    """As the product does it: in one transaction, in a file."""
    connection.begin()
    work()
    connection.commit()


def scipy_clusters(link_a: Numbers, link_b: Numbers, size: int) -> Numbers:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found = connected_components(coo_array((np.ones(len(link_a), dtype=np.int8), (link_a, link_b)), shape=(size, size)), directed=False)[1]
    return np.asarray(found)


def fill(connection: Connection, link_a: Numbers, link_b: Numbers, place: Numbers) -> None:
    """Makes the tables of schema `identity` for these nodes and links. A person's first identifier is an account, the others are devices."""
    prepare_identity(connection)
    prepare_links(connection, anew=True)
    connection.register("new_nodes", pa.table({"n": np.arange(len(place)), "place": place}))
    connection.execute(f"""
        insert into identity.nodes
        select cast(hash(n) >> 1 as bigint), case place when 0 then 'user_id' else 'anonymous_id' end, 'web:' || n,
            make_timestamp({SINCE} + n % 15552000 * 1000000), make_timestamp({SINCE + 15552000 * 1000000}), 'c_' || left(md5(n::varchar), 24), 2, false
        from new_nodes""").fetchall()
    connection.unregister("new_nodes")
    insert_links(connection, link_a, link_b)


def insert_links(connection: Connection, link_a: Numbers, link_b: Numbers) -> None:
    connection.register("new_links", pa.table({"a": link_a, "b": link_b, "p": _PROBABILITIES[(link_a + link_b) % 4]}))
    connection.execute(f"""
        insert into identity.edges
        select least(cast(hash(a) >> 1 as bigint), cast(hash(b) >> 1 as bigint)), greatest(cast(hash(a) >> 1 as bigint), cast(hash(b) >> 1 as bigint)),
            'anonymous_id-user_id', make_timestamp({SINCE} + greatest(a, b)::bigint % 15552000 * 1000000), make_timestamp({SINCE + 15552000 * 1000000}), 1,
            md5(a::varchar), md5(b::varchar), p, 0
        from new_links""").fetchall()
    connection.unregister("new_links")


def measure(links: int, seed: int, memory_limit: str) -> dict[str, tuple[float, float]]:
    """Seconds by what was done."""
    link_a, link_b, place = links_of_persons(links, seed)
    extra = max(1, len(link_a) // 100)  # devices that are not linked yet
    place = np.concatenate((place, np.ones(extra, dtype=np.int64)))
    size = len(place)
    scipy: list[Numbers] = []
    found = {"SciPy's connected_components": timed(lambda: scipy.append(scipy_clusters(link_a, link_b, size)))}
    nobody = np.full(size, NEVER, dtype=np.int64)
    graph = LinkGraph(np.zeros(size, dtype=np.int64), nobody, link_a, link_b, np.zeros(len(link_a), dtype=np.int64))
    ours: list[Numbers] = []
    found["links to clusters"] = timed(lambda: ours.append(linked_clusters(graph)))
    assert len(np.unique(ours[0] * (int(scipy[0].max()) + 1) + scipy[0])) == len(np.unique(scipy[0]))  # the same partition
    chance = np.random.default_rng(seed + 1)
    one, other = chance.integers(0, size - extra, extra), np.arange(size - extra, size)
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder) / "graph.duckdb", engine=EngineSettings(memory_limit=memory_limit)) as connection:
        fill(connection, link_a, link_b, place)
        rebuild = partial(rebuild_memberships, connection, RULES)
        found["tables: links to clusters, customers, histories, confidence"] = timed(partial(committed, connection, rebuild))
        clusters = int(str(rows(connection, "select count(distinct cluster_id) from identity.clusters")[0][0]))
        assert clusters == len(np.unique(scipy[0])) - extra
        insert_links(connection, one, other)
        connection.register("seeds", pa.table({"n": np.concatenate((one, other))}))
        connection.execute("create or replace temp table seed_nodes as select distinct cast(hash(n) >> 1 as bigint) as node_id from seeds")

        def restate() -> None:
            find_affected(connection)
            restate_memberships(connection, RULES)

        found["tables: a hundredth more links"] = timed(partial(committed, connection, restate))
    print(f"{len(link_a):,} links of {size:,} identifiers, {clusters:,} clusters; then {extra:,} links more; seed {seed}.\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph", description="Links to clusters, beside SciPy.")
    parser.add_argument("--links", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--memory-limit", default="4GB", help="of DuckDB; default: %(default)s, the product's default")
    given = parser.parse_args()
    found = measure(given.links, given.seed, given.memory_limit)
    least = found["SciPy's connected_components"][0]
    lines = [[what, f"{wall:.2f}", f"{cpu:.2f}", f"{wall / least:.1f}"] for what, (wall, cpu) in found.items()]
    print(table(["", "seconds", "CPU seconds", "times SciPy's"], lines))


if __name__ == "__main__":
    main()
