"""Records of several files of one shape, turned into events together: one plan for all of them, and every core at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from waymark.core.quoting import file_list, literal, name
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.batch import REFUSED, Batch
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.clean import Clean
from waymark.ingestion.erased import Erased
from waymark.ingestion.extraction import Shape
from waymark.ingestion.lake import scratch_folder
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.readers import READ, Opened, clean_sql, split_text
from waymark.ingestion.report import FileOutcome
from waymark.ingestion.salvage import LINE_MARK
from waymark.privacy import Secret

RECORDS, PARSED, JUDGED, BOUNDS = "_wm_records", "_wm_parsed", "_wm_judged", "_wm_bounds"
_HEAD = "_wm_file INTEGER, _wm_row BIGINT, _wm_rule VARCHAR, _wm_raw VARCHAR, _wm_bytes BLOB"
PART_ROWS = 400_000
_LATE = "too_far_in_future"
# Of these, a text file's original is the raw text of the record; of the others, its columns as JSON.
RAW_RULES = ("malformed_row", "invalid_encoding", "nul_byte", "unterminated_quote")
UNREADABLE = f"rule in ({', '.join(map(literal, RAW_RULES))})"


class Group:
    """Files of one shape whose records wait: those of text files in clean files, the others, and all that are refused, in `_wm_records`."""

    def __init__(self, connection: Connection, project: Project, secret: Secret, mapping: Mapping, shape: Shape, *, erased: Erased | None = None) -> None:
        """erased: tells records of erased persons; None where nobody was erased."""
        self.connection, self.project, self.secret, self.mapping, self.shape, self.erased = connection, project, secret, mapping, shape, erased
        self.outcomes: list[FileOutcome] = []
        self.rows = 0
        # Identical rows of a file are numbered where the mapping keeps them: then no file may be cut.
        self.part_rows = None if mapping.keep_identical_rows else PART_ROWS
        self.clean = Clean(scratch_folder(project.home), LINE_MARK if shape.is_json else mapping.delimiter, self.part_rows)
        columns = ", ".join(f"{name(column)} VARCHAR" for column in shape.columns)
        connection.execute(f"create or replace temp table {RECORDS} ({_HEAD}, {columns})")

    def add(self, opened: Opened, outcome: FileOutcome) -> None:
        """Takes a file's records, and says in its outcome how many they are."""
        if opened.text is None:
            columns = ", ".join(["_wm_row", "_wm_rule", "_wm_raw", "_wm_bytes", *map(name, self.shape.columns)])
            sql = f"insert into {RECORDS} select {outcome.file_id} as _wm_file, {columns} from {READ}"
            outcome.rows_read = int(self.connection.execute(sql).fetchall()[0][0])
        else:
            outcome.rows_read = self._split(opened, outcome.file_id)
        self.outcomes.append(outcome)
        self.rows += outcome.rows_read

    def _split(self, opened: Opened, file_id: int) -> int:
        refused, mark = self.clean.folder / "refused.parquet", self.clean.mark()
        try:
            count = split_text(opened, self.mapping, file_id, self.clean, refused)
        except BaseException:
            self.clean.rewind(mark, file_id)
            raise
        if refused.exists():
            sql = f"insert into {RECORDS} by name select {file_id} as _wm_file, * from read_parquet({file_list([refused])})"
            self.connection.execute(sql).fetchall()
        return count

    def apply(self, canonical: Canonical, batch: Batch, outcomes: list[FileOutcome]) -> None:
        """Turns the records of these files (all, or one of them) into events and refused rows of the batch, and fills in their counts.

        A part at a time, so that what is made on the way fits in memory however large a file is. How late a row may be is known when all of its
        file are parsed: then the events that are later are taken back.
        """
        connection = self.connection
        ids = ", ".join(str(outcome.file_id) for outcome in outcomes)
        clean = self.clean_parts(outcomes)
        for number, _ in enumerate(self.parse(canonical, clean, outcomes)):
            connection.execute(judged_sql(is_first=number == 0)).fetchall()
            batch.add_events(canonical, PARSED, self.secret.parameters())
        connection.execute(f"create or replace temp table {BOUNDS} as {bounds_sql()}")
        verdicts = verdicts_sql(self.project.settings.time.max_future_skew_days)
        batch.drop_events(late_sql(verdicts))
        records = f"select * from {RECORDS} where _wm_file in ({ids})"
        if clean and rows(connection, f"select 1 from ({verdicts}) where verdict is not null limit 1"):
            records += f" union all by name select * from {clean_sql(clean, self.shape, self.clean)}"
        if batch.add_refused(f"({records})", verdicts, self.shape, {outcome.file_id: outcome.file for outcome in outcomes}) and self.erased:
            self.erased.strike_refused(REFUSED, self.mapping, UNREADABLE)
        limits = {file_id: (occurred, received) for file_id, occurred, received in rows(connection, f"select * from {BOUNDS} order by 1 nulls last")}
        counted = rows(connection, f"select ingest_file_id, count(*) from {REFUSED} where ingest_file_id in ({ids}) group by 1 order by 1 nulls last")
        refused = {int(str(file_id)): int(str(count)) for file_id, count in counted}
        for outcome in outcomes:
            outcome.last_occurred, outcome.last_received = limits.get(outcome.file_id, (None, None))
            outcome.rows_quarantined = refused.get(outcome.file_id, 0)

    def parse(self, canonical: Canonical, clean: Sequence[Path], outcomes: list[FileOutcome]) -> Iterator[str]:
        """Parses the good records of these files into `_wm_parsed`, a part after the other; yields the relation that each part was parsed from.

        What is of erased persons is marked as broken.
        """
        for part in self._parts(clean, outcomes):
            self.connection.execute(f"create or replace temp table {PARSED} as {canonical.parsed_sql(part)}").fetchall()
            if self.erased:
                self.erased.mark(PARSED, canonical)
            yield part

    def clean_parts(self, outcomes: list[FileOutcome]) -> list[Path]:
        """The clean files that hold the good records of these files, and of no other."""
        self.clean.close()
        clean = self.clean.parts
        return [self.clean.cut_out(outcomes[0].file_id)] if clean and len(outcomes) < len(self.outcomes) else clean

    def _parts(self, clean: Sequence[Path], outcomes: list[FileOutcome]) -> list[str]:
        """Relations that hold the good records of these files, each small enough."""
        if clean:
            return [clean_sql([part], self.shape, self.clean) for part in clean]
        large = [outcome for outcome in outcomes if self.part_rows and outcome.rows_read > self.part_rows]
        together = ", ".join(str(outcome.file_id) for outcome in outcomes if outcome not in large)
        conditions = [f"_wm_file in ({together})"] if together else []
        for outcome in large:
            firsts = range(1, outcome.rows_read + 1, PART_ROWS)
            conditions += [f"_wm_file = {outcome.file_id} and _wm_row between {first} and {first + PART_ROWS - 1}" for first in firsts]
        return [f"(select * from {RECORDS} where {condition})" for condition in conditions]

    def forget(self) -> None:
        for table in (RECORDS, PARSED, JUDGED, BOUNDS):
            self.connection.execute(f"drop table if exists {table}")
        if self.erased:
            self.erased.forget()
        self.clean.forget()


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
