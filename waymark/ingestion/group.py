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

RECORDS, PARSED, BOUNDS = "_wm_records", "_wm_parsed", "_wm_bounds"
_HEAD = "_wm_file INTEGER, _wm_row BIGINT, _wm_rule VARCHAR, _wm_raw VARCHAR, _wm_bytes BLOB"


class Group:
    """Files of one shape whose records wait in `_wm_records`."""

    def __init__(self, connection: Connection, project: Project, secret: Secret, shape: Shape) -> None:
        self.connection, self.project, self.secret, self.shape = connection, project, secret, shape
        self.outcomes: list[FileOutcome] = []
        self.rows = 0
        columns = ", ".join(f"{name(column)} VARCHAR" for column in shape.columns)
        connection.execute(f"create or replace temp table {RECORDS} ({_HEAD}, {columns})")

    def add(self, read: str, outcome: FileOutcome) -> None:
        """Takes a file's records from the relation that `readers.load_records` made."""
        columns = ", ".join(map(name, self.shape.columns))
        sql = f"insert into {RECORDS} select {outcome.file_id}, _wm_row, _wm_rule, _wm_raw, _wm_bytes, {columns} from {read}"
        outcome.rows_read = int(self.connection.execute(sql).fetchall()[0][0])
        self.outcomes.append(outcome)
        self.rows += outcome.rows_read

    def apply(self, canonical: Canonical, batch: Batch, outcomes: list[FileOutcome]) -> None:
        """Turns the records of these files into events and refused rows of the batch, and fills in their counts."""
        connection = self.connection
        ids = ", ".join(str(outcome.file_id) for outcome in outcomes)
        records = RECORDS if len(outcomes) == len(self.outcomes) else f"(select * from {RECORDS} where _wm_file in ({ids}))"
        connection.execute(f"create or replace temp table {PARSED} as {canonical.parsed_sql(records)}").fetchall()
        connection.execute(f"create or replace temp table {BOUNDS} as {bounds_sql()}")
        skew = self.project.settings.time.max_future_skew_days
        batch.add_events(canonical.events_sql(PARSED, BOUNDS, skew), self.secret.parameters())
        batch.add_refused(records, verdicts_sql(skew), self.shape, {outcome.file_id: outcome.file for outcome in outcomes})
        limits = {file_id: (occurred, received) for file_id, occurred, received in rows(connection, f"select * from {BOUNDS} order by 1 nulls last")}
        counted = rows(connection, f"select ingest_file_id, count(*) from {REFUSED} where ingest_file_id in ({ids}) group by 1 order by 1 nulls last")
        refused = {int(str(file_id)): int(str(count)) for file_id, count in counted}
        for outcome in outcomes:
            outcome.last_occurred, outcome.last_received = limits.get(outcome.file_id, (None, None))
            outcome.rows_quarantined = refused.get(outcome.file_id, 0)

    def forget(self) -> None:
        for table in (RECORDS, PARSED, BOUNDS):
            self.connection.execute(f"drop table if exists {table}")


def bounds_sql() -> str:
    """Per file, the end of the day up to which its times are believed: its median day.

    A file that spans many days widens it by three times the distance between its quartiles: else its own later rows would be refused.
    The skew that the settings allow comes on top.
    """
    limits = []
    for alias, day in (("last_occurred", "cast(occurred_at as date)"), ("last_received", "cast(coalesce(received_at, occurred_at) as date)")):
        spread = f"quantile_disc({day}, 0.75) - quantile_disc({day}, 0.25)"
        limits.append(f"date_add(cast(quantile_disc({day}, 0.5) as timestamp), to_days(cast(1 + 3 * ({spread}) as integer))) - to_microseconds(1) as {alias}")
    return f"select _wm_file, {', '.join(limits)} from {PARSED} where broken is null group by _wm_file"


def verdicts_sql(skew_days: int) -> str:
    """Per record that could be read: the rule that it breaks, the file's own bounds included; NULL for a good one."""
    skew = f"to_days({skew_days})"
    return f"""
        select _wm_file, _wm_row, case when broken is not null then broken when occurred_at > last_occurred + {skew} then 'too_far_in_future|occurred_at'
          when coalesce(received_at, occurred_at) > last_received + {skew} then 'too_far_in_future|received_at' end as verdict
        from {PARSED} left join {BOUNDS} using (_wm_file)"""
