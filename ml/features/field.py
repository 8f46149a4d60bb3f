"""A field and a view of features, as a feature store names them: entity, fields, windows, owner, consent scope, meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DTYPES = ("integer", "number", "category", "boolean")


@dataclass(frozen=True)
class Field:
    """One column of a feature view.

    dtype: one of DTYPES (number: a double or an amount of money). window_days: how far back it looks; None: over all that is known at the point.
    meaning: a phrase that completes "This customer's …". measures: the columns of intermediate.int_node_days that it is made from.
    """

    name: str
    dtype: str
    window_days: int | None
    meaning: str
    measures: tuple[str, ...]
    table: str = ""


@dataclass(frozen=True)
class FeatureView:
    """A table of features, one row per entity and as_of_at. consent_scope: the scope that a row needs to be used; owner: who answers for it."""

    name: str
    table: str
    entity: str
    owner: str
    consent_scope: str
    description: str
    fields: tuple[Field, ...]


def model_fields(views: Mapping[str, FeatureView]) -> tuple[Field, ...]:
    """All fields in the order of the views and of their columns: the columns of a training set."""
    return tuple(field for view in views.values() for field in view.fields)
