"""SHAP contributions as numbers and sentences. They come from the model in log-odds; a row's contributions and the bias sum to its margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.features import Field

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contribution:
    """log_odds: what the feature adds to the margin against the average row. value: the feature's; None where it is undefined."""

    feature: str
    value: float | str | bool | None
    log_odds: float
    sentence: str


@dataclass(frozen=True)
class Importance:
    """mean_absolute: mean |SHAP| over n rows. direction: rank correlation of value and contribution, -1 to 1; 0 for categories."""

    feature: str
    mean_absolute: float
    direction: float
    n: int


def importances(fields: Sequence[Field], contributions: Floats, values: Mapping[str, npt.NDArray[np.float64]]) -> tuple[Importance, ...]:
    """contributions: (rows, fields + 1). values: of the fields that are numbers. Largest first."""
    from scipy.stats import spearmanr

    found = []
    for place, field in enumerate(fields):
        column, direction = contributions[:, place], 0.0
        value = values.get(field.name)
        if value is not None:
            known = np.isfinite(value)
            if known.sum() > 2 and np.ptp(value[known]) > 0 and np.ptp(column[known]) > 0:
                direction = float(spearmanr(value[known], column[known]).statistic)
        found.append(Importance(field.name, float(np.abs(column).mean()), direction, len(column)))
    return tuple(sorted(found, key=lambda item: (-item.mean_absolute, item.feature)))


def top_contributions(fields: Sequence[Field], row: Floats, values: Mapping[str, object], *, count: int) -> list[Contribution]:
    """The contributions of one row that move its score most, largest first."""
    order = np.argsort(-np.abs(row[: len(fields)]), kind="stable")[:count]
    return [_contribution(fields[int(place)], float(row[int(place)]), values.get(fields[int(place)].name)) for place in order]


def _contribution(field: Field, log_odds: float, value: object) -> Contribution:
    effect = "raises the score" if log_odds > 0 else "lowers the score"
    plain = value if isinstance(value, str | bool) else None if value is None or float(str(value)) != float(str(value)) else float(str(value))
    said = _said(field, plain)
    return Contribution(field.name, plain, log_odds, f"{said}: {effect}")


def _said(field: Field, value: float | str | bool | None) -> str:
    if value is None:
        return f"no {field.meaning.split(';')[0]}"
    if isinstance(value, bool) or field.dtype == "boolean":
        return field.meaning if value else f"not so: {field.meaning}"
    if isinstance(value, str):
        return f"{field.meaning}: {value.replace('_', ' ')}"
    number = f"{value:,.0f}" if float(value).is_integer() or abs(float(value)) >= 100 else f"{value:,.1f}"
    return f"{field.meaning.split(';')[0]}: {number}"
