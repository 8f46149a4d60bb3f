"""Needles looked for in texts that the engine holds: found by their words, in one pass whatever their number, and then looked at as bytes are."""

from __future__ import annotations

from waymark.core.warehouse import Connection, rows
from waymark.privacy.needles import Needles, words_sql


class TextSearch:
    """Its needles lie in a temporary table (key, needle) of the connection: of two at once, each needs a table of its own."""

    def __init__(self, connection: Connection, needles: Needles, table: str = "_wm_needles") -> None:
        self.connection, self.needles, self.table = connection, needles, table
        keyed = [(key, needle.text) for key, sharing in needles.by_key.items() for needle in sharing]
        columns = [[key for key, _ in keyed], [text for _, text in keyed]]
        connection.execute(f"create or replace temp table {table} as select unnest(?::varchar[]) as key, unnest(?::varchar[]) as needle", columns)

    def hits(self, texts: str, columns: str) -> list[tuple[object, ...]]:
        """These columns, each combination once, of the texts (a SELECT of them and of `text`) that hold a needle."""
        if not self.needles.by_key:
            return []
        found = rows(self.connection, f"""
            select distinct {columns}, text from (select {columns}, text, {words_sql("text")} as word from ({texts}))
            join {self.table} on key = word where contains(text, needle)""")  # fmt: skip
        return [tuple(told) for *told, text in found if self.needles.are_in(str(text))]
