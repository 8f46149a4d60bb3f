"""Which stages of checks are owed: what they look at has changed, or failed them, since they passed last. `raw.unchecked`, a row a stage.

Ingestion owes stage `raw` in the transaction that registers rows; the pipeline owes the others, and says which have passed.
"""

from __future__ import annotations

from collections.abc import Iterable

from waymark.core.warehouse import Connection, rows


def owe_checks(connection: Connection, stages: Iterable[str]) -> None:
    """Says that these stages (of expectations.rules.STAGES) have to be checked before anything is published. May be part of a transaction."""
    _prepare(connection)
    for stage in sorted(set(stages)):
        connection.execute("insert into raw.unchecked select $stage where not exists (from raw.unchecked where stage = $stage)", {"stage": stage})


def settle_checks(connection: Connection, stages: Iterable[str]) -> None:
    """Says that these stages are owed no longer. May be part of a transaction."""
    _prepare(connection)
    connection.execute("delete from raw.unchecked where list_contains(?::varchar[], stage)", [sorted(stages)])


def owed_checks(connection: Connection) -> set[str]:
    """The stages that are owed."""
    _prepare(connection)
    return {str(stage) for (stage,) in rows(connection, "select stage from raw.unchecked order by stage nulls last")}


def _prepare(connection: Connection) -> None:
    connection.execute("create table if not exists raw.unchecked (stage varchar)")
