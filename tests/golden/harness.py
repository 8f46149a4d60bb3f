"""A tiny warehouse for the models: canonical events from a small CSV, identities resolved, dbt run in this process, marts read back by label.

An event's label is `<case>/<event>`, and it stands for everything that the models name by digests: a session, a journey and a touchpoint are called by
their first event, a customer by its first event. So expected tables are written by hand, and hold no digest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from waymark.core.settings import load_project
from waymark.core.warehouse import Connection, connect, outputs_of
from waymark.identity import resolve_identities
from waymark.identity.tables import clear_restatements
from waymark.ingestion.consent import ACT_TYPE
from waymark.pipeline.dbt_project import DbtProject, NodeResult

SOURCE = "tiny"
PADS = (bytes([0x36]) * 64, bytes([0x5C]) * 64)
BEFORE_IDENTITY = "tag:before_identity"
DEFAULT_CLOCK = "2025-03-31 00:00:00"
_TEXT_COLUMNS = (
    *("source_channel", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id_type", "click_id", "referrer", "referrer_host"),
    *("page_url", "page_host", "page_path", "screen", "user_agent", "device_type", "os", "browser", "country", "region", "city", "language"),
)
_OWN_COLUMNS = (
    *("event", "at", "type", "source", "received_at", "session_key", "anonymous_id", "user_id", "email"),
    *("order_id", "value", "currency", "is_internal", "batch"),
)
_CANONICAL = f"""
    event_id VARCHAR, source VARCHAR, source_event_id VARCHAR, event_type VARCHAR, occurred_at TIMESTAMP, received_at TIMESTAMP, session_key VARCHAR,
    anonymous_id VARCHAR, user_id VARCHAR, identifiers STRUCT("type" VARCHAR, "value" VARCHAR)[], {", ".join(f"{name} VARCHAR" for name in _TEXT_COLUMNS)},
    order_id VARCHAR, value DECIMAL(18,4), currency VARCHAR, properties VARCHAR, "text" VARCHAR, consent_scopes VARCHAR[],
    consent_act {ACT_TYPE}, is_internal BOOLEAN, content_digest VARCHAR
"""
_LABELLED_VIEWS = """
    create or replace view tiny.customers as
        select customer_id, min_by(label, row(occurred_at, label)) as customer
        from outputs.marts.fct_events join tiny.labels using (event_id) where customer_id is not null group by customer_id;
    create or replace view tiny.sessions as
        select session_id, label as session from outputs.marts.fct_sessions join tiny.labels on event_id = first_event_id;
    create or replace view tiny.journeys as
        select journey_id, label as journey from outputs.marts.fct_journeys join tiny.labels on event_id = first_event_id;
    create or replace view tiny.conversions as
        select conversion_id, label as conversion from outputs.marts.fct_conversions join tiny.labels using (event_id);
    create or replace view tiny.labelled_events as
        select label as event, session, customer, t.* exclude (session_id, customer_id)
        from outputs.marts.fct_events t join tiny.labels using (event_id) left join tiny.customers using (customer_id)
        left join tiny.sessions using (session_id);
    create or replace view tiny.labelled_sessions as
        select session, label as last_event, customer, t.* exclude (session_id, customer_id, first_event_id, last_event_id)
        from outputs.marts.fct_sessions t join tiny.sessions using (session_id) join tiny.labels on labels.event_id = last_event_id
        left join tiny.customers using (customer_id);
    create or replace view tiny.labelled_touchpoints as
        select label as touchpoint, customer, session_id is not null as has_session, t.* exclude (touchpoint_id, customer_id, session_id, event_id)
        from outputs.marts.fct_touchpoints t join tiny.labels using (event_id) left join tiny.customers using (customer_id);
    create or replace view tiny.labelled_journeys as
        select journey, customer, conversion, t.* exclude (journey_id, customer_id, first_event_id, conversion_id)
        from outputs.marts.fct_journeys t join tiny.journeys using (journey_id) left join tiny.customers using (customer_id)
        left join tiny.conversions using (conversion_id);
    create or replace view tiny.labelled_steps as
        select journey, first.label as first_event, last.label as last_event, customer,
            t.* exclude (journey_id, customer_id, first_event_id, last_event_id)
        from outputs.marts.fct_journey_steps t join tiny.labels first on first.event_id = first_event_id join tiny.labels last on last.event_id = last_event_id
        left join tiny.journeys using (journey_id) left join tiny.customers using (customer_id);
    create or replace view tiny.labelled_conversions as
        select label as conversion, customer, journey, session, t.* exclude (customer_id, journey_id, session_id, event_id)
        from outputs.marts.fct_conversions t join tiny.labels using (event_id) left join tiny.customers using (customer_id)
        left join tiny.journeys using (journey_id) left join tiny.sessions using (session_id);
    create or replace view tiny.labelled_customers as
        select customer, t.* exclude (customer_id) from outputs.marts.dim_customers t join tiny.customers using (customer_id);
