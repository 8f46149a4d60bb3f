"""Telling DuckDB's errors from others, without importing DuckDB: only `waymark.core.warehouse` does that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from waymark.core.errors import FileRefusedError
from waymark.core.warehouse import first_line, storage_problem
from waymark.privacy import redact_text

# Of the exceptions of Python's database API (PEP 249), those that tell of the data or of the SQL that reads it.
_OF_WHAT_IS_READ = {"DataError", "ProgrammingError", "NotSupportedError"}


def is_engine_error(error: BaseException) -> bool:
    """True for any error that DuckDB raised."""
    return type(error).__module__.split(".")[0] in ("duckdb", "_duckdb")


@contextmanager
def refusing_engine_errors(where: str, refusal: Callable[[str], FileRefusedError], *, certain: bool = False) -> Iterator[None]:
    """What DuckDB says while it reads a file becomes a refusal of the file; where disk or memory are at their end, it is a StorageError.

    where: the folder that DuckDB writes to. refusal: of what DuckDB says, in a line without addresses and numbers. certain: what may have another cause than
    the file and its mapping (a disk that does not read, an engine that fails) is raised as it is.
    """
    try:
        yield
    except Exception as error:
        if not is_engine_error(error):
            raise
        if problem := storage_problem(error, where):
            raise problem from error
        if certain and _OF_WHAT_IS_READ.isdisjoint(kind.__name__ for kind in type(error).__mro__):
            raise
        raise refusal(redact_text(first_line(error))[:200]) from error
