"""The lake that everything is measured on: a simulated world, ingested once by Waymark and kept; and the same lake cut into increments."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.process import REPOSITORY, measure
from waymark.core.quoting import file_list
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import OUTPUTS, Connection, attach_another, connect, outputs_of, rows

DEMO = REPOSITORY / "examples" / "demo"
SOURCE = "waymark_world"
EVENTS_PER_CUSTOMER = 20
INCREMENT_PERCENT = 1
PARTS = ("base", "scattered", "last")


@dataclass(frozen=True)
class Lake:
    """A project folder whose home holds an ingested lake, and the state of its warehouse right after ingestion."""

    directory: Path
    ingested: dict[str, Any]

    @property
    def project(self) -> Project:
        return load_project(self.directory)

    @property
    def fresh_warehouse(self) -> Path:
        return self.directory / "ingested.duckdb"

    def reset(self) -> None:
        """Puts the warehouse back to where ingestion left it; what is known of earlier builds, perhaps by other code, is forgotten."""
        home = self.project.home
        for path in (home.warehouse, outputs_of(home.warehouse)):
            for old in (path, path.with_name(path.name + ".wal")):
                old.unlink(missing_ok=True)
        shutil.copyfile(self.fresh_warehouse, home.warehouse)
        with connect(home.warehouse) as connection:
            connection.execute("drop table if exists raw.build_state")


def customers_for(events: int) -> int:
    return max(100, events // EVENTS_PER_CUSTOMER)


def ingested_lake(work: Path, events: int, seed: int, memory_limit: str) -> Lake:
    """The lake of a world of about so many events; made and ingested where it is not there yet."""
    directory = work / f"world-{events}-{seed}"
    marker = directory / "ingested.json"
    write_project(directory, memory_limit)
    lake = Lake(directory, {})
    if not marker.exists():
        home = lake.project.home
        shutil.rmtree(home.root, ignore_errors=True)
        landing = home.landing / SOURCE
        home.ensure()
        _generate(landing, home.root / "truth", customers_for(events), seed)
        measured = measure(["ingest", "--project", str(directory)], timeout_seconds=7200)
        shutil.copyfile(home.warehouse, lake.fresh_warehouse)
        shutil.rmtree(landing)
        report = measured.report | {"wall": measured.wall, "cpu": measured.cpu, "peak_mib": measured.peak_mib, "lake_bytes": _size(home.raw_lake)}
        marker.write_text(json.dumps(report, indent=2))
    return Lake(directory, json.loads(marker.read_text()))


def write_project(directory: Path, memory_limit: str) -> None:
    """A project with the demo's settings; only the engine's memory is another."""
    directory.mkdir(parents=True, exist_ok=True)
    document = yaml.safe_load((DEMO / "waymark.yml").read_text(encoding="utf-8"))
    document["engine"] = {"memory_limit": memory_limit}
    document["sources"][SOURCE]["mapping"] = str((DEMO / document["sources"][SOURCE]["mapping"]).resolve())
    (directory / "waymark.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    shutil.copyfile(DEMO / "rates.csv", directory / "rates.csv")


def _generate(landing: Path, truth: Path, customers: int, seed: int) -> None:
    from ml.simulator import WorldSpec, generate_world

    generate_world(landing, truth, WorldSpec(customers=customers, seed=seed))
    shutil.rmtree(truth)


def cut_lake(lake: Lake, memory_limit: str) -> Lake:
    """The same events in three parts: what came before, one per cent scattered over all time and everybody, and the last per cent by arrival.

    The parts lie beside the home (a home removes files that it does not know); `arrive` brings one in. Cut by event id, so that all contents
    of an id are in one part.
    """
    directory = lake.directory.with_name(lake.directory.name + "-cut")
    shutil.rmtree(directory, ignore_errors=True)
    write_project(directory, memory_limit)
    cut = Lake(directory, {})
    project = cut.project
    project.home.ensure()
    shutil.copyfile(lake.fresh_warehouse, cut.fresh_warehouse)
    with connect(cut.fresh_warehouse, engine=project.settings.engine, scratch=project.home.scratch) as connection:
        files = file_list(lake.project.home.root / str(path) for (path,) in rows(connection, "select path from raw.lake_files order by path"))
        by_arrival = "row_number() over (order by received_at desc nulls last, event_id asc nulls last)"
        connection.execute(f"""
            create temp table parts as
            with arrived as (
                select event_id, max(received_at) as received_at from read_parquet({files}, hive_partitioning = false) group by event_id
            )
            select
                event_id,
                case
                    when {by_arrival} <= count(*) over () * {INCREMENT_PERCENT} / 100 then 'last'
                    when md5_number_lower(event_id) % 100 < {INCREMENT_PERCENT} then 'scattered'
                    else 'base'
                end as part
            from arrived
        """)
        for part in PARTS:
            connection.execute(f"""
                copy (
                    select e.* from read_parquet({files}, hive_partitioning = true, hive_types = {{'event_date': date}}) as e
                    where e.event_id in (select event_id from parts where part = '{part}')
                    order by e.event_date nulls last, e.occurred_at nulls last, e.event_id nulls last, e.content_digest nulls last
                ) to '{directory / part}' (format parquet, partition_by (event_date), compression zstd)
            """)
        connection.execute("delete from raw.lake_files; delete from raw.ingestion_log; update raw.run_clock set data_now = null")
        connection.execute("update raw.lake_root set root = $1", [str(project.home.root)])
    cut.reset()
    return cut


def copied_events(lake: Lake, memory_limit: str, copies: int) -> Lake:
    """What the feature models read, so many times over: each copy's events, identifiers and customers under names of their own.

    Needs the lake's models built. Copies lie side by side, every few thousand rows, so no copy has its memory to itself.
    """
    directory = lake.directory.with_name(f"{lake.directory.name}-times-{copies}")
    shutil.rmtree(directory, ignore_errors=True)
    write_project(directory, memory_limit)
    many = Lake(directory, lake.ingested | {"rows_accepted": int(lake.ingested["rows_accepted"]) * copies})
    project = many.project
    project.home.ensure()
    with connect(project.home.warehouse, engine=project.settings.engine, scratch=project.home.scratch) as connection:
        there = attach_another(connection, lake.project.home.warehouse, "one")
        for name, (catalog, schema, _) in {name: where.split(".") for name, where in sorted(there.items())}.items():
            here = name if catalog == "one" else f"{OUTPUTS}.{name}"
            if catalog == "one":
                connection.execute(f"create schema if not exists {schema}")
            is_view = rows(connection, "select 1 from duckdb_views() where database_name = ? and schema_name || '.' || view_name = ?", [catalog, name])
            if is_view or name in _COPIED:
                continue
            connection.execute(f"create table {here} as from {there[name]} {'' if schema == 'raw' else 'limit 0'}")
        for name, changed in _COPIED.items():
            named = ", ".join(f"{expression} as {column}" for column, expression in changed.items())
            here = name if there[name].startswith("one.") else f"{OUTPUTS}.{name}"
            connection.execute(f"create table {here} as select * replace ({named}) from {there[name]}, range({copies}) as copies (copy)")
    return many


_NODE = "cast(hash({}, copy) >> 1 as bigint)"
_EVENT, _CUSTOMER = {"event_id": "md5(event_id || copy)"}, {"customer_id": "'c_' || left(md5(customer_id || copy), 24)"}
_COPIED = {
    "intermediate.int_events_sessionized": _EVENT | {"node_ids": f"list_transform(node_ids, lambda node: {_NODE.format('node')})"},
    "intermediate.int_conversions_deduplicated": _EVENT,
    "identity.membership_history": _CUSTOMER | {"node_id": _NODE.format("node_id")},
    "identity.over_shared_since": {"node_id": _NODE.format("node_id")},
}


def arrive(cut: Lake, part: str) -> int:
    """Registers a part as ingestion registers a batch: its files in the lake, pending; returns its rows."""
    from waymark.ingestion.tables import build_views

    project = cut.project
    batch = PARTS.index(part) + 1
    with connect(project.home.warehouse, engine=project.settings.engine, scratch=project.home.scratch) as connection:
        connection.execute("begin")
        for file in sorted((cut.directory / part).rglob("*.parquet")):
            path = Path("lake/raw") / f"{SOURCE}_events" / file.parent.name / f"b{batch:08d}_{file.stem.rpartition('_')[2]}.parquet"
            target = project.home.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            connection.execute(
                """insert into raw.lake_files (source, path, batch_id, rows, is_pending, bytes)
                   select $1, $2, $3, num_rows, true, $4 from parquet_file_metadata($5)""",
                [SOURCE, str(path), batch, file.stat().st_size, str(file)],
            )
        build_views(connection, [SOURCE])
        connection.execute(f"update raw.run_clock set data_now = (select max(received_at) from raw.{SOURCE}_events)")
        count = _log(connection, part, batch)
        connection.execute("commit")
    return count


def _log(connection: Connection, part: str, batch: int) -> int:
    """A line that keeps the law of conservation, which publishing audits."""
    count = int(str(rows(connection, f"select count(*) from raw.{SOURCE}_pending")[0][0]))
    connection.execute(
        """insert into raw.ingestion_log by name select $1 as file_id, $2 as source, $3 as file, 'ingested' as status, $4 as rows_read, $4 as rows_accepted,
           0 as rows_duplicate, 0 as rows_conflict, 0 as rows_quarantined, $1 as batch_id""",
        [batch, SOURCE, part, count],
    )
    return count


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
