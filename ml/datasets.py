"""Point-in-time training sets: features as known at a point, joined to the label that ripened after it, and split by time.

Rows come from DuckDB as Arrow batches and land in one float32 matrix; no pandas frame is made. Categories become one column a value, by the values of the
training split alone. A customer may stand in several splits at different points; what must not overlap is the horizon of a label and the points after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ml.features import Field
from ml.labels import LABEL
from waymark.core.digest import table_digest
from waymark.core.settings import LearningSettings
from waymark.core.warehouse import Connection, connect, rows

Matrix = npt.NDArray[np.float32]
SPLITS = ("train", "calibration", "test")
# Ripe points needed: two each to calibrate and to test, and as many to learn from as make a season of weeks.
LEAST_POINTS = 8
TEST_SHARE = 0.2
_BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Encoder:
    """From columns to a matrix. columns: (field, category or None) of each column of the matrix."""

    fields: tuple[Field, ...]
    categories: Mapping[str, tuple[str, ...]]

    @property
    def columns(self) -> tuple[tuple[str, str | None], ...]:
        found: list[tuple[str, str | None]] = []
        for field in self.fields:
            if field.dtype == "category":
                found += [(field.name, value) for value in self.categories.get(field.name, ())]
            else:
                found.append((field.name, None))
        return tuple(found)

    def encode(self, table: pa.Table | pa.RecordBatch, *, by_row: bool = True) -> Matrix:
        """(rows, columns) float32. NULL is NaN; a category that training has not seen is 0 in all of its field's columns.

        by_row: a row lies together in memory, as training and slicing want it; else a column does, which prediction reads as fast and costs a third less.
        Raises KeyError for a missing column.
        """
        # A column at a time into contiguous memory, then turned once: writing across rows costs three times as much.
        matrix = np.empty((len(self.columns), table.num_rows), dtype=np.float32)
        place = 0
        for field in self.fields:
            column = table.column(field.name)
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            if field.dtype == "category":
                known = self.categories.get(field.name, ())
                codes = pc.index_in(column, pa.array(known, pa.string())).fill_null(-1).to_numpy(zero_copy_only=False)
                seen = np.flatnonzero(codes >= 0)
                matrix[place : place + len(known)] = 0
                matrix[place + codes[seen], seen] = 1
                place += len(known)
            else:
                matrix[place] = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
                place += 1
        return np.ascontiguousarray(matrix.T) if by_row else matrix.T


@dataclass(frozen=True)
class Split:
    """Rows of one split in the order (as_of_at, customer_id). customers: each row's customer as a number from 0, over all splits."""

    name: str
    table: pa.Table
    labels: npt.NDArray[np.int8]
    customers: npt.NDArray[np.int64]

    @property
    def points(self) -> npt.NDArray[np.datetime64]:
        return np.asarray(self.table.column("as_of_at").to_numpy())

    @property
    def positives(self) -> int:
        return int(self.labels.sum())


@dataclass(frozen=True)
class Dataset:
    """Three splits of one population. fingerprint: order-free digest of rows and of what was asked for. sampled: share of customers kept."""

    splits: Mapping[str, Split]
    encoder: Encoder
    fingerprint: str
    horizon_days: int
    seed: int
    sampled: float


@dataclass(frozen=True)
class SplitPlan:
    """Points (UTC) by split; points that lie in a gap are in none."""

    points: Mapping[str, tuple[datetime, ...]]


