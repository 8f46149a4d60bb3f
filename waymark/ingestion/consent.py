"""What a row says of consent: acts (grant, withdraw, expire) of consent events, and scopes that every event states, as one typed column, `consent_act`.

A mapping names the event types that are acts and where scopes, channel and the rest stand (docs/sources.md, docs/consent.md). Rows of these types keep their
place among the events; what they say goes on in `consent_act`, which the models make the ledger from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waymark.core.quoting import literal
from waymark.privacy import redact_name_sql

if TYPE_CHECKING:
    from waymark.ingestion.mapping import Rule

ACT_COLUMNS = {
    "granted": "VARCHAR[]", "withdrawn": "VARCHAR[]", "expired": "VARCHAR[]", "channel": "VARCHAR", "jurisdiction": "VARCHAR", "policy_version": "VARCHAR",
    "stated_by": "VARCHAR", "expires_at": "TIMESTAMP", "is_statement": "BOOLEAN",
}  # fmt: skip
# As DuckDB writes it: granted is a word of SQL.
ACT_TYPE = "STRUCT(" + ", ".join(f'"{column}" {kind}' if column == "granted" else f"{column} {kind}" for column, kind in ACT_COLUMNS.items()) + ")"
# What a consent event can be told of, beside its type. scopes alone is needed.
ACT_TEXTS = ("channel", "jurisdiction", "policy_version", "stated_by")  # shown as they are told, redacted as names are
ACT_FIELDS = ("scopes", "action", *ACT_TEXTS, "expires_at")
ACTIONS = ("grant", "withdraw", "expire")
STATED, TOLD = "stated", "told"
_WORDS = {
    "grant": "grant", "granted": "grant", "opt_in": "grant", "withdraw": "withdraw", "withdrawn": "withdraw", "revoked": "withdraw", "denied": "withdraw",
    "opt_out": "withdraw", "expire": "expire", "expired": "expire",
}  # fmt: skip
_NO_ACT = f"cast(NULL as {ACT_TYPE})"


@dataclass(frozen=True)
class ConsentEvents:
    """types: our event type -> grant, withdraw, expire, stated (each scope says itself whether it is granted) or told (the row's action says it).

    rules: by ACT_FIELDS, where each comes from; actions: the source's words for actions, beside the usual ones.
    """

    types: dict[str, str]
    rules: dict[str, Rule]
    actions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Consent:
    """scopes: where every event states its granted scopes (None: nowhere); names: the source's scope -> ours; statements_are_acts: they enter the ledger."""

    scopes: Rule | None
    separator: str
    declared: tuple[str, ...]
    granted_when_absent: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    statements_are_acts: bool = False
    events: ConsentEvents | None = None


def scopes_sql(said: str, separator: str) -> str:
    """SQL: the scopes that a text grants: a JSON array, a JSON object of booleans, or names with the mapping's separator. Asked once of each distinct text."""
    split = f"list_filter(list_transform(string_split({said}, {literal(separator)}), lambda x: trim(x)), lambda x: x <> '')"
    from_list = f"try(cast(from_json({said}, '[\"VARCHAR\"]') as varchar[]))"
    return f"list_sort(list_distinct(case {_kind(said)} when 'ARRAY' then coalesce({from_list}, []) when 'OBJECT' then {_keys(said, '= ')} else {split} end))"


def told_act_sql(consent: Consent, event_type: str) -> str:
    """SQL over t_act_*: {granted, withdrawn, expired} of a consent event, lists of our scopes; all empty where the row says none; NULL for other events."""
    assert consent.events is not None
    said = "t_act_scopes"
    listed = ours_sql(f"case when {said} is not null then {scopes_sql(said, consent.separator)} else [] end", consent)
    others = f"case when {_kind(said)} = 'OBJECT' then {ours_sql(_keys(said, '<> '), consent)} else {_left_out(listed, consent)} end"
    words = {**_WORDS, **{word.lower(): action for word, action in consent.events.actions.items()}}
    told = "case lower(t_act_action) " + " ".join(f"when {literal(word)} then {literal(action)}" for word, action in words.items()) + " end"
    action = f"case {event_type} " + " ".join(
        f"when {literal(name)} then {told if action == TOLD else literal(action)}" for name, action in consent.events.types.items()
    )  # fmt: skip
    nothing = "cast([] as varchar[])"
    lists = {
        "granted": f"case when act_is in ('grant', 'stated') then {listed} else {nothing} end",
        "withdrawn": f"case act_is when 'withdraw' then {listed} when 'stated' then {others} else {nothing} end",
        "expired": f"case when act_is = 'expire' then {listed} else {nothing} end",
    }
    made = "{" + ", ".join(f"'{name}': {value.replace('act_is', f'({action} end)')}" for name, value in lists.items()) + "}"
    return f"case when {event_type} in ({', '.join(map(literal, consent.events.types))}) then {made} end"


def act_sql(consent: Consent | None, shown: Callable[[str], str]) -> str:
    """SQL: the column consent_act of a row that breaks no rule. shown: SQL of a column's redacted form.

    Needs t_act and t_act_* where the mapping has consent events, t_consent and told_granted (`ours_sql` of its scopes) where every event states scopes.
    """
    if consent is None:
        return _NO_ACT
    cases = []
    if consent.events:
        texts = ", ".join(f"'{name}': {shown(f't_act_{name}')}" for name in ACT_TEXTS)
        lists = ", ".join(f"'{name}': t_act.{name}" for name in ("granted", "withdrawn", "expired"))
        cases.append(f"when t_act is not null then {{{lists}, {texts}, 'expires_at': act_expires_at, 'is_statement': false}}")
    if consent.scopes is not None and consent.statements_are_acts:
        granted = "told_granted"
        blank = ", ".join(f"'{name}': cast(NULL as {ACT_COLUMNS[name]})" for name in (*ACT_TEXTS, "expires_at"))
        lists = f"'granted': {granted}, 'withdrawn': {_left_out(granted, consent)}, 'expired': cast([] as varchar[])"
        cases.append(f"when t_consent is not null then {{{lists}, {blank}, 'is_statement': true}}")
    return f"case {' '.join(cases)} else {_NO_ACT} end" if cases else _NO_ACT


def ours_sql(scopes: str, consent: Consent) -> str:
    """SQL: a list of the source's scopes under our names, sorted. What a mapping does not name may be anything, an address too: it is redacted."""
    cases = " ".join(f"when {literal(theirs)} then {literal(ours)}" for theirs, ours in consent.names.items())
    named = f"case x {cases} else lower(x) end" if cases else "lower(x)"
    return shown_sql(f"list_transform({scopes}, lambda x: {named})")


def shown_sql(scopes: str) -> str:
    """SQL: a list of scopes, each redacted as names are, sorted."""
    return f"list_sort(list_distinct(list_transform({scopes}, lambda x: {redact_name_sql('x')})))"


def _left_out(granted: str, consent: Consent) -> str:
    declared = ours_sql("[" + ", ".join(map(literal, consent.declared)) + "]::varchar[]", consent)
    return f"list_filter({declared}, lambda y: not list_contains({granted}, y))"


def _kind(said: str) -> str:
    return f"case when json_valid({said}) then json_type({said}) end"


def _keys(said: str, is_true: str) -> str:
    """The keys of a JSON object whose value is true (`= `), or is anything else (`<> `)."""
    pointer = "'/' || replace(replace(k, '~', '~0'), '/', '~1')"
    return f"list_filter(json_keys({said}), lambda k: coalesce(json_extract_string({said}, {pointer}), '') {is_true}'true')"
