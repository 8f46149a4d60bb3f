"""Promises about data: suites of Great Expectations that run inside DuckDB."""
