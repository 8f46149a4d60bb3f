"""An operator's words: events of the built-in source `waymark_operator`, which say that two identifiers are one person's, or are not.

An event names its two identifiers by their node ids, in letters (waymark.core.node_letters). It belongs to no session, names no person, and counts in no
funnel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from waymark.core.node_letters import named_node_sql
from waymark.core.settings import OPERATOR_SOURCE
from waymark.core.warehouse import Connection, rows
from waymark.identity.probabilities import OPERATOR_MERGE, OPERATOR_SPLIT

EVENT_TYPES = {"identity_merge_declared": OPERATOR_MERGE, "identity_split_declared": OPERATOR_SPLIT}


@dataclass(frozen=True)
class Word:
    """word: operator_merge or operator_split. ordinal: among all words, from 1; of two at one instant the later one stands."""

    word: str
    node_a: int
    node_b: int
    occurred_at: datetime
    ordinal: int
    event_id: str


def read_words(connection: Connection, *, and_also: Sequence[Word] = ()) -> None:
    """Makes temp table operator_words (word, node_a < node_b, occurred_at, ordinal, event_id): all that were ever said, and those of `and_also`."""
    connection.execute(
        """
        create or replace temp table operator_words
            (word VARCHAR, node_a BIGINT, node_b BIGINT, occurred_at TIMESTAMP, ordinal BIGINT, event_id VARCHAR)
        """
    )
    table = f"{OPERATOR_SOURCE}_events"
    if rows(connection, "select 1 from information_schema.tables where table_schema = 'raw' and table_name = ?", [table]):
        cases = " ".join(f"when '{event}' then '{word}'" for event, word in EVENT_TYPES.items())
        connection.execute(
            f"""
            insert into temp.operator_words
            select word, least(node, other), greatest(node, other), occurred_at, ordinal, event_id
            from (
                select case event_type {cases} end as word, {named_node_sql("node_a")} as node, {named_node_sql("node_b")} as other, occurred_at,
                    cast(json_extract_string(properties, '$.ordinal') as bigint) as ordinal, event_id
                from raw."{table}"
            )
            where word is not null and node <> other
            """
        )
    for word in and_also:
        connection.execute(
            "insert into temp.operator_words values (?, ?, ?, ?, ?, ?)",
            [word.word, min(word.node_a, word.node_b), max(word.node_a, word.node_b), word.occurred_at, word.ordinal, word.event_id],
        )
