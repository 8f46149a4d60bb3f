"""Checks of what the sources deliver, over the published snapshot: ids, session keys, times, shares of rows that nobody can be told by, one huge customer.

Counts and kinds of identifiers are told, never an identifier.
"""

from __future__ import annotations

from collections.abc import Iterator

from waymark.core.warehouse import has_table, rows
from waymark.ingestion import Mapping, load_mapping
from waymark.pipeline.doctor.patient import BeingWrittenError, Finding, Patient, counted, ok, share, warning

MOST_QUARANTINED = 0.05
MOST_UNATTRIBUTED = 0.2
MOST_WITHOUT_SESSION = 0.5
MOST_OF_ONE_CUSTOMER = 0.1
# With fewer events shares say nothing.
LEAST_EVENTS = 1_000

_COUNTS = """
    select source, count(*) as events, count(session_key) as with_session_key, count(*) filter (where is_counted) as counted,
           count(*) filter (where is_counted and customer_id is null) as unattributed
    from marts.fct_events group by source order by source
"""
_ROWS = """
    select source, sum(rows_read)::bigint, sum(rows_quarantined)::bigint from raw.ingestion_log where status = 'ingested' group by source order by source
"""


def sources(patient: Patient) -> Iterator[Finding]:
    project = patient.project
    counts: dict[str, tuple[int, ...]] = {}
    read: dict[str, tuple[int, ...]] = {}
    if patient.home.published.exists():
        with patient.published() as connection:
            counts = {str(source): tuple(int(str(value or 0)) for value in values) for source, *values in rows(connection, _COUNTS)}
            read = {str(source): tuple(int(str(value or 0)) for value in values) for source, *values in rows(connection, _ROWS)}
    for source in sorted(project.settings.sources):
        mapping = load_mapping(project.mapping_path(source))
        faults = [*_of_mapping(source, mapping), *_of_rows(patient, source, counts.get(source, (0, 0, 0, 0)), read.get(source, (0, 0)))]
        yield from faults or [ok("sources", f"{source}: {counted(counts.get(source, (0,))[0], 'event')}")]


def _of_mapping(source: str, mapping: Mapping) -> Iterator[Finding]:
    where = mapping.path.name
    if "event_id" not in mapping.columns:
        loss = "counted one by one" if mapping.keep_identical_rows else "counted once"
        yield warning(
            "sources", f"{source} has no event ids: they are derived from each row's content, and identical rows of a file are {loss}",
            f"If the export can give an id, map it as event_id in {where}, before more files are taken in.",
        )  # fmt: skip
    if "received_at" not in mapping.columns:
        yield warning(
            "sources", f"{source} does not say when events were received (received_at): late rows cannot be told from rows dated back",
            f"If the export has such a time, map it as received_at in {where}.",
        )  # fmt: skip
    if mapping.session_key == "none":
        remedy = f"Name the column of the device or visit: session_key in {where}."
        yield warning("sources", f"{source} has no session key: its events belong to no session", remedy)


def _of_rows(patient: Patient, source: str, counts: tuple[int, ...], read: tuple[int, ...]) -> Iterator[Finding]:
    events, with_key, counting, unattributed = counts
    taken, quarantined = read
    if taken >= LEAST_EVENTS and quarantined > MOST_QUARANTINED * taken:
        yield warning(
            "sources", f"{source}: {share(quarantined, taken)} of {counted(taken, 'row')} are refused",
            f"See why: {patient.command('quarantine list')}; mend the mapping, then: {patient.command(f'quarantine replay {source}')}",
        )  # fmt: skip
    if events >= LEAST_EVENTS and events - with_key > MOST_WITHOUT_SESSION * events:
        yield warning(
            "sources", f"{source}: {share(events - with_key, events)} of {counted(events, 'event')} have no session key, so they belong to no session",
            "Mend session_key (or anonymous_id) in its mapping, if the source has visits at all.",
        )  # fmt: skip
    if counting >= LEAST_EVENTS and unattributed > MOST_UNATTRIBUTED * counting:
        yield warning(
            "sources", f"{source}: {share(unattributed, counting)} of {counted(counting, 'counted event')} belong to nobody (unattributed)",
            "Map an identifier that those rows have (anonymous_id, user_id, identifiers), and see the over-shared ones under identities.",
        )  # fmt: skip


def identities(patient: Patient) -> Iterator[Finding]:
    """One customer with a great part of all events, and identifiers that too many share: both are mostly a placeholder that stands for an id."""
    faults = [*_huge_customer(patient), *_over_shared(patient)]
    yield from faults or [ok("identities", "no customer and no identifier stands out")]


def _huge_customer(patient: Patient) -> Iterator[Finding]:
    if not patient.home.published.exists():
        return
    with patient.published() as connection:
        found = rows(connection, "select coalesce(max(event_count), 0)::bigint, coalesce(sum(event_count), 0)::bigint, count(*) from marts.dim_customers")
    greatest, total, customers = (int(str(value)) for value in found[0])
    if total >= LEAST_EVENTS and customers > 1 and greatest > MOST_OF_ONE_CUSTOMER * total:
        yield warning(
            "identities", f"one customer of {customers:,} has {share(greatest, total)} of all {total:,} counted events",
            "Look for a placeholder that is taken for an id (guest, null, 0, a test account) and map it to NULL with an expr: "
            f'{patient.command("sql")} "select source, anonymous_id, count(*) from marts.fct_events group by all order by 3 desc limit 5"',
        )  # fmt: skip


def _over_shared(patient: Patient) -> Iterator[Finding]:
    if not patient.home.warehouse.exists():
        return
    try:
        with patient.warehouse() as connection:
            found: list[tuple[object, ...]] = []
            if has_table(connection, "identity.nodes"):
                sql = "select identifier_type, count(*), max(neighbour_count) from identity.nodes where is_over_shared group by 1 order by 2 desc, 1"
                found = rows(connection, sql)
    except BeingWrittenError:
        return  # the check of the last run says so
    if found:
        said = ", ".join(f"{counted(int(str(count)), f'{kind}')} (up to {most:,} others linked)" for kind, count, most in found)
        yield warning(
            "identities", f"identifiers shared by too many, which therefore merge nobody: {said}",
            "If they are placeholders, map them to NULL in the mapping; if people do share them, leave it so (identity.max_neighbours).",
        )  # fmt: skip
