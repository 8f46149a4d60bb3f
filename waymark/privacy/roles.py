"""Who sees what of the published tables: roles, each with a mask for every class of columns, and the SQL of the masks.

A mask is made of the column's text, so that equal values of two tables stay equal inside one role's file, and are joined as before. Each role has a pepper of
its own, made from the project's secret: what two roles hold cannot be put side by side by its digests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from waymark.core.quoting import name
from waymark.privacy.classes import CLASSES, ColumnClass
from waymark.privacy.hashing import hmac_sql
from waymark.privacy.secret import Secret

Mask = Literal["clear", "digest", "truncated", "absent"]
RoleName = Literal["analyst", "marketer", "engineer", "auditor", "service"]
MASK_MEANINGS: dict[Mask, str] = {
    "clear": "as it is",
    "digest": "a keyed digest under the role's own pepper: tells equal from different, and joins within the file",
    "truncated": "a text's first characters (at most 3, at most half of it), a time's month; other types are absent",
    "absent": "not in the file",
}


@dataclass(frozen=True)
class Role:
    """masks: in the order of CLASSES, from public to sensitive."""

    name: RoleName
    purpose: str
    masks: tuple[Mask, Mask, Mask, Mask, Mask]

    def mask(self, kind: ColumnClass) -> Mask:
        return self.masks[CLASSES.index(kind)]


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("analyst", "asks what happened, over all people", ("clear", "clear", "digest", "absent", "absent")),
        Role("marketer", "chooses whom to address, by customer id", ("clear", "clear", "clear", "absent", "absent")),
        Role("engineer", "sees whether sources and models are right", ("clear", "clear", "clear", "truncated", "absent")),
        Role("auditor", "checks that numbers agree", ("clear", "clear", "digest", "digest", "absent")),
        Role("service", "answers by the visitor's own id", ("clear", "clear", "clear", "clear", "absent")),
    )
}


def role_secret(secret: Secret, role: str) -> Secret:
    """The role's pepper: the same in every run under one secret, so that an analyst's saved ids keep their meaning."""
    return Secret(secret.hmac(f"waymark role|{role}").encode())


def masked_sql(column: str, kind: str, mask: Mask) -> str | None:
    """SQL for a column of this DuckDB type under a mask, with the pads of `role_secret` as bound parameters; None where it is absent."""
    quoted = name(column)
    if mask == "clear":
        return quoted
    if mask == "digest":
        if kind.endswith("[]"):
            return f"list_transform({quoted}, lambda item: {_digest('item')}) as {quoted}"
        return f"{_digest(quoted)} as {quoted}"
    if mask == "truncated":
        if kind == "VARCHAR":
            return f"left({quoted}, least(3, length({quoted}) // 2)) || '…' as {quoted}"
        if kind in ("TIMESTAMP", "DATE"):
            return f"cast(date_trunc('month', {quoted}) as {kind}) as {quoted}"
    return None


def _digest(value: str) -> str:
    return f"left({hmac_sql(f'cast({value} as varchar)')}, 32)"
