"""A warehouse with the tables that identity reads, filled from Python events in the way that the dbt models fill them."""

from __future__ import annotations

import json
from collections.abc import Iterable

import reference
from reference import PADS, Event, Supposed

from waymark.core.node_letters import node_letters
from waymark.core.settings import Settings
from waymark.core.warehouse import Connection, connect
from waymark.identity import IdentityReport, clear_restatements, prepare_identity, resolve_identities
from waymark.identity.linkage.links import LINKS, MOVED

IDENTITY_TABLES = (
    *("nodes", "edges", "memberships", "membership_history", "clusters", "over_shared_since"),
    *("negative_evidence", "negative_edges", "operator_links"),
)
_IDENTIFIERS = 'STRUCT("type" VARCHAR, "value" VARCHAR)[]'


def settings(limit: int, *, one_account: bool = True) -> Settings:
    identity = {"max_neighbours": limit, "one_account": one_account}
    return Settings.model_validate({"name": "test", "sources": {"shop": {"mapping": "shop.yml", "files": ["*.csv"]}}, "identity": identity})


class WarehouseDouble:
    """`events` is what is in the lake; `put` adds pending ones (an id that is there already flips); `resolve` and `finish` are a run's steps."""

    def __init__(self, limit: int = 3, *, one_account: bool = True) -> None:
        self.limit, self.one_account = limit, one_account
        self.events: dict[str, Event] = {}
        self.supposed: list[Supposed] = []
        self.words: list[reference.Said] = []
        self.connection: Connection = connect()
        self.connection.execute("set threads = 1")
        for schema in ("intermediate", "staging", "marts", "raw"):
            self.connection.execute(f"create schema {schema}")
        self.connection.execute("create table raw.run_clock as select timestamp '2025-01-01' as data_now")
        self.connection.execute(
            f"""
            create table intermediate.int_events (event_id VARCHAR, occurred_at TIMESTAMP, session_key_id BIGINT, identifiers {_IDENTIFIERS},
                node_ids BIGINT[], is_counted BOOLEAN, is_conversion_event BOOLEAN, order_id VARCHAR, source VARCHAR, value DECIMAL(18, 4), currency VARCHAR);
            create table raw.waymark_operator_events (event_id VARCHAR, event_type VARCHAR, occurred_at TIMESTAMP, properties VARCHAR);
            create table staging.stg_pending_events (event_id VARCHAR, occurred_at TIMESTAMP);
            create table raw.event_conflicts (event_id VARCHAR, occurred_at TIMESTAMP);
            create table intermediate.int_events_sessionized (event_id VARCHAR, session_key_id BIGINT, session_id VARCHAR, occurred_at TIMESTAMP,
                node_ids BIGINT[], customer_id VARCHAR, order_id VARCHAR, is_counted BOOLEAN);
            create table marts.fct_conversions (conversion_id VARCHAR, event_id VARCHAR, customer_id VARCHAR);
            create table marts.fct_sessions (session_key_id BIGINT, session_id VARCHAR, started_at TIMESTAMP, ended_at TIMESTAMP, customer_id VARCHAR);
            """
        )
        prepare_identity(self.connection)

    def put(self, batch: Iterable[Event]) -> None:
        for event in batch:
            if event.event_id in self.events:
                contents = [[event.event_id, content.occurred_at] for content in (self.events[event.event_id], event)]
                self.connection.executemany("insert into raw.event_conflicts values (?, ?)", contents)
            self.events[event.event_id] = event
            self.connection.execute("delete from intermediate.int_events where event_id = ?", [event.event_id])
            nodes = event.node_ids or None
            identifiers = [{"type": kind, "value": value} for kind, value in event.identifiers] or None
            self.connection.execute(
                f"insert into intermediate.int_events values (?, ?, ?, ?::{_IDENTIFIERS}, ?::BIGINT[], ?, ?, ?, 'shop', ?, 'USD')",
                [
                    *(event.event_id, event.occurred_at, event.session_key_id, identifiers, nodes, event.is_counted, event.is_conversion_event),
                    *(event.order_id, event.value),
                ],
            )
            self.connection.execute("insert into staging.stg_pending_events values (?, ?)", [event.event_id, event.occurred_at])

    def say(self, word: reference.Said) -> None:
        """An operator's word, as ingestion would leave it in raw; events of words name nobody, so the models' tables do without them."""
        details = {"node_a": node_letters(word.nodes[0]), "node_b": node_letters(word.nodes[1]), "ordinal": word.ordinal}
        kind = "identity_merge_declared" if word.is_merge else "identity_split_declared"
        self.connection.execute("insert into raw.waymark_operator_events values (?, ?, ?, ?)", [word.event_id, kind, word.at, json.dumps(details)])
        self.words.append(word)

    def resolve(self, *, full_refresh: bool = False) -> IdentityReport:
        found = settings(self.limit, one_account=self.one_account)
        return resolve_identities(self.connection, settings=found, customer_id_pads=PADS, full_refresh=full_refresh, link=self._link)

    def _link(self, connection: Connection, pending_only: bool) -> None:
        """What linkage does with the links that are supposed now."""
        connection.execute(f"create or replace temp table supposed_before as from {LINKS}")
        connection.execute(f"delete from {LINKS}")
        for told in self.supposed:
            connection.execute(f"insert into {LINKS} values (?, ?, ?, 1, ?, ?)", [*told.nodes, told.probability, told.valid_from, told.valid_to])
        if pending_only:
            connection.execute(f"""
                insert into temp.{MOVED} select distinct node_a, node_b from (
                    (from {LINKS} except from temp.supposed_before) union all (from temp.supposed_before except from {LINKS})
                )
            """)

    def build_marts(self) -> None:
        """What dbt's second selection leaves: the old state, as the next run finds it."""
        events = list(self.events.values())
        known, placed = reference.memberships(events, self.limit, self.words, self.supposed), reference.sessions(events)
        self.connection.execute("delete from intermediate.int_events_sessionized; delete from marts.fct_sessions; delete from marts.fct_conversions")
        if not events:
            return
        self.connection.executemany(
            "insert into intermediate.int_events_sessionized values (?, ?, ?, ?, ?::BIGINT[], ?, ?, ?)",
            [
                [
                    event.event_id,
                    event.session_key_id,
                    str(placed[event.event_id]) if event.event_id in placed else None,
                    event.occurred_at,
                    event.node_ids or None,
                    reference.customer_of(event, known),
                    event.order_id,
                    event.is_counted,
                ]
                for event in events
            ],
        )
        self.connection.execute(
            """
            insert into marts.fct_sessions
            select min(session_key_id), session_id, min(occurred_at), max(occurred_at), min(customer_id)
            from intermediate.int_events_sessionized where session_id is not null group by session_id
            """
        )
        # Of each order the first report, whoever's it is.
        self.connection.execute(
            """
            insert into marts.fct_conversions
            select 'o_' || event_id, event_id, customer_id from intermediate.int_events_sessionized join intermediate.int_events using (event_id)
            where is_conversion_event
            qualify row_number() over (partition by coalesce(int_events.order_id, event_id) order by int_events.occurred_at, event_id) = 1
            """
        )

    def finish(self) -> None:
        self.connection.execute("delete from staging.stg_pending_events")
        clear_restatements(self.connection)

    def run(self, batch: Iterable[Event], *, full_refresh: bool = False) -> IdentityReport:
        self.put(batch)
        report = self.resolve(full_refresh=full_refresh)
        self.build_marts()
        self.finish()
        return report

    def table(self, name: str) -> list[tuple[object, ...]]:
        return self.connection.execute(f"from identity.{name} order by all").fetchall()

    def intervals(self) -> list[reference.Interval]:
        return self.connection.execute("select node_id, customer_id, valid_from, valid_to from identity.membership_history order by all").fetchall()

    def identity(self) -> dict[str, list[tuple[object, ...]]]:
        return {name: self.table(name) for name in IDENTITY_TABLES}


def rebuilt(events: Iterable[Event], limit: int, words: Iterable[reference.Said] = (), supposed: Iterable[Supposed] = ()) -> WarehouseDouble:
    """A second warehouse with the same events, resolved from scratch."""
    double = WarehouseDouble(limit)
    double.put(events)
    double.supposed = list(supposed)
    for word in words:
        double.say(word)
    double.resolve(full_refresh=True)
    return double
