"""Which tables hold what is pending, so that a table can be made by itself, and a snapshot refuses to be half of a run.

A run makes all tables in order, and nothing here is asked for. Where somebody makes them one by one, three things must hold: a table is made only from
tables that are there (and, while everything is rebuilt, from rebuilt ones), a table that is made anew makes what is derived from it old, and nothing is
published until every table holds every pending event. What was made stands in `raw.stated`, beside the state of the inputs that it was made from.
What is made while something is pending owes its checks, which have to pass once it is there (`raw.unchecked`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from expectations.rules import Stage
from waymark.core.errors import WaymarkError
from waymark.core.warehouse import Connection, rows
from waymark.identity import is_restating
from waymark.ingestion import owe_checks
from waymark.pipeline.steps import BEFORE_IDENTITY, Run

IDENTITY = "identity.memberships"
SCORES = "marts.fct_propensity_scores"
_TAG = BEFORE_IDENTITY.removeprefix("tag:")
_STATE = """
    select concat_ws('|', build_digest, settings_digest, full_refresh_needed, (select max(batch_id) from raw.lake_files),
        (select count(*) from raw.lake_files where is_pending))
    from raw.build_state
"""
_IS_OPEN = "select full_refresh_needed or exists (from raw.lake_files where is_pending) from raw.build_state"


@dataclass(frozen=True)
class Graph:
    """parents: of each model, and of each table of scores, the tables that it reads, all as schema.table; the identity tables stand as one."""

    parents: dict[str, frozenset[str]]

    def descendants(self, names: Collection[str]) -> set[str]:
        found, grown = set(names), True
        while grown:
            more = {child for child, parents in self.parents.items() if parents & found} - found
            found, grown = found | more, bool(more)
        return found - set(names)


def graph(run: Run) -> Graph:
    """The models of the run's manifest, identity between their two selections, and scores behind them."""
    run.dbt.assemble()
    manifest: Any = run.dbt.manifest()
    models = {unique_id: node for unique_id, node in manifest.nodes.items() if str(node.resource_type) == "model"}
    parents: dict[str, frozenset[str]] = {IDENTITY: frozenset(_name(node) for node in models.values() if _TAG in node.tags)}
    for node in models.values():
        read = {_table(manifest, unique_id) for unique_id in node.depends_on.nodes}
        parents[_name(node)] = frozenset(IDENTITY if name.startswith("identity.") else name for name in read)
        if _TAG not in node.tags:  # whatever a later model reads, it is for the events and people that identity has placed
            parents[_name(node)] |= {IDENTITY}
        for scored in node.config.meta.get("scored", ()):  # what Python makes of those who stand in the model
            parents[str(scored)] = frozenset({_name(node)})
    return Graph(parents)


def _table(manifest: Any, unique_id: str) -> str:
    return _name(manifest.nodes.get(unique_id) or manifest.sources[unique_id])


def _name(node: Any) -> str:
    return f"{node.schema}.{node.name}"


def checked_by(table: str) -> Stage | None:
    """The stage of checks that looks at a table of the models or of scores; None where none does."""
    if table == SCORES:
        return "scores"
    stages: dict[str, Stage] = {"marts": "journeys", "features": "features"}
    return stages.get(table.partition(".")[0])


def note(run: Run, names: Collection[str]) -> None:
    """Says that these tables have just been made, from the inputs as they are; what is derived from them, and was not made with them, is old."""
    if not names:
        return
    old = graph(run).descendants(names)
    with run.open_warehouse() as connection:
        state = _prepare(connection)
        if _is_open(connection):  # else they are made once more from inputs that were checked, and are what they were
            owe_checks(connection, {stage for name in (*names, *old) if (stage := checked_by(name))})
        connection.execute("delete from raw.stated where state is distinct from ? or list_contains(?, name)", [state, sorted({*old, *names})])
        connection.executemany("insert into raw.stated values (?, ?)", [[name, state] for name in sorted(names)])


def require_parents(run: Run, names: Collection[str]) -> None:
    """Raises WaymarkError, naming what to make first, if one of these tables reads one that is not there, or not rebuilt where all are."""
    known = graph(run).parents
    needed = {parent for name in names for parent in known.get(name, ()) if parent in known} - set(names)
    with run.open_warehouse() as connection:
        state = _prepare(connection)
        missing = needed - _tables(connection)
        if bool(rows(connection, "select full_refresh_needed from raw.build_state")[0][0]):
            missing |= needed - _stated(connection, state)
    _refuse(missing, of=names, why="are not there yet, or not rebuilt since the models or the settings changed")


def require_tables(run: Run, names: Collection[str], *, of: str) -> None:
    """Raises WaymarkError, naming what to make first, if one of the tables is not there."""
    with run.open_warehouse() as connection:
        missing = set(names) - _tables(connection)
    _refuse(missing, of=[of], why="are not there yet")


def require_all(run: Run) -> None:
    """Raises WaymarkError if something is pending or to be re-stated, or all is rebuilt, and a table has not been made since."""
    with run.open_warehouse() as connection:
        state = _prepare(connection)
        if not _is_open(connection):
            return
        stated = _stated(connection, state)
    _refuse(set(graph(run).parents) - stated, of=["the snapshot"], why="do not hold what is pending yet")


def hold_what_is_pending(connection: Connection, names: Collection[str]) -> bool:
    """Whether each of these tables has been made since something became pending, or all was to be rebuilt; true where nothing is."""
    state = _prepare(connection)
    return not _is_open(connection) or set(names) <= _stated(connection, state)


def is_unresolved(run: Run) -> bool:
    """Whether there are pending events that identity has not seen: what is re-stated by them is not known yet."""
    with run.open_warehouse() as connection:
        if not _is_open(connection) or "staging.stg_pending_events" not in _tables(connection):
            return False
        query = "select exists (select 1 from staging.stg_pending_events where event_id not in (select event_id from identity.applied_events))"
        return bool(rows(connection, query)[0][0])


def _prepare(connection: Connection) -> str:
    connection.execute("create table if not exists raw.stated (name varchar, state varchar)")
    return str(rows(connection, _STATE)[0][0])


def _is_open(connection: Connection) -> bool:
    """Whether there is something that no finished run has stated."""
    return bool(rows(connection, _IS_OPEN)[0][0]) or is_restating(connection)


def _stated(connection: Connection, state: str) -> set[str]:
    return {str(name) for (name,) in rows(connection, "select name from raw.stated where state = ? order by name", [state])}


def _tables(connection: Connection) -> set[str]:
    return {f"{schema}.{name}" for schema, name in rows(connection, "select table_schema, table_name from information_schema.tables")}


def _refuse(missing: Iterable[str], *, of: Collection[str], why: str) -> None:
    named = sorted(missing)
    if named:
        some = ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
        raise WaymarkError(
            f"tables that it needs {why}: {some}",
            where=", ".join(sorted(of)[:4]),
            remedy="Materialize them first, or all of them in order: job `refresh`, or `waymark run`.",
        )
