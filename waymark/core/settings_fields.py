"""What `waymark.yml` may hold, read from its types: for the reference, and for the template that `waymark init` writes."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from waymark.core.settings import FULL_REFRESH, Settings

_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
_BOUNDS = {"ge": "at least {}", "gt": "over {}", "le": "at most {}", "lt": "under {}"}


@dataclass(frozen=True)
class SettingField:
    """One setting. path: dotted, `[]` for the entries of a list, `<name>` for those of a mapping; default: None where it must be given."""

    path: str
    kind: str
    default: Any
    is_required: bool
    bounds: str
    description: str
    needs_full_refresh: bool


@dataclass(frozen=True)
class SettingGroup:
    """The settings under one top-level key, or, under the empty name, those that stand alone."""

    name: str
    description: str
    fields: tuple[SettingField, ...]


def setting_groups() -> list[SettingGroup]:
    """All settings in the order of the types: first those that stand alone."""
    alone: list[SettingField] = []
    groups: list[SettingGroup] = []
    for name, field in Settings.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is None:
            alone.append(_field(name, field))
        elif inner is field.annotation:
            groups.append(SettingGroup(name, _sentence(inner.__doc__), tuple(_fields(name, inner))))
        else:
            joint = "[]" if get_origin(field.annotation) is list else ".<name>"
            groups.append(SettingGroup(name, _sentence(inner.__doc__), (_field(name, field), *_fields(name + joint, inner))))
    return [SettingGroup("", "", tuple(alone)), *groups]


def _fields(prefix: str, model: type[BaseModel]) -> Iterator[SettingField]:
    for name, field in model.model_fields.items():
        yield _field(f"{prefix}.{name}", field)


def _field(path: str, field: FieldInfo) -> SettingField:
    default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
    bounds = [_BOUNDS[limit].format(f"{getattr(bound, limit):,}") for bound in field.metadata for limit in _BOUNDS if getattr(bound, limit, None) is not None]
    bounds += [f"`{bound.pattern}`" for bound in field.metadata if getattr(bound, "pattern", None)]
    bounds += ["at least one entry" for bound in field.metadata if getattr(bound, "min_length", None)]
    return SettingField(
        path, _kind(field.annotation), _plain(default), field.is_required(), ", ".join(bounds), _sentence(field.description), needs_full_refresh(path)
    )


def needs_full_refresh(path: str) -> bool:
    """Whether a change of this setting is refused until it is given `--full-refresh`."""
    parts = path.replace("[]", "").split(".")
    return any(".".join(parts[:length]) in FULL_REFRESH for length in range(1, len(parts) + 1))


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(f"`{argument}`" for argument in arguments)
    if origin is list:
        return "list" if _model_of(arguments[0]) else f"list of {_kind(arguments[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or holds in a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_of(argument))), None)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
