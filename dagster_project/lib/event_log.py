"""Dagster's event log of a home: the same SQLite files, without a wait for the disk at each event.

Decision: Dagster opens, commits and closes two databases for each event, and each of that waits for the disk: tens of milliseconds, for hundreds of events
a run. Here connections stay open, and a commit is left to the system's cache (`synchronous=normal` in WAL mode). Consequence: a power cut may cost the
last events of the log, never the log itself, and nothing of the warehouse or of what is published.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as db
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from dagster import EventLogEntry
    from dagster._serdes import ConfigurableClassData

PATTERN_DAY, PATTERN_COUNT = "9999-12-31", 987654321012
_OPEN_SHARDS = 8  # a shard is the file of a run; beside them the index


class HomeEventLogStorage(SqliteEventLogStorage):
    """What dagster.yaml of a home names as event_log_storage."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Any] = OrderedDict()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeEventLogStorage:
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> Any:
        if shard in self._engines:
            self._engines.move_to_end(shard)
            return self._engines[shard]
        if len(self._engines) >= _OPEN_SHARDS:
            self._engines.popitem(last=False)[1].dispose()
        engine = db.create_engine(
            self.conn_string_for_shard(shard), poolclass=QueuePool, pool_size=1, connect_args={"timeout": 60, "check_same_thread": False},
        )  # fmt: skip
        db.event.listen(engine, "connect", lambda connection, _: connection.execute("pragma synchronous = normal"))
        self._engines[shard] = engine
        return engine

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Events of one run in one transaction for each of the two files."""
        from dagster._core.events import ASSET_EVENTS

        plain = [event for event in events if not (event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS)]
        batch = [event for event in events if event.is_dagster_event and event.dagster_event_type in ASSET_EVENTS]
        for event in plain:
            self.store_event(event)
        if not batch:
            return
        with self.run_connection(batch[0].run_id) as connection:
            for event in batch:
                connection.execute(self.prepare_insert_event(event))
        with self.index_transaction() as connection:
            keys: list[Any] = [connection.execute(self.prepare_insert_event(event)).inserted_primary_key for event in batch]
            ids = [key[0] for key in keys]
            self._store_asset_event_tags(connection, batch, ids)
            last = {event.get_dagster_event().asset_key: (event, event_id) for event, event_id in zip(batch, ids, strict=True)}
            for event, event_id in last.values():
                self._store_asset_event(connection, event, event_id)

    def store_days(self, patterns: Sequence[EventLogEntry], days: Mapping[str, int]) -> None:
        """Materializations of many days in one write, into the index alone: the log of the run does not list them.

        patterns: one materialization an asset, of partition PATTERN_DAY, with PATTERN_COUNT where the day's own number belongs. days: that number by day.
        An asset's latest event must come after: here nothing is noted of the asset itself.
        """
        lines = []
        for pattern in patterns:
            line = self._event_to_row(pattern)
            for day, count in days.items():
                text = line["event"].replace(PATTERN_DAY, day).replace(str(PATTERN_COUNT), str(count))
                lines.append({**line, "event": text, "partition": day})
        if lines:
            with self.index_transaction() as connection:
                connection.execute(SqlEventLogStorageTable.insert(), lines)

    def dispose(self) -> None:
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()
