"""`waymark privacy export`: everything that is held about a person, as one JSON document and a short page for people.

What is found is what an erasure would remove, by the same code: events with their texts and properties, operators' words and keyed hashes of parts of names
among them, refused rows, records in files, links of the person's identifiers, and every row of every published table that names a customer. Of somebody else
whom such a row names, too, nothing is told but that there is somebody. The export lies outside of the home, in a folder that whoever asked names, and is
theirs to hand out and to delete.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from waymark.core.clock import wall_now
from waymark.core.errors import StorageError
from waymark.core.home import write_atomically
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.erased import Erased
from waymark.ingestion.erasing import GOING, LandingCopies, contents_sql, going_sql, orders_of
from waymark.ingestion.quarantine import quarantined_of
from waymark.ingestion.tables import build_views, comparables_sql, lake_sources
from waymark.pipeline.anchors import logs
from waymark.pipeline.identifiers import require_ended_run
from waymark.pipeline.progress import tell
from waymark.pipeline.published import open_published
from waymark.pipeline.subjects import Subject, words_about
from waymark.privacy.subjects import SubjectReferences

_SHOWN = 30
_CUSTOMERS = ("customer_id", "customer_before", "customer_after")
# By table: what it is called in an export, and the columns that are left out because they may be of somebody else's events.
_LINKS = {"identity.edges": ("seen_together", ()), "identity.negative_edges": ("kept_apart", ("source_event_id",)), "identity.probable_links": ("probable", ())}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What is held about you</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1c2530 }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e3e7ec; vertical-align: top }} td.n, th.n {{ text-align: right }}
svg text {{ font: 11px system-ui, sans-serif; fill: #52606d }} .note {{ color: #52606d }}
</style>
<h1>What is held about you</h1>
<p class="note">Project {project}, as of {at} UTC. Everything in full stands in <code>{document}</code>.</p>
<h2>Known by</h2>{identifiers}
<h2>Events</h2>{chart}{events}
<h2>Agreed to</h2>{consent}
<h2>Held in tables</h2>{tables}
<h2>Elsewhere</h2>{elsewhere}
<h2>The latest events</h2>{latest}
</html>
"""


@dataclass(frozen=True)
class Export:
    """Where an export lies, and what it counts: events, rows of tables, refused rows, records in files."""

    document: Path
    page: Path
    counts: dict[str, int]


