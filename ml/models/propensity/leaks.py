"""Features that know too much. The first line compares stored features with ones that were built from a log cut off at the point; the second looks at
what a single feature does to the test split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.datasets import Dataset, Split
from ml.evaluation import Estimate, auc
from ml.features import Field
from ml.models.propensity.result import Leak

# A single feature that ranks this well says the answer rather than predicts it: behaviour before a purchase is never so clear. The bound is absolute. One
# against the other features would refuse honest data of which one feature carries nearly all (recency alone reaches .90 of .91 in the demo world), and would
# pass what is blatant where everything else is weak. A leak too small for this bound is for the first line, and for times of receipt (backdating.py).
SUSPICIOUS_AUC = 0.97
_LEAST_ROWS = 50


def recomputed_leaks(stored: pa.Table, recomputed: pa.Table, fields: Sequence[Field]) -> tuple[Leak, ...]:
    """Fields whose stored values differ from those built without anything at or after the point.

    stored, recomputed: columns customer_id, as_of_at and the fields'; any order of rows. A row that only one of them has counts as different in all fields.
    """
    keys = [_keys(table) for table in (stored, recomputed)]
    if set(keys[0]) != set(keys[1]):
        missing, every = len(set(keys[0]) ^ set(keys[1])), len(set(keys[0]) | set(keys[1]))
        return (Leak("customer_id", "recomputed", f"{missing} of {every} sampled feature rows exist only with, or only without, later events"),)
    orders = [np.argsort(np.asarray(key)) for key in keys]
    found = []
    for field in fields:
        left, right = (table.column(field.name).combine_chunks().take(pa.array(order)) for table, order in zip((stored, recomputed), orders, strict=True))
        different = sum(1 for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True) if a != b)
        if different:
            said = f"{field.name} needs events at or after the point: {different} of {len(left)} sampled values change without them"
            found.append(Leak(field.name, "recomputed", said))
    return tuple(found)


def _keys(table: pa.Table) -> list[str]:
    return [f"{customer}|{point}" for customer, point in zip(table.column("customer_id").to_pylist(), table.column("as_of_at").to_pylist(), strict=True)]


def univariate_leaks(dataset: Dataset) -> tuple[Leak, ...]:
    """Fields that rank the test split by themselves better than SUSPICIOUS_AUC, up or down. The interval's lower end must lie above it.

    Tried: the rows that have a value; and all rows, those without one at either end, because who has a value can be the answer as well.
    """
    test = dataset.splits["test"]
    matrix = dataset.encoder.encode(test.table)
    found: list[Leak] = []
    for place, (name, category) in enumerate(dataset.encoder.columns):
        column = matrix[:, place].astype(np.float64)
        said = name if category is None else f"{name} = {category}"
        best = max((estimate for estimate in _rankings(column, test) if np.isfinite(estimate.low)), key=lambda estimate: estimate.low, default=None)
        if best is not None and best.low > SUSPICIOUS_AUC and name not in {leak.feature for leak in found}:
            found.append(Leak(name, "univariate", f"{said} alone ranks the test split with AUC {best}; over {SUSPICIOUS_AUC:g} it says the answer"))
    return tuple(found)


def _rankings(column: npt.NDArray[np.float64], test: Split) -> Iterator[Estimate]:
    known = np.isfinite(column)
    for sign in (1.0, -1.0):
        if known.sum() >= _LEAST_ROWS:
            yield auc(test.labels[known], sign * column[known], test.customers[known])
        if not known.all() and len(known) >= _LEAST_ROWS:
            yield auc(test.labels, np.where(known, sign * column, -np.inf), test.customers)
            yield auc(test.labels, np.where(known, sign * column, np.inf), test.customers)
