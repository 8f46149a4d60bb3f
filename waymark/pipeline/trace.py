"""From a mart's row to its events, and from each event to the file and line that it came from.

It reads the published snapshot and the lake alone, so it works while a run is writing.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from waymark.core.errors import WaymarkError
from waymark.core.quoting import exact, literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion import Mapping, load_mapping
from waymark.pipeline.published import open_published

# Mart -> SQL that gives the event ids behind the row whose key is $key.
_STEP_EVENTS = """
    select e.event_id from marts.fct_journey_steps s
    join marts.fct_events e on e.customer_id = s.customer_id and e.occurred_at between s.started_at and s.ended_at
        and (e.session_id = s.session_id or (s.session_id is null and e.session_id is null))
    where {condition}
"""
EVENTS_BEHIND = {
    "fct_events": "select event_id from marts.fct_events where event_id = $key or source_event_id = $key",
    "fct_sessions": "select event_id from marts.fct_events where session_id = $key",
    "fct_conversions": "select event_id from marts.fct_conversions where conversion_id = $key",
    "fct_touchpoints": """
        select e.event_id from marts.fct_touchpoints t
        join marts.fct_events e on e.session_id = t.session_id or (t.session_id is null and e.event_id = t.event_id)
        where t.touchpoint_id = $key""",
    "fct_journeys": _STEP_EVENTS.format(condition="s.journey_id = $key"),
    "fct_journey_steps": _STEP_EVENTS.format(
        condition="s.journey_id = split_part($key, '/', 1) and s.step_number = try_cast(split_part($key, '/', 2) as integer)"
    ),
    "fct_consent_intervals": "select event_id from marts.fct_consent_intervals where consent_interval_id = $key",
    "dim_consent_now": "select event_id from marts.dim_consent_now where consent_interval_id = $key",
    "dim_identity_clusters": """
        select e.event_id from marts.dim_identity_clusters c
        join marts.fct_events e on list_contains(e.identifiers, {'type': c.identifier_type, 'value': c.identifier})
        where c.membership_id = $key""",
    "dim_customers": "select event_id from marts.fct_events where customer_id = $key",
    "dim_customer_aliases": """
        select e.event_id from marts.dim_customer_aliases a join marts.fct_events e on e.customer_id = a.customer_id
        where a.alias_customer_id = $key""",
}
TRACE_COLUMNS = ("event_id", "event_type", "occurred_at", "source", "file", "record", "line")


@dataclass(frozen=True)
class TracedEvent:
    """record: 1-based record number in the file (a header is none); line: the physical line it begins on, None where the file is gone or has no lines."""

    event_id: str
    event_type: str
    occurred_at: str
    source: str
    file: str
    record: int
    line: int | None


def trace_row(project: Project, table: str, key: str) -> list[TracedEvent]:
    """The events behind one row, in time order.

    Raises WaymarkError for an unknown table or a key that the published snapshot does not have.
    """
    name = table.removeprefix("marts.")
    if name not in EVENTS_BEHIND:
        raise WaymarkError(f"'{table}' is not a mart that can be traced", remedy="One of: " + ", ".join(sorted(EVENTS_BEHIND)))
    with open_published(project.home) as connection:
        connection.execute("create temp table traced as select distinct event_id from (" + EVENTS_BEHIND[name] + ")", {"key": key})
        if not rows(connection, "select count(*) from traced")[0][0]:
            raise WaymarkError(f"{name} has no row '{key}'", remedy=f'See: waymark sql "from marts.{name} limit 5"')
        return _located(connection, project)


def trace_events(project: Project, event_ids: Iterable[str]) -> list[TracedEvent]:
    """File and line of events by their ids, in time order."""
    with open_published(project.home) as connection:
        connection.execute("create temp table traced as select unnest(?::varchar[]) as event_id", [list(event_ids)])
        return _located(connection, project)


def customers_of(project: Project, events: Iterable[TracedEvent]) -> list[str]:
    """The customers that these events belong to, sorted."""
    with open_published(project.home) as connection:
        sql = "select distinct customer_id from marts.fct_events where list_contains(?, event_id) and customer_id is not null order by customer_id"
        return [str(customer) for (customer,) in rows(connection, sql, [[event.event_id for event in events]])]


def _located(connection: Connection, project: Project) -> list[TracedEvent]:
    found: list[tuple[object, ...]] = []
    for (source,) in rows(connection, "select distinct source from marts.fct_events join traced using (event_id) order by source"):
        lake = literal(f"{exact(project.home.raw_lake / f'{source}_events')}/*/*.parquet")
        # Of several contents of an id the least survived, of those that the snapshot's own log knows: a file that came since is not in it.
        found += rows(connection, f"""
            with told as (
                select r.event_id, l.file, r.row_number
                from read_parquet({lake}, hive_partitioning = true) r
                join traced using (event_id)
                join raw.ingestion_log l on l.file_id = r.ingest_file_id
                qualify row_number() over (partition by r.event_id order by r.occurred_at nulls last, r.content_digest nulls last) = 1
            )
            select e.event_id, e.event_type, e.occurred_at, e.source, told.file, told.row_number
            from marts.fct_events e
            join told using (event_id)
            where e.source = ?
        """, [source])  # fmt: skip
    wanted: dict[str, set[int]] = defaultdict(set)
    of_source: dict[str, str] = {}
    for row in found:
        wanted[str(row[4])].add(int(str(row[5])))
        of_source[str(row[4])] = str(row[3])
    mappings = {source: load_mapping(project.mapping_path(source)) for source in sorted(set(of_source.values())) if source in project.settings.sources}
    lines = {file: record_lines(project.directory / file, records, mappings.get(of_source[file])) for file, records in wanted.items()}
    traced = {TracedEvent(str(i), str(t), str(at), str(s), str(f), int(str(n)), lines[str(f)].get(int(str(n)))) for i, t, at, s, f, n in found}
    return sorted(traced, key=lambda event: (event.occurred_at, event.event_id, event.file, event.record))


def record_lines(path: Path, records: Iterable[int], mapping: Mapping | None) -> dict[int, int]:
    """Record number -> physical line; empty where the file is gone or has no lines of records (Parquet, a JSON array)."""
    wanted = set(records)
    if mapping is None or mapping.format not in ("csv", "ndjson") or not path.is_file():
        return {}
    encoding = "utf-8-sig" if mapping.encoding.lower().replace("-", "") == "utf8" else mapping.encoding
    found: dict[int, int] = {}
    try:
        with _open_text(path, encoding) as handle:
            if mapping.format == "ndjson":
                texts = (number for number, line in enumerate(handle, 1) if line.strip())
                return {record: number for record, number in enumerate(texts, 1) if record in wanted}
            reader = csv.reader(_physical_lines(handle), delimiter=mapping.delimiter)
            before, number = 0, -1
            for fields in reader:
                number += bool(fields)  # a blank line is no record
                if fields and number in wanted:
                    found[number] = before + 1
                    if len(found) == len(wanted):
                        break
                before = reader.line_num
    except (OSError, csv.Error, EOFError):
        return found
    return found


def _open_text(path: Path, encoding: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors="replace", newline="")
    return path.open(encoding=encoding, errors="replace", newline="")


def _physical_lines(handle: Iterable[str]) -> Iterator[str]:
    return (line.replace("\0", " ") for line in handle)
