"""Records of erased persons: told by the tombstones of the identifiers that they name, and never taken in.

A record counts as an erased person's when one of the identifiers that its mapping reads has a tombstone, and it happened before the person was erased; who
comes back later is a new person. A record that names nobody counts by its order id. Of what cannot be read, and of every refused record, the text is
searched for e-mail addresses and phone numbers, and of what cannot be read for ids as well: too many records may be struck there, never too few.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from waymark.core.clock import wall_now
from waymark.core.home import Home
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, rows
from waymark.ingestion.canonical import Canonical
from waymark.ingestion.event import reason_sql
from waymark.ingestion.mapping import Mapping
from waymark.ingestion.mentions import candidates_sql, tokens_sql
from waymark.privacy import Secret, identifier_hash_sql, protected_id_sql
from waymark.privacy.tombstones import FOR_EVER, KEY, erasure_key, first_erasure_key, has_tombstones, tombstone, tombstone_sql

RULE = "erased"
NOBODY = "coalesce(len(identifiers), 0) = 0"  # condition: the event names no identifier
_AHEAD_DAYS = 2
_NAMED, HITS, _TOKENS, _SOUGHT = "_wm_named", "_wm_named_hits", "_wm_tokens", "_wm_sought"


class Erased:
    """Tells records of erased persons. Made by `open`, where there are any tombstones; or by `looking_for`, for persons who are not erased."""

    def __init__(self, connection: Connection, secret: Secret, key: Secret, tombstones: str = "raw.tombstones") -> None:
        self.connection, self.secret, self.key, self.tombstones = connection, secret, key, tombstones
        self.kinds = {str(kind) for (kind,) in rows(connection, f"select distinct kind from {tombstones}")}

    @classmethod
    def open(cls, connection: Connection, home: Home, secret: Secret) -> Erased | None:
        """None where nobody was erased. Raises StorageError where somebody was, and the key of the tombstones is gone."""
        return cls(connection, secret, erasure_key(home)) if rows(connection, "select 1 from raw.tombstones limit 1") else None

    @classmethod
    def looking_for(cls, connection: Connection, home: Home, secret: Secret, identifiers: Collection[tuple[str, str]]) -> Erased:
        """As if the persons with these identifiers (type, value as events hold it) had been erased now."""
        key = first_erasure_key(home, buried=has_tombstones(connection))
        told = {"digests": [tombstone(key, kind, value) for kind, value in identifiers], "kinds": [kind for kind, _ in identifiers]}
        connection.execute(
            f"""create or replace temp table {_SOUGHT} as
            select unnest($digests::varchar[]) as digest, unnest($kinds::varchar[]) as kind, timestamp '{FOR_EVER}' as until""", told,
        )  # fmt: skip
        return cls(connection, secret, key, f"temp.{_SOUGHT}")

    def mark(self, parsed: str, canonical: Canonical) -> int:
        """Sets `broken` of the parsed records (a table, see `Canonical.parsed_sql`) that are of erased persons to this module's rule; how many are."""
        self.run(f"create or replace temp table {_NAMED} as {canonical.named_sql(parsed)}")
        self.keep_hits(f"select unnest(identifiers) as i from {_NAMED}", f"select distinct order_id from {_NAMED} where {NOBODY}")
        named = f"select _wm_file, _wm_row, occurred_at, is_broken, unnest(identifiers) as i from {_NAMED}"
        return int(str(self.run(f"""
            update {parsed} p set broken = '{RULE}|' from (
                select distinct _wm_file, _wm_row from ({named}) n join {HITS} h on n.i.type = h.type and n.i.value = h.value
                where {before_erasure("n", "h")} or n.is_broken
                union
                select _wm_file, _wm_row from {_NAMED} n join {HITS} h on h.type = 'order_id' and h.value = n.order_id
                where {NOBODY} and ({before_erasure("n", "h")} or n.is_broken)
            ) e where e._wm_file = p._wm_file and e._wm_row = p._wm_row""")[0][0]))  # fmt: skip

    def keep_hits(self, identifiers: str, orders: str) -> None:
        """Makes `_wm_named_hits`: those of some identifiers (SELECT of a struct `i` of type and value) and order ids that have a tombstone, with its time."""
        both = f"select i.type as type, i.value as value from ({identifiers}) union select 'order_id', order_id from ({orders}) where order_id is not null"
        self.run(f"""
            create or replace temp table {HITS} as
            select n.type, n.value, t.until from ({both}) n
            join (select digest, max(until) as until from {self.tombstones} group by digest) t on t.digest = {tombstone_sql("n.type", "n.value")}""")

    def mentioning(self, texts: str, mappings: Sequence[Mapping], *, ids: bool) -> str:
        """SQL: the `_wm_file` and `_wm_row` of texts (SELECT of both and of `text`) in which an erased person's address, number or, if asked, id stands."""
        own = {(kind, mapping.namespace(kind)) for mapping in mappings for kind in ("anonymous_id", "user_id") if kind in self.kinds}
        others = {kind for mapping in mappings for kind in mapping.identifiers if kind in self.kinds} - {"email", "phone"}
        sought = {kind for kind in ("email", "phone") if own or kind in self.kinds} | ({"id"} if ids and (own or others) else set())
        if not sought:
            return "select NULL::integer as _wm_file, NULL::bigint as _wm_row where false"
        hashed = [(kind, kind) for kind in ("email", "phone") if kind in self.kinds] + [(kind, "id") for kind in sorted(others) if ids]
        named = [
            f"select token, {literal(kind)} as type, {identifier_hash_sql(kind, 'candidate')} as value from candidates where kind = '{form}'"
            for kind, form in hashed
        ]
        for kind, space in sorted(own):  # an account's name may be an address, and is then kept as its hash
            value = f"{literal(space + ':')} || {protected_id_sql('candidate')}"
            named.append(f"select token, {literal(kind)} as type, {value} as value from candidates where kind <> 'phone' or starts_with(candidate, '+')")
        self.run(f"create or replace temp table {_TOKENS} as {tokens_sql(texts, sought)}")
        self.run(f"""
            create or replace temp table {HITS} as
            with candidates as ({candidates_sql(_TOKENS, sought)}), named as ({" union all ".join(named)})
            select distinct token from named where {tombstone_sql("type", "value")} in (select digest from {self.tombstones})""")
        return f"select distinct _wm_file, _wm_row from {_TOKENS} where token in (select token from {HITS})"

    def strike_refused(self, refused: str, mapping: Mapping, unreadable: str) -> None:
        """Empties, in a table of refused records, the originals that mention an erased person. unreadable: a condition; there ids are looked for as well."""
        for condition, ids in ((f"rule <> '{RULE}'", False), (f"rule <> '{RULE}' and {unreadable}", True)):
            texts = f"select ingest_file_id as _wm_file, row_number as _wm_row, original as text from {refused} where {condition}"
            if rows(self.connection, f"select 1 from ({texts}) limit 1"):
                hits = self.mentioning(texts, [mapping], ids=ids)
                self.run(f"""
                    update {refused} r set rule = '{RULE}', field = NULL, reason = {reason_sql(literal(RULE), "NULL")}, original = '', original_bytes = NULL
                    from ({hits}) h where h._wm_file = r.ingest_file_id and h._wm_row = r.row_number""")

    def forget(self) -> None:
        """Drops the temporary tables."""
        for table in (_NAMED, HITS, _TOKENS):
            self.connection.execute(f"drop table if exists {table}")

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Executes a statement with the keys that it names."""
        keys = {**(self.secret.parameters() if "$ipad |" in sql else {}), **(self.key.parameters(KEY) if f"$ipad{KEY}" in sql else {})}
        return rows(self.connection, sql, keys or None)


def before_erasure(event: str, hit: str) -> str:
    """SQL: whether an event of an erased person happened before they were erased. A time that is still to come says nothing, and counts as before."""
    return f"({event}.occurred_at is null or {event}.occurred_at <= {hit}.until or {to_come(f'{event}.occurred_at')})"


def to_come(time: str) -> str:
    """SQL: whether a time is so far ahead that it says nothing of when: further than a clock in another zone."""
    return f"{time} > timestamp '{(wall_now() + timedelta(days=_AHEAD_DAYS)).isoformat(sep=' ')}'"
