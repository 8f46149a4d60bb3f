"""DuckDB as a data source of Great Expectations, which has none: its generic SQL engine closes a connection before it fetches.

The engine below keeps one connection, the caller's own, so checks see what the run sees, under the same configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import sqlalchemy as sa
from duckdb_engine import ConnectionWrapper
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine

from waymark.core.warehouse import Connection, another_cursor


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """Holds one connection for its life."""

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        if getattr(self, "_held", None) is None:
            self._held = self.engine.connect()
        yield self._held


class DuckDBDatasource(SQLDatasource):
    """`type: duckdb`. The connection is set on the class for the time of a check: a data source is a pydantic model and takes only plain values."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]
    lent: ClassVar[Connection | None] = None

    @property
    def execution_engine_type(self) -> Any:
        return DuckDBExecutionEngine

    def get_execution_engine(self) -> Any:
        """The base class would open the connection string; this one hands over the engine."""
        if not isinstance(self._execution_engine, DuckDBExecutionEngine):
            self._execution_engine = DuckDBExecutionEngine(engine=self.get_engine())
        return self._execution_engine

    def _create_engine(self) -> Any:
        assert DuckDBDatasource.lent is not None
        return sa.create_engine("duckdb:///:memory:", creator=_another_cursor, poolclass=sa.pool.NullPool, pool_reset_on_return=None)


_cursors: list[Connection] = []


def _another_cursor() -> ConnectionWrapper:
    """A handle of its own on the lent connection's database: SQLAlchemy begins a transaction on each."""
    assert DuckDBDatasource.lent is not None
    _cursors.append(another_cursor(DuckDBDatasource.lent))
    return ConnectionWrapper(_cursors[-1])


@contextmanager
def lending(connection: Connection) -> Iterator[None]:
    """Lends the connection to data sources that are made inside; afterwards nothing holds the database any more."""
    DuckDBDatasource.lent = connection
    try:
        yield
    finally:
        DuckDBDatasource.lent = None
        while _cursors:
            _cursors.pop().close()
