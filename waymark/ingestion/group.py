"""Records of several files of one shape, turned into events together: one plan for all of them, and every core at work."""

from __future__ import annotations

from waymark.core.quoting import name
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.batch import REFUSED, Batch
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.extraction import Shape
from waymark.ingestion.report import FileOutcome
from waymark.privacy import Secret

RECORDS, PARSED, JUDGED, BOUNDS = "_wm_records", "_wm_parsed", "_wm_judged", "_wm_bounds"
_HEAD = "_wm_file INTEGER, _wm_row BIGINT, _wm_rule VARCHAR, _wm_raw VARCHAR, _wm_bytes BLOB"
PART_ROWS = 400_000
_LATE = "too_far_in_future"


class Group:
    """Files of one shape whose records wait in `_wm_records`."""

    def __init__(self, connection: Connection, project: Project, secret: Secret, shape: Shape) -> None:
        self.connection, self.project, self.secret, self.shape = connection, project, secret, shape
        self.outcomes: list[FileOutcome] = []
        self.records = RECORDS  # relation of the records; a large file's are not copied there
        self.rows = 0
        columns = ", ".join(f"{name(column)} VARCHAR" for column in shape.columns)
        connection.execute(f"create or replace temp table {RECORDS} ({_HEAD}, {columns})")

    def add(self, read: str, outcome: FileOutcome) -> None:
        """Takes a file's records, as many as the outcome says, from the relation that `readers.load_records` made.

        The relation may go then, unless the group `keeps_read`: the records of a large file, the first of its group, are not copied.
        """
        columns = ", ".join(["_wm_row", "_wm_rule", "_wm_raw", "_wm_bytes", *map(name, self.shape.columns)])
        records = f"select {outcome.file_id} as _wm_file, {columns} from {read}"
        if outcome.rows_read > PART_ROWS and not self.outcomes:
            self.records = f"({records})"
        else:
            self.connection.execute(f"insert into {RECORDS} {records}").fetchall()
        self.outcomes.append(outcome)
        self.rows += outcome.rows_read

    @property
    def keeps_read(self) -> bool:
        return self.records != RECORDS

    def apply(self, canonical: Canonical, batch: Batch, outcomes: list[FileOutcome]) -> None:
        """Turns the records of these files into events and refused rows of the batch, and fills in their counts.

        A part at a time, so that what is made on the way fits in memory however large a file is. How late a row may be is known when all of its
        file are parsed: then the events that are later are taken back.
        """
        connection = self.connection
        ids = ", ".join(str(outcome.file_id) for outcome in outcomes)
        for number, part in enumerate(_parts(outcomes, is_whole=canonical.mapping.keep_identical_rows)):
            connection.execute(f"create or replace temp table {PARSED} as {canonical.parsed_sql(f'(select * from {self.records} where {part})')}").fetchall()
            connection.execute(judged_sql(is_first=number == 0)).fetchall()
            batch.add_events(canonical.events_sql(PARSED), self.secret.parameters())
        connection.execute(f"create or replace temp table {BOUNDS} as {bounds_sql()}")
        verdicts = verdicts_sql(self.project.settings.time.max_future_skew_days)
        batch.drop_events(late_sql(verdicts))
        records = self.records if len(outcomes) == len(self.outcomes) else f"(select * from {self.records} where _wm_file in ({ids}))"
        batch.add_refused(records, verdicts, self.shape, {outcome.file_id: outcome.file for outcome in outcomes})
        limits = {file_id: (occurred, received) for file_id, occurred, received in rows(connection, f"select * from {BOUNDS} order by 1 nulls last")}
        counted = rows(connection, f"select ingest_file_id, count(*) from {REFUSED} where ingest_file_id in ({ids}) group by 1 order by 1 nulls last")
        refused = {int(str(file_id)): int(str(count)) for file_id, count in counted}
        for outcome in outcomes:
            outcome.last_occurred, outcome.last_received = limits.get(outcome.file_id, (None, None))
            outcome.rows_quarantined = refused.get(outcome.file_id, 0)

    def forget(self) -> None:
        for table in (RECORDS, PARSED, JUDGED, BOUNDS):
            self.connection.execute(f"drop table if exists {table}")


def _parts(outcomes: list[FileOutcome], *, is_whole: bool) -> list[str]:
    """Conditions that cut the records of these files into parts; is_whole: no file may be cut (its identical rows are numbered)."""
    large = [] if is_whole else [outcome for outcome in outcomes if outcome.rows_read > PART_ROWS]
    together = ", ".join(str(outcome.file_id) for outcome in outcomes if outcome not in large)
    parts = [f"_wm_file in ({together})"] if together else []
    for outcome in large:
        firsts = range(1, outcome.rows_read + 1, PART_ROWS)
        parts += [f"_wm_file = {outcome.file_id} and _wm_row between {first} and {first + PART_ROWS - 1}" for first in firsts]
    return parts


def judged_sql(*, is_first: bool) -> str:
    """Statement that keeps of the parsed records, in `_wm_judged`, what is asked once the whole of their file is parsed. is_first: into a table of its own."""
    into = f"create or replace temp table {JUDGED} as" if is_first else f"insert into {JUDGED}"
    return f"{into} select _wm_file, _wm_row, broken, occurred_at, received_at from {PARSED}"


def bounds_sql() -> str:
    """Per file, the end of the day up to which its times are believed: its median day.

    A file that spans many days widens it by three times the distance between its quartiles: else its own later rows would be refused.
    The skew that the settings allow comes on top.
    """
    days = {"last_occurred": "cast(occurred_at as date)", "last_received": "cast(coalesce(received_at, occurred_at) as date)"}
    quartiles = ", ".join(f"quantile_disc({day}, [0.25, 0.5, 0.75]) as {alias}" for alias, day in days.items())
    limits = ", ".join(
        f"date_add(cast({alias}[2] as timestamp), to_days(cast(1 + 3 * ({alias}[3] - {alias}[1]) as integer))) - to_microseconds(1) as {alias}"
        for alias in days
    )
    return f"select _wm_file, {limits} from (select _wm_file, {quartiles} from {JUDGED} where broken is null group by _wm_file)"


def verdicts_sql(skew_days: int) -> str:
    """Per record that could be read: the rule that it breaks, the file's own bounds included; NULL for a good one."""
    skew = f"to_days({skew_days})"
    return f"""
        select _wm_file, _wm_row, case when broken is not null then broken when occurred_at > last_occurred + {skew} then '{_LATE}|occurred_at'
          when coalesce(received_at, occurred_at) > last_received + {skew} then '{_LATE}|received_at' end as verdict
        from {JUDGED} left join {BOUNDS} using (_wm_file)"""


def late_sql(verdicts: str) -> str:
    """Of verdicts, the records that break no rule of their own."""
    return f"select _wm_file, _wm_row from ({verdicts}) where starts_with(verdict, '{_LATE}|')"
