"""Telling DuckDB's errors from others, without importing DuckDB: only `waymark.core.warehouse` does that."""

from __future__ import annotations


def is_engine_error(error: BaseException) -> bool:
    """True for any error that DuckDB raised."""
    return type(error).__module__.split(".")[0] in ("duckdb", "_duckdb")
