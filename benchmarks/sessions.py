"""The one step that everybody writes by hand, in pandas and in SQL: counted events from the lake's files to one row per session."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from benchmarks.floor import lake_files
from waymark.core.quoting import file_list
from waymark.core.settings import Project
from waymark.core.warehouse import connect

_GAP_US = 30 * 60 * 1_000_000
_BOTS = "bot|crawl|spider"  # enough for the simulated world, whose crawlers all say so
_COLUMNS = ["event_id", "session_key", "occurred_at", "user_agent", "is_internal"]


def _files(project: Project) -> list[str]:
    with connect(project.home.warehouse, read_only=True) as connection:
        return lake_files(connection, project)


def sessions_by_pandas(project: Project) -> dict[str, Any]:
    """Seconds without the import; sessions and events counted."""
    import pandas as pd

    files = _files(project)
    start = perf_counter()
    events = pd.concat([pd.read_parquet(file, columns=_COLUMNS) for file in files], ignore_index=True)
    agents = events["user_agent"].str.lower().str.contains(_BOTS, regex=True).fillna(False)
    events = events[~agents & ~events["is_internal"] & events["session_key"].notna()]
    events = events.sort_values(["session_key", "occurred_at", "event_id"])
    events = events.drop_duplicates("event_id")  # of two contents of one id the earlier one counts
    gap = events["occurred_at"].diff().dt.total_seconds() * 1e6
    is_start = (events["session_key"] != events["session_key"].shift()) | (gap > _GAP_US)
    events["session"] = is_start.cumsum()
    found = events.groupby("session").agg(
        session_key=("session_key", "first"), started_at=("occurred_at", "min"), ended_at=("occurred_at", "max"),
        event_count=("event_id", "size"), first_event_id=("event_id", "first"), last_event_id=("event_id", "last"),
    )  # fmt: skip
    seconds = perf_counter() - start
    return {"seconds": seconds, "sessions": len(found), "events": int(found["event_count"].sum())}


def sessions_by_sql(project: Project) -> dict[str, Any]:
    """The same with DuckDB, as floor.sql does it: narrow typed keys, sorted once."""
    files = file_list(_files(project))
    with connect(engine=project.settings.engine, scratch=project.home.scratch) as connection:
        start = perf_counter()
        connection.execute(f"""
            create table sessions as
            with kept as (
                select
                    cast(event_id as uuid) as event_key, cast(md5_number_lower(session_key) >> 1 as bigint) as session_key_id, min(occurred_at) as occurred_at
                from read_parquet({files}, hive_partitioning = false)
                where session_key is not null and not is_internal and not coalesce(regexp_matches(lower(user_agent), '{_BOTS}'), false)
                group by all
            ),

            gapped as (
                select *, epoch_us(occurred_at) - lag(epoch_us(occurred_at)) over key_order as gap_us
                from kept
                window key_order as (partition by session_key_id order by occurred_at, event_key)
            ),

            numbered as (
                select
                    *,
                    sum(case when gap_us > {_GAP_US} then 1 else 0 end) over key_order as session_number,
                    row_number() over key_order as place
                from gapped
                window key_order as (partition by session_key_id order by occurred_at, event_key)
            )

            select
                session_key_id, session_number, min(occurred_at) as started_at, max(occurred_at) as ended_at, count(*) as event_count,
                min_by(event_key, place) as first_key, max_by(event_key, place) as last_key
            from numbered
            group by session_key_id, session_number
        """)
        seconds = perf_counter() - start
        count, events = connection.execute("select count(*), sum(event_count) from sessions").fetchall()[0]
        return {"seconds": seconds, "sessions": int(count), "events": int(events)}