"""


class TinyWarehouse:
    """One dbt project and one warehouse file that is filled, run, read and emptied again; the dbt manifest is parsed once.

    settings: what `waymark.yml` says beside name and sources.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        document = {"name": "tiny", "demo": True, "sources": {SOURCE: {"mapping": "tiny.yml", "files": ["none"]}}, **settings}
        (folder / "waymark.yml").write_text(yaml.safe_dump(document))
        self.project = load_project(folder)
        self.project.home.ensure()
        self.dbt = DbtProject(self.project, self.project.home.warehouse, self.project.home.dbt)
        self.dbt.assemble()

    @contextmanager
    def open(self) -> Iterator[Connection]:
        connection = connect(self.project.home.warehouse, engine=self.project.settings.engine, scratch=self.project.home.scratch)
        try:
            yield connection
        finally:
            connection.close()

    def reset(self, files: Sequence[Path], *, clock: str | None = DEFAULT_CLOCK) -> None:
        """An empty warehouse with the events of `files` (each named `<case>/events.csv`) waiting; none has arrived yet. clock: None as in a new home."""
        for path in (*self.project.home.root.glob("warehouse.duckdb*"), *self.project.home.root.glob("outputs.duckdb*")):
            path.unlink()
        with self.open() as connection:
            connection.execute("create schema raw; create schema identity; create schema tiny")
            connection.execute("create table tiny.state (arrived INTEGER, finished INTEGER)")
            connection.execute("insert into tiny.state values (0, 0)")
            connection.execute(f"create table tiny.events ({_CANONICAL}, batch INTEGER)")
            if files:
                connection.execute(f"insert into tiny.events by name {_canonical_sql(connection, files)}")
            connection.execute(f"""
                create table tiny.labels as
                    select distinct event_id, source_event_id as label from tiny.events;
                create view raw.{SOURCE}_events as
                    select * exclude (batch) from tiny.events where batch <= (select arrived from tiny.state)
                    qualify row_number() over (partition by event_id order by occurred_at asc nulls first, content_digest asc nulls first) = 1;
                create view raw.{SOURCE}_pending as
                    select * exclude (batch) from (
                        select * from tiny.events where batch <= (select arrived from tiny.state)
                        qualify row_number() over (partition by event_id order by occurred_at asc nulls first, content_digest asc nulls first) = 1
                    ) where batch > (select finished from tiny.state);
                create view raw.event_conflicts as
                    select distinct source, event_id, content_digest, occurred_at, false as is_survivor from tiny.events
                    where batch <= (select arrived from tiny.state) and event_id in (select event_id from tiny.events group by event_id having count(*) > 1);
                create table raw.run_clock as select cast({f"'{clock}'" if clock else 'NULL'} as timestamp) as data_now;
            """)

    def keep(self, name: str) -> Path:
        """Copies the warehouse as it stands; returns the copy."""
        folder = self.project.directory / name
        folder.mkdir()
        for path in (self.project.home.warehouse, outputs_of(self.project.home.warehouse)):
            shutil.copy(path, folder)
        return folder / self.project.home.warehouse.name

    def put_back(self, kept: Path) -> None:
        """Makes a copy the warehouse again."""
        for path in (kept, outputs_of(kept)):
            shutil.copy(path, self.project.home.root)

    def arrive(self, batch: int) -> None:
        """All batches up to this one have arrived; the next run sees them."""
        with self.open() as connection:
            connection.execute("update tiny.state set arrived = ?", [batch])

    def set_clock(self, clock: str) -> None:
        with self.open() as connection:
            connection.execute(f"update raw.run_clock set data_now = timestamp '{clock}'")

    def run(self, *, full_refresh: bool, finish: bool = True, checks: bool = True) -> list[NodeResult]:
        """One run over what has arrived: models, identities between the two selections. finish=False leaves it as a crash would.

        checks: whether the models' own tests run too (half of a tiny run's time).
        """
        tests = "" if checks else "resource_type:test"
        os.environ["DBT_LOG_LEVEL_FILE"] = "none"  # nobody reads dbt's log here
        results = self.dbt.build(select=BEFORE_IDENTITY, exclude=tests, full_refresh=full_refresh)
        with self.open() as connection:
            resolve_identities(connection, settings=self.project.settings, customer_id_pads=PADS, full_refresh=full_refresh)
        results += self.dbt.build(exclude=f"{BEFORE_IDENTITY} {tests}", full_refresh=full_refresh)
        if finish:
            with self.open() as connection:
                clear_restatements(connection)
                connection.execute("update tiny.state set finished = arrived")
                connection.execute(_LABELLED_VIEWS)
        return results

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        with self.open() as connection:
            return connection.execute(sql).fetchall()

    def pure_tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table that the models made, sorted, as text; of a log, which says when things ran, none."""
        with self.open() as connection:
            names = connection.execute(
                """
                select table_schema || '.' || table_name from information_schema.tables
                where table_schema in ('intermediate', 'marts', 'features') and table_type = 'BASE TABLE' and table_name <> 'fct_identity_restatements'
                order by all
                """
            ).fetchall()
            return {str(name): connection.execute(f"select cast(to_json(t) as varchar) from {name} t order by all").fetchall() for (name,) in names}

    def unit_test(self) -> list[tuple[str, str, str]]:
        """dbt's unit tests: (name, status, message). The models must stand, because dbt takes the columns' types from them."""
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner

        folder = str(self.dbt.folder)
        arguments = ["--quiet", "--no-use-colors", "test", "--select", "test_type:unit", "--project-dir", folder, "--profiles-dir", folder]
        arguments += ["--target-path", str(self.dbt.target), "--log-path", str(self.dbt.folder / "logs"), "--vars", json.dumps(self.dbt.vars, sort_keys=True)]
        manifest = self.dbt.manifest()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                outcome: Any = dbtRunner(manifest=manifest).invoke(arguments)
        finally:
            DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
        if outcome.exception:
            raise outcome.exception
        return [(result.node.name, str(result.status), str(result.message or "")) for result in outcome.result]


def _canonical_sql(connection: Connection, files: Sequence[Path]) -> str:
    """SELECT over the CSVs: short columns to canonical ones. Ids, keys and orders carry the case's name, so that cases are strangers to each other.

    session_key: default anonymous_id; `none` gives no session. batch: default by a digest of the label, 1 to 3.
    """
    listed = ", ".join(f"'{path}'" for path in files)
    scan = f"read_csv([{listed}], header = true, all_varchar = true, union_by_name = true, filename = true, nullstr = '')"
    found = {str(row[0]) for row in connection.execute(f"describe select * from {scan}").fetchall()}
    unknown = found - set(_OWN_COLUMNS) - set(_TEXT_COLUMNS) - {"filename"}
    if unknown:
        raise AssertionError(f"columns that no event has: {sorted(unknown)}")
    given = {name: f'"{name}"' if name in found else "cast(null as varchar)" for name in (*_OWN_COLUMNS, *_TEXT_COLUMNS)}
    texts = ", ".join(_TEXT_COLUMNS)
    return f"""
        with given as (
            select parse_path(filename)[-2] as case_name, {", ".join(f'{expression} as "{name}"' for name, expression in given.items())} from {scan}
        )
        select
            md5(case_name || '/' || event) as event_id, coalesce(source, '{SOURCE}') as source, case_name || '/' || event as source_event_id,
            type as event_type,
            cast("at" as timestamp) as occurred_at, coalesce(cast(received_at as timestamp), cast("at" as timestamp)) as received_at,
            case when session_key = 'none' then null else '{SOURCE}:' || case_name || ':' || coalesce(session_key, anonymous_id) end as session_key,
            anonymous_id, user_id,
            nullif(list_filter([
                {{'type': 'anonymous_id', 'value': case_name || ':' || anonymous_id}}, {{'type': 'user_id', 'value': case_name || ':' || user_id}},
                {{'type': 'email', 'value': case_name || ':' || email}}
            ], lambda identifier: identifier.value is not null), []) as identifiers,
            {texts}, case_name || ':' || order_id as order_id, cast(value as decimal(18, 4)) as value,
            case when value is not null then coalesce(currency, 'USD') end as currency, coalesce(cast(is_internal as boolean), false) as is_internal,
            md5(cast(to_json(given) as varchar)) as content_digest,
            coalesce(cast(batch as integer), 1 + cast(md5_number_lower(case_name || '/' || event) % 3 as integer)) as batch
        from given
    """
