"""Acts of consent that were taken in, for the audit log: `raw.unlogged_acts`, a row per batch, source, scope and action, until an entry tells of them.

Decision: noted in the transaction that takes them in, told by the next publication. Context: an entry and a commit are in two files, and a kill may come
between any two writes. Consequence: what was taken in is always noted; what is being told carries the number of its entry, so after a kill the log is asked
whether it is there, and the acts are told once.
"""

from __future__ import annotations

from collections.abc import Collection

from waymark.core.home import Home
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, has_table, rows
from waymark.privacy.audit import AuditLog

_ACTIONS = {"granted": "grant", "withdrawn": "withdraw", "expired": "expire"}
# A scope that no setting names is a text of the source, which may say anything.
OTHER = "other"


def note_acts(connection: Connection, source: str, batch_id: int, events: str, scopes: Collection[str]) -> None:
    """Notes the acts of these events, a SELECT of consent_act. Part of the transaction that makes them a batch. scopes: those that are told by their name.

    What every event states is not counted: it is an act only where it differs, which the models find out.
    """
    acts = f"select consent_act from ({events}) where consent_act is not null and not coalesce(consent_act.is_statement, false)"
    named = " union all ".join(f"select unnest(consent_act.{column}) as scope, '{action}' as action from acts" for column, action in _ACTIONS.items())
    known = f"case when list_contains(?::varchar[], scope) then scope else '{OTHER}' end"
    found = rows(connection, f"with acts as ({acts}) select {known}, action, count(*) from ({named}) group by all order by all", [sorted(scopes)])
    if found:
        connection.execute(
            "create table if not exists raw.unlogged_acts (source varchar, batch_id integer, scope varchar, action varchar, acts bigint, entry integer)"
        )
        values = ", ".join(f"({literal(source)}, {batch_id}, {literal(str(scope))}, '{action}', {acts}, NULL)" for scope, action, acts in found)
        connection.execute(f"insert into raw.unlogged_acts values {values}")


def log_acts(connection: Connection, home: Home, run_id: str = "") -> None:
    """Writes an entry of the audit log for the acts that none tells of; nothing where there are none. Hold the writer lock; opens no transaction.

    Raises StorageError where the log cannot be written: then they are told by the next attempt.
    """
    if not has_table(connection, "raw.unlogged_acts"):
        return
    cut_short = rows(connection, "select distinct entry from raw.unlogged_acts where entry is not null")
    if cut_short:
        told = {entry.details.get("through_batch") for _, entry in AuditLog(home).lines() if entry and entry.action == "consent_changed"}
        listed = [int(str(entry)) for (entry,) in cut_short if entry in told]
        connection.execute("delete from raw.unlogged_acts where list_contains(?::integer[], entry)", [listed])
    connection.execute("update raw.unlogged_acts set entry = (select max(batch_id) from raw.unlogged_acts)")
    found = rows(connection, "select entry, source, scope, action, sum(acts)::bigint from raw.unlogged_acts group by all order by all")
    if found:
        acts: dict[str, dict[str, dict[str, int]]] = {}
        for _, source, scope, action, count in found:
            acts.setdefault(str(source), {}).setdefault(str(scope), {})[str(action)] = int(str(count))
        AuditLog(home).append("consent_changed", details={"run_id": run_id, "through_batch": found[0][0], "acts": acts})
        connection.execute("delete from raw.unlogged_acts")
