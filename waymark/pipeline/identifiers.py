"""Identifiers as people name them on the command line: TYPE:VALUE in plain or keyed form, or a customer id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from waymark.core.errors import StorageError, WaymarkError
from waymark.core.people_settings import NAME_PATTERN
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, has_table, rows
from waymark.identity import is_restating
from waymark.pipeline.code import build_digest
from waymark.pipeline.steps import Run, preflight
from waymark.privacy import Secret, identifier_hash_sql, protected_id_sql

_OWN_TYPES = ("anonymous_id", "user_id")
_CUSTOMER = re.compile(r"c_[0-9a-f]{24}")


@dataclass(frozen=True)
class Identifier:
    """A node of the identity graph. value: namespaced, or a keyed hash: never a plain address or number."""

    node_id: int
    kind: str
    value: str

    def __str__(self) -> str:
        shown = f"{self.value[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", self.value) else self.value
        return f"{self.kind}:{shown}"


def require_ended_run(project: Project) -> Run:
    """The project, ready to be asked who is who.

    Raises StorageError before the first run, after one that did not end, and where another version made the tables.
    """
    if not project.home.warehouse.exists():
        raise StorageError("nothing has been run yet", where=str(project.home.root), remedy="Run `waymark run` first.")
    run = preflight(project)
    with run.open_warehouse() as connection:
        is_there = has_table(connection, "raw.build_state")
        ended = "select build_digest from raw.build_state where not full_refresh_needed and not exists (from raw.lake_files where is_pending)"
        state = rows(connection, ended) if is_there else []
        # Another estimation moves people without a pending event.
        state = [] if state and is_restating(connection) else state
    if not state or state[0][0] != build_digest(project):
        raise StorageError(
            "the last run did not come to its end, or another version made it, so who is who cannot be told", where=str(project.home.root), remedy="waymark run"
        )
    return run


def find_identifier(connection: Connection, secret: Secret, text: str, *, nodes: str = "identity.nodes") -> Identifier:
    """The identifier that a text names. A plain e-mail or number is hashed at once, and stands in no message.

    A device or account may be named without its namespace where one source alone has it. A customer id stands for the identifier that it was made from.
    nodes: where identifiers stand, a relation with the columns of identity.nodes.
    Raises WaymarkError where nothing, or more than one thing, is meant.
    """
    if _CUSTOMER.fullmatch(text):
        found = rows(connection, f"select node_id, identifier_type, identifier_value from {nodes} where node_customer_id = ?", [text])
        if not found:
            raise WaymarkError("no customer ever had this id", where=text, remedy="Those of today: waymark sql 'select customer_id from marts.dim_customers'")
        return Identifier(int(str(found[0][0])), str(found[0][1]), str(found[0][2]))
    kind, _, value = text.partition(":")
    if not value or not NAME_PATTERN.match(kind):
        raise WaymarkError(
            "an identifier is named TYPE:VALUE", remedy="For example anonymous_id:web:17, user_id:shop:42, email:ann@example.org, or a customer id c_…."
        )
    named = f"select node_id, identifier_type, identifier_value from {nodes} where identifier_type = $kind and "
    given = {"kind": kind, "value": value}
    found = rows(connection, named + "identifier_value = $value", given)
    if not found and kind in _OWN_TYPES:
        protected = rows(connection, f"select {protected_id_sql('$value::varchar')}", {"value": value, **secret.parameters()})[0][0]
        found = rows(connection, named + "ends_with(identifier_value, ':' || $value) order by identifier_value limit 5", {"kind": kind, "value": protected})
    elif not found:
        keyed = rows(connection, f"select {identifier_hash_sql(kind, '$value::varchar')}", {"value": value, **secret.parameters()})[0][0]
        found = rows(connection, named + "identifier_value = $value", {"kind": kind, "value": keyed})
    if not found:
        raise WaymarkError(
            f"no event that counts names this {kind}",
            remedy="Look at its spelling and namespace (<source>:<id>), or for events that are still to be taken in: waymark run",
        )
    if len(found) > 1:
        raise WaymarkError(f"several sources have this {kind}", remedy=f"Name one: {', '.join(f'{kind}:{value}' for _, _, value in found)}.")
    return Identifier(int(str(found[0][0])), str(found[0][1]), str(found[0][2]))


def keep_named(connection: Connection, secret: Secret, texts: Sequence[str]) -> str:
    """Makes temp table `named_nodes`, for `find_identifier`: of identity.nodes those that one of these texts may name, all in one pass. Gives its name."""
    by_kind: dict[str, list[str]] = {}
    for kind, _, value in (text.partition(":") for text in texts):
        if value and NAME_PATTERN.match(kind):
            by_kind.setdefault(kind, []).append(value)
    plain, own = {value for values in by_kind.values() for value in values}, set[str]()
    for kind, values in by_kind.items():
        keyed = protected_id_sql("value") if kind in _OWN_TYPES else identifier_hash_sql(kind, "value")
        told = rows(connection, f"select {keyed} from (select unnest($values::varchar[]) as value)", {"values": values, **secret.parameters()})
        (own if kind in _OWN_TYPES else plain).update(str(value) for (value,) in told if value)
    parts = "string_split(identifier_value, ':')"
    # An id without its namespace: as many of its last parts as the one that is named has.
    ends = [f"array_to_string({parts}[-{count}:], ':') in (select unnest($own::varchar[]))" for count in sorted({value.count(":") + 1 for value in own})]
    connection.execute(
        f"""
        create or replace temp table named_nodes as
        select node_id, identifier_type, identifier_value, node_customer_id from identity.nodes
        where node_customer_id in (select unnest($customers::varchar[])) or identifier_value in (select unnest($plain::varchar[]))
            or identifier_type in ({", ".join(f"'{kind}'" for kind in _OWN_TYPES)}) and ({" or ".join(ends) or "false"})
        """,
        {"customers": [text for text in texts if _CUSTOMER.fullmatch(text)], "plain": sorted(plain), **({"own": sorted(own)} if own else {})},
    )
    return "temp.named_nodes"


def keyed_identifier(connection: Connection, secret: Secret, text: str) -> tuple[str, str] | None:
    """(type, value) of an identifier TYPE:VALUE as events hold it, whether or not one does. None where it names a customer, or a device or account without
    the namespace of its source."""
    kind, _, value = text.partition(":")
    if _CUSTOMER.fullmatch(text) or not value or not NAME_PATTERN.match(kind):
        return None
    if kind in _OWN_TYPES:
        space, _, own = value.partition(":")
        protected = rows(connection, f"select {protected_id_sql('$value::varchar')}", {"value": own, **secret.parameters()})[0][0] if own else None
        return (kind, f"{space}:{protected}") if protected else None
    if re.fullmatch(r"[0-9a-f]{64}", value):
        return kind, value
    return kind, str(rows(connection, f"select {identifier_hash_sql(kind, '$value::varchar')}", {"value": value, **secret.parameters()})[0][0])
