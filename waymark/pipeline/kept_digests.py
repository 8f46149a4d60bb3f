"""Digests of the published tables that cost what changed: sums that an increment brings up to date, made whole where none is kept.

Decision: the sums stand in the outputs' file, changed in the transaction that changes their table (dbt/macros/engine/kept_digests.sql). Context: to digest
every mart at every publication was most of its work, and grew with history instead of the increment. Consequence: who writes to a table past the models
leaves its digest old. Another number of rows is seen at the next publication, and the table is digested whole; the rest is seen by `waymark verify`, which
digests all of them.
"""

from __future__ import annotations

from waymark.core.digest import Sums, table_sums
from waymark.core.warehouse import OUTPUTS, Connection, rows

TABLE = f"{OUTPUTS}.main.table_digests"
# Marts that are views of one stored table: their digest is the table's.
STORED_AS = {"marts.fct_events": "intermediate.int_events_sessionized", "marts.fct_journey_steps": "intermediate.int_journey_steps"}


def digests_of(connection: Connection, names: list[str]) -> dict[str, str]:
    """Digest by mart. Tables of which none is kept are read whole, and then kept. Call it before the outputs are copied: it writes to them."""
    connection.execute(f"create table if not exists {TABLE} (table_name VARCHAR, engine VARCHAR, row_count BIGINT, first HUGEINT, second HUGEINT)")
    kept = kept_sums(connection)
    found = {}
    for name in names:
        stored = STORED_AS.get(name, name)
        sums = kept.get(stored)
        if sums is None or sums.rows != int(str(rows(connection, f"select count(*) from {stored}")[0][0])):
            sums = table_sums(connection, stored)
            connection.execute(f"delete from {TABLE} where table_name = ?", [stored])
            connection.execute(f"insert into {TABLE} values (?, version(), ?, ?::hugeint, ?::hugeint)", [stored, sums.rows, str(sums.first), str(sums.second)])
        found[name] = sums.digest
    return found


def kept_sums(connection: Connection) -> dict[str, Sums]:
    """By stored table, of those that this version of the engine keeps."""
    if not rows(connection, "select 1 from duckdb_tables() where database_name = ? and schema_name = 'main' and table_name = 'table_digests'", [OUTPUTS]):
        return {}
    found = rows(connection, f"select table_name, row_count, first::varchar, second::varchar from {TABLE} where engine = version()")
    return {str(name): Sums(int(str(count)), int(str(first)), int(str(second))) for name, count, first, second in found}
