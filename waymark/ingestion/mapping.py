"""Source mappings: one YAML file says what a source's columns mean. Grammar: docs/sources.md."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from waymark.core.errors import MappingError
from waymark.core.people_settings import NAME_PATTERN
from waymark.ingestion.consent import ACT_FIELDS, ACTIONS, STATED, TOLD, Consent, ConsentEvents
from waymark.privacy.comparables import KINDS

FORMATS = ("csv", "ndjson", "json", "parquet")
ID_COLUMN = "event_id"
MAPPABLE = (
    ID_COLUMN, "event_type", "occurred_at", "received_at", "anonymous_id", "user_id", "source_channel",
    "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "click_id_type", "click_id", "referrer", "page_url", "screen",
    "user_agent", "device_type", "os", "browser", "country", "region", "city", "language", "order_id", "value", "currency", "properties", "text",
)  # fmt: skip
REQUIRED = ("occurred_at", "event_type")
_TOP_KEYS = {
    "source", "format", "encoding", "delimiter", "time_zone", "identical_rows", "session_key", "namespaces", "currency",
    "columns", "identifiers", "compare", "events", "unknown_events", "consent", "is_internal",
}  # fmt: skip
_RULE_KEYS = {"column", "columns", "json", "from", "expr", "const", "optional"}
HOUSEHOLD_KINDS = ("street", "place")  # what a household has in common, unless the mapping says otherwise
MOST_PARTS = 16
EVENT_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class Rule:
    """Where one canonical column comes from. Exactly one of names, bundle, paths, expr, const is filled."""

    names: tuple[str, ...] = ()  # the first of these columns (csv, parquet) or top-level keys (json)
    bundle: tuple[str, ...] = ()  # several columns as one JSON object (properties)
    paths: tuple[str, ...] = ()  # JSON paths: the first that gives a value
    within: str | None = None  # the column that holds the JSON; None: the whole record
    expr: str | None = None
    const: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Compared:
    """A part of a name, an address or a birth date that is compared and links nobody by itself. kind: one of `comparables.KINDS`.

    household: everybody in a household has it in common.
    """

    rule: Rule
    kind: str
    household: bool


@dataclass(frozen=True)
class Mapping:
    """A source's mapping, checked. `digest` is of what the file says, not of its comments or the order of its keys."""

    source: str
    format: Literal["csv", "ndjson", "json", "parquet"]
    path: Path
    digest: str
    encoding: str = "utf-8"
    delimiter: str = ","
    time_zone: str = "UTC"
    keep_identical_rows: bool = False
    session_key: Rule | Literal["anonymous_id", "user_id", "none"] = "anonymous_id"
    namespaces: dict[str, str] = field(default_factory=dict)
    currency: str | None = None
    columns: dict[str, Rule] = field(default_factory=dict)
    identifiers: dict[str, Rule] = field(default_factory=dict)
    compare: dict[str, Compared] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    quarantine_unknown_events: bool = False
    consent: Consent | None = None
    is_internal: Rule | None = None

    @property
    def is_json(self) -> bool:
        return self.format in ("ndjson", "json")

    @property
    def consent_rules(self) -> dict[str, Rule]:
        """Where what is said of consent comes from, by the rule's place in the mapping."""
        if self.consent is None:
            return {}
        stated = {"consent.scopes": self.consent.scopes} if self.consent.scopes is not None else {}
        return {**stated, **{f"consent.events.{name}": rule for name, rule in (self.consent.events.rules if self.consent.events else {}).items()}}

    def namespace(self, kind: str) -> str:
        return self.namespaces.get(kind, self.source)