def export(project: Project, subject: Subject, folder: Path) -> Export:
    """Writes `person.json` and `person.html` (mode 600) into a folder, which is made. Hold the writer lock since `subjects_of`.

    Raises StorageError where the folder cannot be written, or lies in the home, where an erasure would have to look for it.
    """
    folder = folder.resolve()
    if folder.is_relative_to(project.home.root):
        raise StorageError("an export must not lie in the home", where=str(folder), remedy="Name a folder outside of it: --to DIR")
    run = require_ended_run(project)
    with run.open_warehouse() as connection:
        tell("export: events")
        sources = lake_sources(connection)
        build_views(connection, sources)  # those of sources that the project no longer names as well
        erased = Erased.looking_for(connection, project.home, run.secret, subject.identifiers)
        words = [event for event, _ in words_about(connection, subject.nodes)]
        events = _events(connection, sources, erased, words)
        _keep(connection, events)
        if orders := orders_of(connection, sources, "exported_events"):
            named = [*subject.identifiers, *(("order_id", order) for order in orders)]
            erased = Erased.looking_for(connection, project.home, run.secret, named)
            events = _events(connection, sources, erased, words)
            _keep(connection, events)
        mine = "event_id in (select event_id from exported_events)"
        compared = _records(connection, f"select * from ({comparables_sql(connection)}) where {mine} order by event_id")
        links = _links(connection, subject.nodes)
        tell("export: refused rows")
        refused = [asdict(row) for row in quarantined_of(project, run.mappings, erased)]
        tell("export: files")
        files = [{"source": copy.source, "file": copy.file, "records": copy.struck} for copy in LandingCopies(project, run.mappings, erased).naming()]
    tables = _tables(project, subject)
    document: dict[str, object] = {
        "asked": subject.named, "exported_at": wall_now().isoformat(timespec="seconds") + "Z", "project": project.settings.name,
        "customer_ids": list(subject.customers), "identifiers": [{"type": kind, "value": value} for kind, value in subject.identifiers],
        "events": events, "compared": compared, "links": links, "tables": tables, "not_taken_for_theirs": subject.left_out,
        "refused_rows": refused, "files": files, "audit": _audit(project, subject),
        "kept": {"retention": project.settings.retention_as_published, "refused_rows_days": project.settings.ingestion.quarantine_days},
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
        path, page = folder / "person.json", folder / "person.html"
        write_atomically(path, json.dumps(document, indent=1, default=str, ensure_ascii=False) + "\n", mode=0o600)
        write_atomically(page, _page(document, tables, events, path.name), mode=0o600)
    except OSError as error:
        raise StorageError(f"the export cannot be written ({error.strerror})", where=str(folder), remedy="Name another folder: --to DIR") from error
    counts = {
        "events": len(events), "rows of tables": sum(map(len, tables.values())), "refused rows": len(refused),
        "records in files": sum(int(str(file["records"])) for file in files),
    }  # fmt: skip
    return Export(path, page, counts)


def _events(connection: Connection, sources: Sequence[str], erased: Erased, words: Sequence[str]) -> list[dict[str, object]]:
    """All contents of the person's events, in order, with all columns and the file that each came from. words: ids of operators' words about them."""
    found: list[dict[str, object]] = []
    for source in sources:
        going_sql(connection, source, erased, words)
        found += _records(connection, f"""
            select e.*, l.file from {contents_sql(connection, source)} e left join raw.ingestion_log l on l.file_id = e.ingest_file_id
            where (e.event_id, e.content_digest) in (select event_id, content_digest from {GOING}) order by e.occurred_at, e.event_id
        """)  # fmt: skip
    connection.execute(f"drop table if exists {GOING}")
    erased.forget()
    return sorted(found, key=lambda event: (str(event["occurred_at"]), str(event["event_id"])))


def _keep(connection: Connection, events: Sequence[dict[str, object]]) -> None:
    connection.execute(
        "create or replace temp table exported_events as select unnest(?::varchar[]) as event_id, unnest(?::varchar[]) as content_digest",
        [[event["event_id"] for event in events], [event["content_digest"] for event in events]],
    )


def _links(connection: Connection, nodes: Sequence[int]) -> dict[str, list[dict[str, object]]]:
    """What links the person's identifiers, or keeps them apart, by kind. Of an identifier that is not theirs, the type alone."""
    there = {str(table) for (table,) in rows(connection, "select 'identity.' || table_name from duckdb_tables() where schema_name = 'identity'")}
    shown = "case when {0}.node_id in (select node_id from theirs) then {0}.identifier_type || ':' || {0}.identifier_value else {0}.identifier_type end"
    return {
        kind: _records(connection, f"""
            with theirs as (select unnest($nodes::bigint[]) as node_id)
            select {shown.format("a")} as one, {shown.format("b")} as other, e.* exclude ({", ".join(("node_a", "node_b", *left_out))})
            from (
                select * from {table} where node_a in (select node_id from theirs) or node_b in (select node_id from theirs)
            ) e join identity.nodes a on a.node_id = e.node_a join identity.nodes b on b.node_id = e.node_b order by all
        """, {"nodes": list(nodes)})
        for table, (kind, left_out) in _LINKS.items() if table in there
    }  # fmt: skip


def _tables(project: Project, subject: Subject) -> dict[str, list[dict[str, object]]]:
    """Rows of the published tables that name a customer, by table; those without a row are left out. None where the customer is more than the person."""
    if not subject.customers or subject.left_out:
        return {}
    with open_published(project.home) as connection:
        named = rows(connection, """
            select table_schema || '.' || table_name, column_name from information_schema.columns where list_contains($columns, column_name) order by all
        """, {"columns": list(_CUSTOMERS)})  # fmt: skip
        columns: dict[str, list[str]] = {}
        for table, column in named:
            columns.setdefault(str(table), []).append(str(column))
        found = {
            table: _records(
                connection, f"select * from {table} where {' or '.join(f'{column} in (select unnest($customers::varchar[]))' for column in theirs)}",
                {"customers": list(subject.customers)},
            ) for table, theirs in columns.items()
        }  # fmt: skip
    for records in found.values():
        for record in records:
            record.update({column: "somebody else" for column in _CUSTOMERS if record.get(column) and record[column] not in subject.customers})
    return {table: records for table, records in found.items() if records}


def _audit(project: Project, subject: Subject) -> list[dict[str, object]]:
    """Who looked at the person, by the audit log."""
    references = {SubjectReferences(project.home).known(customer) for customer in subject.customers} - {None}
    entries = (entry for log in logs(project.home).values() for _, entry in log.lines() if entry)
    return [{"at": entry.at, "role": entry.role, "action": entry.action} for entry in entries if references & set(entry.subjects)]


def _records(connection: Connection, sql: str, parameters: dict[str, object] | None = None) -> list[dict[str, object]]:
    cursor = connection.execute(sql, parameters) if parameters else connection.execute(sql)
    columns = [column[0] for column in cursor.description or []]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def _page(document: dict[str, object], tables: dict[str, list[dict[str, object]]], events: Sequence[dict[str, object]], file: str) -> str:
    by_kind: dict[tuple[str, str], int] = {}
    for event in events:
        key = (str(event["source"]), str(event["event_type"]))
        by_kind[key] = by_kind.get(key, 0) + 1
    identifiers: list[dict[str, str]] = document["identifiers"]  # type: ignore[assignment]
    consent = tables.get("marts.dim_consent_now", [])
    files: list[dict[str, object]] = document["files"]  # type: ignore[assignment]
    refused: list[object] = document["refused_rows"]  # type: ignore[assignment]
    audit: list[object] = document["audit"]  # type: ignore[assignment]
    links: dict[str, list[object]] = document["links"]  # type: ignore[assignment]
    compared: list[object] = document["compared"]  # type: ignore[assignment]
    elsewhere = [
        ("refused rows", len(refused)), *((f"records in {Path(str(told['file'])).name}", told["records"]) for told in files),
        ("links between identifiers", sum(map(len, links.values()))), ("events with parts of names, kept as keyed hashes", len(compared)),
        ("looks at your data, by the audit log", len(audit)),
    ]  # fmt: skip
    latest = [(str(event["occurred_at"])[:19], event["source"], event["event_type"], event["page_path"] or "") for event in events[-_SHOWN:][::-1]]
    return _PAGE.format(
        project=html.escape(str(document["project"])), at=str(document["exported_at"])[:19].replace("T", " "), document=file,
        identifiers=_table(("kind", "as it is kept"), [(pair["type"], pair["value"]) for pair in identifiers]),
        chart=_chart(events), events=_table(("source", "event", "count"), [(*kind, count) for kind, count in sorted(by_kind.items())]),
        consent=_table(("scope", "state", "since"), [(row["scope"], row["state"], str(row["valid_from"])[:19]) for row in consent]),
        tables=_table(("table", "rows"), [(table, len(records)) for table, records in tables.items()]),
        elsewhere=_table(("what", "count"), elsewhere), latest=_table(("when (UTC)", "source", "event", "page"), latest),
    )  # fmt: skip


def _table(heads: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    if not lines:
        return '<p class="note">Nothing.</p>'
    numeric = [all(isinstance(line[place], int) for line in lines) for place in range(len(heads))]
    marks = [' class="n"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{mark}>{html.escape(text)}</th>" for text, mark in zip(heads, marks, strict=True))
    body = "".join(f"<tr>{''.join(f'<td{mark}>{html.escape(str(value))}</td>' for value, mark in zip(line, marks, strict=True))}</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _chart(events: Sequence[dict[str, object]]) -> str:
    """Events by month, as bars."""
    months: dict[str, int] = {}
    for event in events:
        month = str(event["occurred_at"])[:7]
        months[month] = months.get(month, 0) + 1
    if not months:
        return ""
    first, last = min(months), max(months)
    span = [f"{year:04d}-{month:02d}" for year in range(int(first[:4]), int(last[:4]) + 1) for month in range(1, 13)]
    shown = [month for month in span if first <= month <= last][-36:]
    most, width, step = max(months.values()), 720, 720 / max(len(shown), 1)
    bars = ""
    for place, month in enumerate(shown):
        count = months.get(month, 0)
        height, left = 80 * count / most, place * step
        bars += f'<rect x="{left + 1:.1f}" y="{96 - height:.1f}" width="{max(min(step - 2, 40), 2):.1f}" height="{height:.1f}" fill="#3b6ea5"/>'
        if count:
            bars += f'<text x="{left + 1:.1f}" y="{92 - height:.1f}">{count}</text>'
        if place % max(len(shown) // 8, 1) == 0:
            bars += f'<text x="{left + 1:.1f}" y="112">{month}</text>'
    return f'<svg viewBox="0 0 {width} 116" width="100%" role="img" aria-label="events by month">{bars}</svg>'
