"""From a file's records to raw values: SQL built from the mapping's rules, for one file's columns."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from waymark.core.errors import FileRefusedError, MappingError
from waymark.core.quoting import literal, name
from waymark.core.warehouse import Connection, first_line
from waymark.ingestion.engine import is_engine_error
from waymark.ingestion.mapping import Mapping, Rule

RECORD, KIND = "record", "_wm_kind"  # of a JSON record: its text, and what json_type says of it, NULL where it is no JSON
_READ_OF_RECORD = re.compile(r"\bjson_extract_string\(\s*record\s*,\s*'(\$[^'*]*)'\s*\)")
_NO_COLUMN = re.compile(r'Referenced column "([^"]+)" (?:was )?not found')
_SIMPLE_KEY = re.compile(r"\.(?:\"([^\"]+)\"|([A-Za-z0-9_\-]+))")


@dataclass(frozen=True)
class Shape:
    """What the records of one file hold: for JSON one text, `record`; else a text column for each of the file's columns."""

    columns: tuple[str, ...]
    is_json: bool = False

    def has(self, column: str) -> bool:
        return column in self.columns


@dataclass
class Extraction:
    """SQL pieces: `steps` are columns that must be computed first, each step from those before, `values` the raw text of each canonical column."""

    steps: tuple[list[str], ...] = field(default_factory=lambda: ([], [], []))  # the record's kind, its documents' values, expressions
    values: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (condition, field): an expression that failed on the row
    bad_json: list[tuple[str, str]] = field(default_factory=list)  # (condition, field): a column that should hold JSON and does not
    missing: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)


class Extractor:
    """Turns rules into SQL for one file's shape."""

    def __init__(self, mapping: Mapping, shape: Shape, file: str, absent: frozenset[str]) -> None:
        self.mapping, self.shape, self.file, self.absent = mapping, shape, file, absent
        self.out = Extraction()
        self.documents: dict[str, list[str]] = {}  # column that holds JSON -> paths wanted of it

    def build(self) -> Extraction:
        """Raises FileRefusedError where the file lacks a column that the mapping needs."""
        mapping = self.mapping
        for column, rule in mapping.columns.items():
            self.add(column, f"columns.{column}", rule)
        for kind, rule in mapping.identifiers.items():
            self.add(f"id:{kind}", f"identifiers.{kind}", rule)
        for field_name, rule in mapping.consent_rules.items():
            self.add(f"act:{field_name.rsplit('.', 1)[-1]}" if field_name.startswith("consent.events.") else "consent", field_name, rule)
        for part, compared in mapping.compare.items():
            self.add(f"part:{part}", f"compare.{part}", compared.rule)
        if mapping.is_internal:
            self.add("is_internal", "is_internal", mapping.is_internal)
        if isinstance(mapping.session_key, Rule):
            self.add("session_key", "session_key", mapping.session_key)
        if self.shape.is_json:
            # Each look into a JSON text parses all of it: so what it is, and all that is wanted of it, are asked once.
            self.out.steps[0].append(f"case when json_valid({RECORD}) then json_type({RECORD}) end as {KIND}")
        for index, (column, paths) in enumerate(self.documents.items()):
            wanted = "[" + ", ".join(literal(path) for path in paths) + "]"
            is_record = column == RECORD and self.shape.is_json
            is_json = f"{KIND} is not null" if is_record else f"{name(column)} is not null and json_valid({name(column)})"
            self.out.steps[1].append(f"case when {is_json} then json_extract_string({name(column)}, {wanted}) end as _wm_j{index}")
            if not is_record:
                self.out.bad_json.append((f"{name(column)} is not null and _wm_j{index} is null", column))
        return self.out

    def add(self, key: str, field_name: str, rule: Rule) -> None:
        value = self.value(key, field_name, rule)
        if value is not None:
            self.out.values[key] = value

    def value(self, key: str, field_name: str, rule: Rule) -> str | None:
        if rule.const is not None:
            return literal(rule.const)
        if rule.expr is not None:
            return self.expression(key, field_name, rule.expr)
        if rule.paths:
            return self.from_paths(key, field_name, rule)
        if rule.bundle:
            return self.from_bundle(key, field_name, rule)
        if self.shape.is_json:
            return self.coalesced([self.path(RECORD, _key_path(column)) for column in rule.names])
        for position, column in enumerate(rule.names):
            if self.shape.has(column):
                if position:
                    self.out.renamed.append(f"{column} for {rule.names[0]}")
                return name(column)
        self.lack(key, field_name, rule.names, rule)
        return None

    def expression(self, key: str, field_name: str, expr: str) -> str | None:
        if field_name in self.absent:
            self.out.missing.append(_shown(key))
            return None
        if self.shape.is_json:
            expr = _READ_OF_RECORD.sub(lambda found: self.path(RECORD, found.group(1)), expr)
        slot = f"_wm_x{len(self.out.failures)}"
        # A failure gives NULL, a value a list of one: so a failed row can be told from an empty one.
        self.out.steps[2].append(f"try(list_value(cast((\n{expr}\n) as varchar))) as {slot}")
        self.out.failures.append((f"{slot} is null", _shown(key)))
        return f"{slot}[1]"

    def from_paths(self, key: str, field_name: str, rule: Rule) -> str | None:
        column = rule.within or RECORD
        if rule.within and self.shape.is_json:
            return self.coalesced([self.path(RECORD, f"{_key_path(column)}{path[1:]}") for path in rule.paths])
        if not self.shape.has(column):
            self.lack(key, field_name, (column,), rule)
            return None
        return self.coalesced([self.path(column, path) for path in rule.paths])

    def from_bundle(self, key: str, field_name: str, rule: Rule) -> str | None:
        if self.shape.is_json:
            found = [(column, self.path(RECORD, _key_path(column))) for column in rule.bundle]
        else:
            absent = tuple(column for column in rule.bundle if not self.shape.has(column))
            if absent and not rule.optional:
                self.lack(key, field_name, absent, rule)
            self.out.missing.extend(absent)
            found = [(column, name(column)) for column in rule.bundle if self.shape.has(column)]
        pairs = ", ".join(f"{literal(column)}, {value}" for column, value in found)
        return f"cast(json_object({pairs}) as varchar)" if pairs else None

    def lack(self, key: str, field_name: str, wanted: tuple[str, ...], rule: Rule) -> None:
        if rule.optional:
            self.out.missing.append(wanted[0])
            return
        shown = ", ".join(self.shape.columns[:4]) + (", …" if len(self.shape.columns) > 4 else "")
        yaml_name = field_name.rsplit(".", 1)[-1]
        example = f"{yaml_name}: [{', '.join(wanted)}, NAME]" if not rule.paths and not rule.bundle else f"{yaml_name}: {{…, optional: true}}"
        raise FileRefusedError(
            f"no column for {_shown(key)}",
            where=f"source '{self.mapping.source}': {self.file}, row 1",
            remedy=f"The mapping looks for {' or '.join(wanted)}; the file has {shown} ({len(self.shape.columns)} columns).\n"
            f"  Add it: {example} in {self.mapping.path.name}, or mark it optional: true; then run again.",
        )

    def path(self, column: str, path: str) -> str:
        paths = self.documents.setdefault(column, [])
        if path not in paths:
            paths.append(path)
        return f"_wm_j{list(self.documents).index(column)}[{paths.index(path) + 1}]"

    @staticmethod
    def coalesced(values: list[str]) -> str:
        return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"


