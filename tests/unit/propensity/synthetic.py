"""A warehouse whose chance of conversion is known: feature views, label and clock as the models make them, drawn with NumPy."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.features import Field
from waymark.core.warehouse import Connection

BEHAVIOR, CHANNELS = "features.feat_customer_behavior", "features.feat_customer_channels"
FIELDS = (
    Field("hours_since_last_event", "number", None, "", (), BEHAVIOR),
    Field("session_count_28d", "integer", 28, "", (), BEHAVIOR),
    Field("has_cart", "boolean", None, "", (), BEHAVIOR),
    Field("last_channel", "category", None, "", (), CHANNELS),
)
FIRST = datetime(2024, 1, 1)
CHANNEL_NAMES = ("direct", "email", "paid_search")


def population(customers: int, weeks: int, *, seed: int = 1, shuffled: bool = False) -> pa.Table:
    """One row per customer and week: customer_id, as_of_at, the fields, is_converted and chance, the probability it was drawn with.

    shuffled: outcomes are dealt anew among the rows, so that nothing is left to learn.
    """
    draw = np.random.default_rng(seed)
    rows = customers * weeks
    person, week = np.tile(np.arange(customers), weeks), np.repeat(np.arange(weeks), customers)
    hours, sessions = draw.exponential(200, rows), draw.poisson(2, rows)
    cart, channel = draw.random(rows) < 0.3, draw.integers(0, 3, rows)
    margin = -2.2 - hours / 200 + 0.3 * sessions + 1.2 * cart + 0.6 * (channel == 1) + 0.5 * (cart & (sessions > 2))
    chance = 1 / (1 + np.exp(-margin))
    converted = draw.random(rows) < chance
    if shuffled:
        converted = draw.permutation(converted)
    points = np.datetime64(FIRST, "us") + week * np.timedelta64(7, "D")
    return pa.table({
        "customer_id": pa.array([f"c{number:05d}" for number in person]),
        "as_of_at": pa.array(points),
        "hours_since_last_event": pa.array(hours, mask=draw.random(rows) < 0.05),
        "session_count_28d": pa.array(sessions.astype(np.int64)),
        "has_cart": pa.array(cart),
        "last_channel": pa.array([CHANNEL_NAMES[place] for place in channel], mask=draw.random(rows) < 0.05),
        "is_converted": pa.array(converted),
        "chance": pa.array(chance),
    })  # fmt: skip


def fill(connection: Connection, table: pa.Table, *, horizon_days: int = 7) -> None:
    """Makes the views' tables, the label and the clock of `table`, whose last point is data_now: only rows a horizon older have a label."""
    connection.register("given", table)
    connection.execute("create schema if not exists features; create schema if not exists raw")
    key = "customer_id || '|' || as_of_at::varchar as customer_point_id, customer_id, as_of_at"
    for view in (BEHAVIOR, CHANNELS):
        names = ", ".join(field.name for field in FIELDS if field.table == view)
        connection.execute(f"create or replace table {view} as select {key}, {names} from given")
    connection.execute("create or replace table raw.run_clock as select max(as_of_at) as data_now from given")
    connection.execute(f"""
        create or replace table features.label_conversion as select {key}, {horizon_days} as horizon_days, is_converted from given
        where as_of_at + to_days({horizon_days}) <= (select data_now from raw.run_clock);
        create or replace view features.train_conversion as from features.label_conversion;
        create or replace view features.score_points as select customer_point_id, customer_id, as_of_at from {BEHAVIOR}
    """)
    connection.unregister("given")


def week(number: int) -> datetime:
    return FIRST + timedelta(days=7 * number)


def array(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)
