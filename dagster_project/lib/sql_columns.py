"""The columns of tables that each column of a query is made of: its own text followed through its CTEs, each looked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Origins = frozenset[tuple[str, str]]  # (schema.table, column)


def columns_read(sql: str, tables: Mapping[str, Sequence[str]]) -> dict[str, Origins]:
    """By column of the query, what it is computed from. tables: columns of what it reads, by schema.table.

    Only values count, not conditions and joins. Empty where the text cannot be parsed or qualified.
    """
    import sqlglot
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    groups: dict[str, dict[str, dict[str, str]]] = {}
    for table, columns in tables.items():
        group, name = table.split(".")
        groups.setdefault(group, {})[name] = dict.fromkeys(columns, "varchar")
    schema: dict[str, object] = {**groups}
    try:
        query = qualify(sqlglot.parse_one(sql, dialect="duckdb"), schema=schema, dialect="duckdb", validate_qualify_columns=False, identify=False)
        scope = build_scope(query)
        return _of_scope(scope, {}) if scope else {}
    except Exception:  # a parser that meets what it does not know must not fail a run
        return {}


def _of_scope(scope: Any, seen: dict[int, dict[str, Origins]]) -> dict[str, Origins]:
    from sqlglot import exp

    if id(scope) in seen:
        return seen[id(scope)]
    seen[id(scope)] = {}  # a query that reads itself adds nothing new
    found: dict[str, Origins] = {}
    if scope.set_operation_scopes:
        for part in scope.set_operation_scopes:
            names = list(found)
            for number, (name, origins) in enumerate(_of_scope(part, seen).items()):
                target = names[number] if number < len(names) else name  # a union takes the first part's names
                found[target] = found.get(target, frozenset()) | origins
    else:
        for projection in scope.expression.selects:
            read = [_of_column(scope, column, seen) for column in projection.find_all(exp.Column)]
            found[projection.alias_or_name] = frozenset[tuple[str, str]]().union(*read)
    seen[id(scope)] = found
    return found


def _of_column(scope: Any, column: Any, seen: dict[int, dict[str, Origins]]) -> Origins:
    from sqlglot import exp

    around = scope
    while around is not None and column.table not in around.sources:
        around = around.parent
    if around is None:
        return frozenset()
    source = around.sources[column.table]
    if isinstance(source, exp.Table):
        return frozenset({(f"{source.db}.{source.name}", column.name)})
    if source.is_udtf:  # an unnested list: all that it is made of
        return frozenset[tuple[str, str]]().union(*(_of_column(source, inner, seen) for inner in source.expression.find_all(exp.Column)))
    return _of_scope(source, seen).get(column.name, frozenset())