class NotEnoughHistoryError(Exception):
    """The data cannot carry the label. reasons: sentences with the numbers found and needed."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(reasons))


def plan_splits(points: Sequence[datetime], horizon_days: int) -> SplitPlan:
    """The last fifth of the ripe points (two at least) tests, the fifth before it calibrates, the rest trains.

    A label looks horizon_days ahead, so points of a split whose horizon reaches beyond the first point of the next split are purged (Lopez de Prado 2018,
    chapter 7). Raises NotEnoughHistoryError with fewer than 8 ripe points, or where the gaps leave a split empty.
    """
    ordered = sorted(set(points))
    if len(ordered) < LEAST_POINTS:
        raise NotEnoughHistoryError([f"{len(ordered)} weekly points have a label that is ripe after {horizon_days} days; {LEAST_POINTS} are needed"])
    size = max(2, round(TEST_SHARE * len(ordered)))
    test, rest = ordered[-size:], ordered[:-size]
    rest = _purged(rest, test[0], horizon_days)
    calibration, rest = rest[-size:], rest[:-size]
    train = _purged(rest, calibration[0], horizon_days) if calibration else []
    if len(train) < 2 or len(calibration) < 2:
        left = f"{len(train)} points are left to train and {len(calibration)} to calibrate"
        raise NotEnoughHistoryError([f"after gaps of {horizon_days} days, {left}; 2 are needed"])
    return SplitPlan({"train": tuple(train), "calibration": tuple(calibration), "test": tuple(test)})


def _purged(points: Sequence[datetime], first_of_next: datetime, horizon_days: int) -> list[datetime]:
    return [point for point in points if point + timedelta(days=horizon_days) <= first_of_next]


def load_dataset(
    connection: Connection, fields: Sequence[Field], *, horizon_days: int, min_positives: int, max_training_rows: int, seed: int, maturity_days: int = 0,
    as_of: datetime | None = None,
) -> Dataset:
    """Reads the feature views joined to the label, and splits them by time.

    maturity_days: labels of the last so many days before data_now are left out, because late events may still change them. Where a split holds more than
    max_training_rows rows, customers are left out of all splits by a digest of their id and the seed. as_of: an earlier clock (UTC) than data_now: the points
    are those that had ripened by then, their rows as they are known today.
    Raises NotEnoughHistoryError where a table is missing, points are too few, or a split has fewer than min_positives converting rows.
    """
    known = {f"{schema}.{name}" for schema, name in rows(connection, "select table_schema, table_name from information_schema.tables")}
    if missing := sorted({LABEL.training_table, *(field.table for field in fields)} - known):
        raise NotEnoughHistoryError([f"the table {name} does not exist" for name in missing])
    ripe = rows(connection, f"""
        select as_of_at, count(*) from {LABEL.training_table}
        where as_of_at + to_days(cast({int(horizon_days + maturity_days)} as integer)) <= (select least(data_now, $as_of::timestamp) from raw.run_clock)
        group by as_of_at order by as_of_at
    """, {"as_of": as_of})  # fmt: skip
    counted = {_instant(point): int(str(count)) for point, count in ripe}
    plan = plan_splits(list(counted), horizon_days)
    largest = max(sum(counted[point] for point in points) for points in plan.points.values())
    sampled = min(1.0, max_training_rows / largest)
    loaded = {name: _load_split(connection, fields, points, sampled=sampled, seed=seed) for name, points in plan.points.items()}
    lacking = [
        f"the {name} split has {int(table.column(LABEL.name).to_numpy().sum()):,} converting rows of {table.num_rows:,}; {min_positives:,} are needed"
        for name, table in loaded.items()
        if int(table.column(LABEL.name).to_numpy().sum()) < min_positives
    ]
    if lacking:
        raise NotEnoughHistoryError(lacking)
    asked = f"{[field.name for field in fields]}{horizon_days}{maturity_days}{sampled}{seed}"
    return assemble(loaded, fields, horizon_days=horizon_days, seed=seed, sampled=sampled, asked=asked)


def load_for(connection: Connection, settings: LearningSettings, fields: Sequence[Field], *, as_of: datetime | None = None) -> Dataset:
    """`load_dataset` by the settings of a project."""
    return load_dataset(
        connection, fields, horizon_days=settings.horizon_days, min_positives=settings.min_positives, max_training_rows=settings.max_training_rows,
        seed=settings.seed, maturity_days=settings.maturity_days, as_of=as_of,
    )  # fmt: skip


def assemble(tables: Mapping[str, pa.Table], fields: Sequence[Field], *, horizon_days: int, seed: int, sampled: float = 1.0, asked: str = "") -> Dataset:
    """A Dataset of tables that are split already: columns customer_id, as_of_at, is_converted and the fields', in their final order."""
    names = np.concatenate([table.column("customer_id").to_numpy(zero_copy_only=False) for table in tables.values()]).astype(str)
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    ends = np.cumsum([table.num_rows for table in tables.values()])
    splits = {
        name: Split(name, table, table.column(LABEL.name).cast(pa.int8()).to_numpy().astype(np.int8), part)
        for (name, table), part in zip(tables.items(), np.split(codes, ends[:-1]), strict=True)
    }
    categories = {
        field.name: tuple(sorted(value for value in tables["train"].column(field.name).unique().to_pylist() if value is not None))
        for field in fields
        if field.dtype == "category"
    }
    return Dataset(splits, Encoder(tuple(fields), categories), _fingerprint(tables, asked), horizon_days, seed, sampled)


def feature_sql(fields: Sequence[Field], *, where: str, label: bool = False) -> str:
    """SELECT of customer_id, as_of_at, the fields as double or text and, if asked, the label, ordered by (as_of_at, customer_id).

    label: only rows that may be learnt from.

    where: a condition on `points`, the first of the views.
    """
    tables = list(dict.fromkeys(field.table for field in fields))
    aliases = {table: f"view_{number}" for number, table in enumerate(tables)}
    columns = [
        f'cast({aliases[field.table]}."{field.name}" as {"varchar" if field.dtype == "category" else "double"}) as "{field.name}"' for field in fields
    ]
    first = aliases[tables[0]]
    joins = [f"inner join {table} as {alias} on {_same_point(alias, first)}" for table, alias in list(aliases.items())[1:]]
    if label:
        joins.append(f"inner join {LABEL.training_table} as label on {_same_point('label', first)}")
        columns.append(f"label.{LABEL.name} as {LABEL.name}")
    return f"""
        select {first}.customer_id, {first}.as_of_at, {", ".join(columns)}
        from {tables[0]} as {first} {" ".join(joins)}
        where {where.replace("points.", first + ".")}
        order by {first}.as_of_at, {first}.customer_id
    """


def _same_point(one: str, other: str) -> str:
    """Not by customer_point_id, which is these two as one text, made anew for every row that is read."""
    return f"{one}.customer_id = {other}.customer_id and {one}.as_of_at = {other}.as_of_at"


def _load_split(connection: Connection, fields: Sequence[Field], points: Sequence[datetime], *, sampled: float, seed: int) -> pa.Table:
    listed = ", ".join(f"timestamp '{point.isoformat(sep=' ')}'" for point in points)
    where = f"points.as_of_at in ({listed})"
    if sampled < 1:
        where += f" and md5_number_lower(points.customer_id || '|{int(seed)}') % 1000000 < {int(sampled * 1_000_000)}"
    return connection.sql(feature_sql(fields, where=where, label=True)).to_arrow_table(_BATCH_ROWS)


def _fingerprint(tables: Mapping[str, pa.Table], asked: str) -> str:
    """32 hex digits; free of row order, for the same version of DuckDB."""
    digests = []
    with connect() as connection:
        for name, table in tables.items():
            connection.register("split", table)
            digests.append(f"{name}:{table_digest(connection, 'split')}")
            connection.unregister("split")
    return hashlib.sha256(f"{digests}:{asked}".encode()).hexdigest()[:32]


def _instant(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value