def _shown(key: str) -> str:
    return key.removeprefix("id:").removeprefix("act:").removeprefix("part:")


def _key_path(key: str) -> str:
    return '$."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def removal_patch(rule: Rule, properties: Rule) -> str | None:
    """The JSON merge patch that takes an identifier out of properties, or None where it does not lie there."""
    if properties.bundle and rule.names:
        found = [column for column in rule.names if column in properties.bundle]
        return json.dumps(dict.fromkeys(found)) if found else None
    where = properties.within or (properties.names[0] if properties.names else None)
    keys: list[list[str]] = []
    for path in rule.paths:
        steps = _keys(path)
        if properties.paths and rule.within == properties.within:
            for root in map(_keys, properties.paths):
                if steps[: len(root)] == root and len(steps) > len(root):
                    keys.append(steps[len(root) :])
        elif properties.names and rule.within in properties.names and steps:
            keys.append(steps)
        elif properties.names and rule.within is None and where and steps[:1] == [where] and len(steps) > 1:
            keys.append(steps[1:])
    if not keys:
        return None
    patch: dict[str, object] = {}
    for steps in keys:
        level = patch
        for step in steps[:-1]:
            level = level.setdefault(step, {})  # type: ignore[assignment]
        level[steps[-1]] = None
    return json.dumps(patch, ensure_ascii=False)


def _keys(path: str) -> list[str]:
    """The leading plain keys of a JSON path; what follows an index goes with the key before it."""
    found, position = [], 1
    while match := _SIMPLE_KEY.match(path, position):
        found.append(match.group(1) or match.group(2))
        position = match.end()
    return found


def check_expressions(connection: Connection, mapping: Mapping, shape: Shape, file: str) -> frozenset[str]:
    """Binds each SQL expression and JSON path by itself, so that what DuckDB refuses is named with its field.

    Returns the optional ones whose columns this shape lacks. Raises FileRefusedError where the file lacks the columns of another, and
    MappingError where DuckDB refuses one for itself.
    """
    columns = ", ".join(f"cast(NULL as varchar) as {name(column)}" for column in shape.columns)
    rules = [(f"columns.{column}", rule) for column, rule in mapping.columns.items()]
    rules += [(f"identifiers.{kind}", rule) for kind, rule in mapping.identifiers.items()]
    rules += [(f"compare.{part}", compared.rule) for part, compared in mapping.compare.items()]
    rules += [("is_internal", mapping.is_internal)] if mapping.is_internal else []
    rules += list(mapping.consent_rules.items())
    rules += [("session_key", mapping.session_key)] if isinstance(mapping.session_key, Rule) else []
    absent = []
    for field_name, rule in rules:
        checks = [f"cast((\n{rule.expr}\n) as varchar)"] if rule.expr else [f"json_extract_string('{{}}', [{literal(path)}])[1]" for path in rule.paths]
        for check in checks:
            try:
                # The second column makes an aggregate fail here, and not fold all rows into one.
                connection.execute(f"select {check} as value, _wm_one from (select 1 as _wm_one, {columns}) as record_columns limit 0").fetchall()
            except Exception as error:
                if not is_engine_error(error):
                    raise
                line = first_line(error)
                if not (match := _NO_COLUMN.search(line)):
                    raise MappingError(
                        f"{field_name}: DuckDB refuses {'the expression' if rule.expr else 'the JSON path'}: {line}",
                        where=str(mapping.path), remedy=f"Mend it; the columns are: {', '.join(shape.columns)}.",
                    ) from error  # fmt: skip
                if not rule.optional:
                    raise FileRefusedError(
                        f"no column {match.group(1)}, which the expression of {field_name} needs",
                        where=f"source '{mapping.source}': {file}, row 1",
                        remedy=f"The file has {', '.join(shape.columns)}.\n"
                        f"  Mend the expression in {mapping.path.name}, or mark it optional: true; then run again.",
                    ) from error
                absent.append(field_name)
    return frozenset(absent)
