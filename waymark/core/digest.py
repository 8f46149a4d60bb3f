"""Digests: of files (exactly once), of texts (settings, code), and of tables, free of row order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from waymark.core.warehouse import Connection

_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """First 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sums:
    """What a digest is made of: the number of rows, and the sums of two 64-bit hashes of each. They gain by a row that comes, and lose as much as it goes."""

    rows: int
    first: int
    second: int

    @property
    def digest(self) -> str:
        """32 hex digits."""
        return hashlib.sha256(f"{self.rows}:{self.first}:{self.second}".encode()).hexdigest()[:32]


def table_sums(connection: Connection, relation: str, columns: list[str] | None = None) -> Sums:
    """The sums over a relation's rows: equal multisets of rows give equal sums, whatever the order, the threads or the storage.

    Comparable between runs of one DuckDB version (the manifest names it), because `hash()` may change between versions.
    """
    picked = ", ".join(f'"{column}"' for column in columns) if columns else "*"
    sql = f"""
        select count(*), coalesce(sum(hash(t)::hugeint), 0)::varchar, coalesce(sum(hash(hash(t), 'waymark')::hugeint), 0)::varchar
        from (select {picked} from {relation}) t
    """
    count, first, second = connection.execute(sql).fetchall()[0]
    return Sums(int(count), int(first), int(second))


def table_digest(connection: Connection, relation: str, columns: list[str] | None = None) -> tuple[int, str]:
    """Row count and an order-free digest of a relation's rows; comparable as `table_sums` is."""
    sums = table_sums(connection, relation, columns)
    return sums.rows, sums.digest