def load_mapping(path: Path | str) -> Mapping:
    """Reads and checks a mapping.

    Raises MappingError, naming the file, the field and the remedy.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise MappingError(f"the mapping cannot be read: {reason}", where=str(file), remedy="Name an existing mapping under sources in waymark.yml.") from error
    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MappingError(
            f"not readable as YAML: {' '.join(str(error).split())}", where=str(file), remedy="Mend the file; examples/sources has some that work."
        ) from error
    if not isinstance(document, dict):
        raise MappingError(
            "the file holds no mapping", where=str(file), remedy="It needs at least: source, format, and columns with occurred_at and event_type."
        )
    return _Reader(file, document).read()


class _Reader:
    """Reads one document, so that every refusal can name its field."""

    def __init__(self, file: Path, document: dict[str, Any]) -> None:
        self.file, self.document = file, document

    def refuse(self, field_name: str, what: str, remedy: str) -> MappingError:
        return MappingError(f"{field_name}: {what}", where=str(self.file), remedy=remedy)

    def read(self) -> Mapping:
        document = self.document
        if unknown := sorted(set(map(str, document)) - _TOP_KEYS):
            raise self.refuse(unknown[0], "no such setting in a mapping", f"Known: {', '.join(sorted(_TOP_KEYS))}.")
        source = str(document.get("source") or "")
        if not NAME_PATTERN.match(source):
            raise self.refuse("source", f"'{source}' is not a name", "Use lower-case letters, digits and _, starting with a letter.")
        chosen = self.choice("format", FORMATS, "csv")
        columns = self.section("columns")
        if unknown := sorted(set(columns) - set(MAPPABLE) - {"source_event_id"}):
            raise self.refuse(f"columns.{unknown[0]}", "no such canonical column", f"Known: {', '.join(MAPPABLE)}.")
        rules = {(ID_COLUMN if name == "source_event_id" else name): self.rule(f"columns.{name}", value) for name, value in columns.items()}
        for name in REQUIRED:
            if name not in rules:
                raise self.refuse(f"columns.{name}", "missing; every event needs it", f"Say where it comes from, for example {name}: {{column: NAME}}.")
        for name, rule in rules.items():
            if rule.bundle and name != "properties":
                raise self.refuse(f"columns.{name}", "`columns` makes a JSON object, which only properties can hold", "Use `column`, or an expr.")
        identifiers = self.section("identifiers")
        for kind in identifiers:
            if not NAME_PATTERN.match(kind) or kind in ("anonymous_id", "user_id", "order_id"):
                raise self.refuse(
                    f"identifiers.{kind}",
                    "not a type of identifier",
                    "Use a lower-case name such as email or phone; anonymous_id and user_id stand under columns, and an order id links nobody.",
                )
        consent, compared = self.consent(), self.compare(identifiers)
        told = consent.events.rules if consent and consent.events else {}
        told = {f"consent.events.{name}": rule for name, rule in told.items()} | {f"compare.{name}": part.rule for name, part in compared.items()}
        self.check_paths(chosen, {f"columns.{name}": rule for name, rule in rules.items()} | told)
        return Mapping(
            source=source, format=cast(Literal["csv", "ndjson", "json", "parquet"], chosen), path=self.file,
            digest=hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:16], encoding=self.encoding(),
            delimiter=self.delimiter(), time_zone=self.zone(),
            keep_identical_rows=self.choice("identical_rows", ("duplicate", "keep"), "duplicate") == "keep", session_key=self.session_key(),
            namespaces=self.namespaces(), currency=self.currency(), columns=rules,
            identifiers={kind: self.rule(f"identifiers.{kind}", value) for kind, value in sorted(identifiers.items())}, compare=compared,
            events=self.events(), quarantine_unknown_events=self.choice("unknown_events", ("keep", "quarantine"), "keep") == "quarantine",
            consent=consent, is_internal=self.rule("is_internal", document["is_internal"]) if document.get("is_internal") is not None else None,
        )  # fmt: skip

    def check_paths(self, chosen: str, rules: dict[str, Rule]) -> None:
        for name, rule in rules.items():
            if rule.paths and not rule.within and chosen in ("csv", "parquet"):
                raise self.refuse(
                    f"{name}.from",
                    f"missing; a {chosen} record is not JSON as a whole",
                    "Name the column that holds the JSON, for example from: details.",
                )

    def compare(self, identifiers: dict[str, Any]) -> dict[str, Compared]:
        found = {}
        for part, value in sorted(self.section("compare").items()):
            where = f"compare.{part}"
            if not NAME_PATTERN.match(part) or part in identifiers:
                raise self.refuse(where, "not a name for a part", "Use a lower-case name such as given_name, which is no identifier: it links nobody.")
            if not isinstance(value, dict) or value.get("kind") not in KINDS:
                said = value.get("kind") if isinstance(value, dict) else None
                what = f"'{said}' is not a kind of part" if said is not None else "does not say its kind"
                raise self.refuse(f"{where}.kind", what, f"Use one of: {', '.join(KINDS)}; for example {part}: {{column: NAME, kind: name}}.")
            household = value.get("household", value["kind"] in HOUSEHOLD_KINDS)
            if not isinstance(household, bool):
                raise self.refuse(f"{where}.household", f"{household!r} is neither true nor false", "Say true for what a household has in common.")
            rule = self.rule(where, {key: said for key, said in value.items() if key not in ("kind", "household")})
            if rule.bundle or rule.const is not None:
                raise self.refuse(where, "a part is one text of each row", "Use column, json or expr.")
            found[part] = Compared(rule, str(value["kind"]), household)
        if len(found) > MOST_PARTS:
            raise self.refuse("compare", f"{len(found)} parts", f"Compare at most {MOST_PARTS}: each pair of parts is a way in which candidates are found.")
        return found

    def section(self, name: str) -> dict[str, Any]:
        value = self.document.get(name) or {}
        if not isinstance(value, dict):
            raise self.refuse(name, "must be a list of `name: where it comes from`", "See docs/sources.md.")
        return {str(key): item for key, item in value.items()}

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        value = str(self.document.get(name, default))
        if value not in known:
            raise self.refuse(name, f"'{value}' is not known", f"Use one of: {', '.join(known)}.")
        return value

    def encoding(self) -> str:
        value = str(self.document.get("encoding", "utf-8"))
        try:
            found = codecs.lookup(value)
            if not found._is_text_encoding:
                raise LookupError
            return str(found.name)
        except LookupError:
            raise self.refuse(
                "encoding", f"unknown encoding '{value}'", "Use a name that Python's codecs know: utf-8, latin-1, cp1252, utf-16, shift_jis, …"
            ) from None

    def delimiter(self) -> str:
        value = self.document.get("delimiter", ",")
        if not isinstance(value, str) or len(value) != 1 or value in '"\r\n\0':
            raise self.refuse("delimiter", f"{value!r} is not one character that can separate fields", 'Use for example "," or ";" or "\\t".')
        return value

    def zone(self) -> str:
        value = str(self.document.get("time_zone", "UTC"))
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise self.refuse("time_zone", f"unknown time zone '{value}'", "Use an IANA name such as Europe/Zurich.") from None
        return value

    def currency(self) -> str | None:
        value = self.document.get("currency")
        if value is not None and not re.fullmatch(r"[A-Za-z]{3}", str(value)):
            raise self.refuse("currency", f"'{value}' is not an ISO 4217 code", "Use three letters such as USD.")
        return str(value).upper() if value is not None else None

    def namespaces(self) -> dict[str, str]:
        found = {kind: str(value) for kind, value in self.section("namespaces").items()}
        for kind, value in found.items():
            if kind not in ("anonymous_id", "user_id", "session_key") or not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
                raise self.refuse(
                    f"namespaces.{kind}", f"'{value}' cannot be used", "Give anonymous_id, user_id or session_key a name of letters, digits, _ . -"
                )
        return found

    def session_key(self) -> Rule | Literal["anonymous_id", "user_id", "none"]:
        value = self.document.get("session_key", "anonymous_id")
        if isinstance(value, dict):
            return self.rule("session_key", value)
        if value in (None, "none", False):
            return "none"
        if value in ("anonymous_id", "user_id"):
            return value  # type: ignore[no-any-return]
        raise self.refuse("session_key", f"'{value}' is not known", "Use anonymous_id, user_id, none, or {expr: SQL}.")

    def events(self) -> dict[str, str]:
        found = {name: str(value) for name, value in self.section("events").items()}
        for name, value in found.items():
            if not EVENT_NAME.match(value):
                raise self.refuse(f"events.{name}", f"'{value}' is not an event type", "Use object_action in snake_case, past tense, such as order_completed.")
        return found

    def consent(self) -> Consent | None:
        document = self.section("consent")
        if not document:
            return None
        known = ("scopes", "separator", "when_absent", "declared", "names", "statements", "events")
        if unknown := sorted(set(document) - set(known)):
            raise self.refuse(f"consent.{unknown[0]}", "no such setting", f"Known: {', '.join(known)}.")
        events = self.consent_events(document)
        if "scopes" not in document and events is None:
            raise self.refuse("consent.scopes", "missing", "Say which column holds the granted scopes, or, under consent.events, which events tell of consent.")
        declared = tuple(sorted(str(scope) for scope in document.get("declared") or []))
        absent = document.get("when_absent", "denied")
        by_scope = {str(scope): str(answer) for scope, answer in absent.items()} if isinstance(absent, dict) else dict.fromkeys(declared, str(absent))
        if absent_unknown := sorted(set(by_scope) - set(declared)):
            raise self.refuse(f"consent.when_absent.{absent_unknown[0]}", "this scope is not declared", "List it under consent.declared.")
        if any(answer not in ("granted", "denied") for answer in by_scope.values()) or (not isinstance(absent, dict) and absent not in ("granted", "denied")):
            raise self.refuse("consent.when_absent", f"{absent!r} is not known", "Use granted or denied, or one of the two for each scope.")
        if not declared and absent == "granted":
            raise self.refuse(
                "consent.declared", "missing: absence grants scopes, but none are declared", "List them, for example declared: [analytics, marketing]."
            )
        separator = document.get("separator", "|")
        if not isinstance(separator, str) or not separator:
            raise self.refuse("consent.separator", f"{separator!r} separates nothing", 'Use for example "|".')
        statements = document.get("statements", "acts")
        if statements not in ("acts", "note"):
            raise self.refuse("consent.statements", f"{statements!r} is not known", "Use acts (what events state enters the ledger) or note (it does not).")
        return Consent(
            scopes=self.rule("consent.scopes", document["scopes"]) if "scopes" in document else None, separator=separator, declared=declared,
            granted_when_absent=tuple(scope for scope in declared if by_scope.get(scope) == "granted"),
            names={theirs: self.scope(f"consent.names.{theirs}", ours) for theirs, ours in self.texts("consent.names", document.get("names")).items()},
            statements_are_acts=statements == "acts", events=events,
        )  # fmt: skip

    def consent_events(self, consent: dict[str, Any]) -> ConsentEvents | None:
        if consent.get("events") is None:
            return None
        document, where = consent["events"], "consent.events"
        if not isinstance(document, dict):
            raise self.refuse(where, "must say which events tell of consent, and where they say what", "See docs/sources.md.")
        if unknown := sorted(set(map(str, document)) - {"types", "actions", *ACT_FIELDS}):
            raise self.refuse(f"{where}.{unknown[0]}", "no such setting", f"Known: types, actions, {', '.join(ACT_FIELDS)}.")
        types = self.texts(f"{where}.types", document.get("types"))
        if not types:
            raise self.refuse(f"{where}.types", "missing", "Name event types and what each does, for example {consent_granted: grant}.")
        for name, action in types.items():
            if not EVENT_NAME.match(name):
                raise self.refuse(f"{where}.types.{name}", f"'{name}' is not an event type", "Use the name that it has after `events`, in snake_case.")
            if action not in (*ACTIONS, STATED, TOLD):
                raise self.refuse(f"{where}.types.{name}", f"'{action}' is not known", f"Use {', '.join(ACTIONS)}, {STATED} or {TOLD}.")
        if "scopes" not in document:
            raise self.refuse(f"{where}.scopes", "missing", "Say where the event names its scopes.")
        if TOLD in types.values() and "action" not in document:
            raise self.refuse(f"{where}.action", "missing; a type says `told`", "Say where the event says what was done.")
        actions = self.texts(f"{where}.actions", document.get("actions"))
        for word, action in actions.items():
            if action not in (*ACTIONS, STATED):
                raise self.refuse(f"{where}.actions.{word}", f"'{action}' is not known", f"Use {', '.join(ACTIONS)} or {STATED}.")
        rules = {name: self.rule(f"{where}.{name}", document[name]) for name in ACT_FIELDS if name in document}
        return ConsentEvents(types, rules, actions)

    def texts(self, name: str, value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(name, "must be a list of `theirs: ours`", "See docs/sources.md.")
        if any(isinstance(key, bool) for key in value):
            raise self.refuse(name, "yes, no, on, off, true and false are no words in YAML unless they are quoted", 'Write for example "yes": grant.')
        return {str(key): str(item) for key, item in value.items()}

    def scope(self, name: str, value: str) -> str:
        if not NAME_PATTERN.match(value):
            raise self.refuse(name, f"'{value}' is not a scope", "Use a lower-case name such as analytics.")
        return value

    def rule(self, name: str, value: Any) -> Rule:
        if isinstance(value, str | list):
            return Rule(names=self.names(name, value))
        if not isinstance(value, dict):
            raise self.refuse(name, f"{value!r} does not say where it comes from", 'Use a column\'s name, or {json: "$.path"}, {expr: "SQL"}, {const: VALUE}.')
        if unknown := sorted(set(map(str, value)) - _RULE_KEYS):
            raise self.refuse(f"{name}.{unknown[0]}", "no such setting", f"Known: {', '.join(sorted(_RULE_KEYS))}.")
        kinds = [kind for kind in ("column", "columns", "json", "expr", "const") if kind in value]
        if len(kinds) != 1:
            raise self.refuse(name, f"needs exactly one of column, columns, json, expr, const; it has {', '.join(kinds) or 'none'}", "See docs/sources.md.")
        optional = value.get("optional", False)
        if not isinstance(optional, bool):
            raise self.refuse(f"{name}.optional", f"{optional!r} is neither true nor false", "Use true or false.")
        kind, content = kinds[0], value[kinds[0]]
        if "from" in value and kind != "json":
            raise self.refuse(f"{name}.from", "goes with json only", "Remove it.")
        if kind == "column":
            return Rule(names=self.names(name, content), optional=optional)
        if kind == "columns":
            return Rule(bundle=self.names(name, content), optional=optional)
        if kind == "json":
            paths = self.names(name, content)
            for path in paths:
                if not path.startswith("$") or "*" in path:
                    raise self.refuse(name, f"'{path}' is not a JSON path to one value", 'Start at the root, without *, such as "$.context.page.url".')
            return Rule(paths=paths, within=str(value["from"]) if "from" in value else None, optional=optional)
        if kind == "expr":
            if not isinstance(content, str) or not content.strip():
                raise self.refuse(f"{name}.expr", "holds no SQL", "Write a DuckDB expression over the file's columns.")
            return Rule(expr=content.strip(), optional=optional)
        if content is None or isinstance(content, dict | list):
            raise self.refuse(f"{name}.const", f"{content!r} is not one value", "Write a text or a number.")
        return Rule(const=("true" if content is True else "false" if content is False else str(content)))

    def names(self, name: str, value: Any) -> tuple[str, ...]:
        found = tuple(str(item) for item in (value if isinstance(value, list) else [value]))
        if not found or any(not item for item in found):
            raise self.refuse(name, "names nothing", "Write a name, or a list of names.")
        return found
