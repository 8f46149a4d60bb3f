"""Learning beside bare XGBoost: from feature views to a trained booster against data in memory, and scoring of batches against `inplace_predict`.

`OMP_WAIT_POLICY=passive python -m benchmarks.learning [--rows 1000000] [--fields 50] [--rounds 100]`. Both sides of a ratio run in one process, in turns,
three times; the least CPU seconds count, because on a machine that others use too wall seconds say little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa
import xgboost as xgb

from ml.datasets import Encoder, feature_sql, load_dataset
from ml.features import Field
from ml.models.propensity import spec
from ml.models.propensity.calibration import Calibrator
from ml.models.propensity.model import PropensityModel
from waymark.core.settings import EngineSettings
from waymark.core.warehouse import Connection, connect

WEEKS, CHANNELS = 25, ("direct", "email", "paid_search", "referral")
BATCH_ROWS = 50_000
TURNS = 3


def make_views(connection: Connection, rows: int, count: int) -> tuple[Field, ...]:
    """A feature view of `count` fields, one of them a category and one a boolean, over weekly points; its label; and the clock."""
    numbers = [Field(f"measure_{place}", "number", None, "", (), "features.wide") for place in range(count - 2)]
    fields = (*numbers, Field("is_known", "boolean", None, "", (), "features.wide"), Field("channel", "category", None, "", (), "features.wide"))
    customers = max(rows // WEEKS, 1)
    measures = ", ".join(
        f"(case when hash(row_id, {place}) % 50 = 0 then null else (hash(row_id, {place}, 1) % 100000) / 10000.0 end) as {field.name}"
        for place, field in enumerate(numbers)
    )
    connection.execute("create schema features; create schema raw")
    connection.execute(f"""
        create table features.wide as
        with ids as (select range as row_id from range({customers * WEEKS})),
        points as (select row_id, 'c' || lpad((row_id % {customers})::varchar, 8, '0') as customer_id,
            timestamp '2024-01-01' + to_days(7 * (row_id // {customers})::integer) as as_of_at from ids)
        select row_id::varchar as customer_point_id, customer_id, as_of_at, {measures}, row_id % 3 = 0 as is_known,
            (array{list(CHANNELS)!r})[1 + (hash(row_id, 'channel') % {len(CHANNELS)})::integer] as channel
        from points
    """)
    connection.execute("""
        create table features.train_conversion as select customer_point_id, customer_id, as_of_at,
            (hash(customer_point_id, 'drawn') % 10000) / 10000.0
                < 1 / (1 + exp(3.5 - 0.2 * coalesce(measure_0, 5) - 0.03 * coalesce(measure_1 * measure_2, 25)))
            as is_converted from features.wide
    """)
    connection.execute("create table raw.run_clock as select max(as_of_at) + interval 7 days as data_now from features.wide")
    return fields


def least(*pieces: Callable[[], object]) -> list[tuple[float, float]]:
    """(CPU, wall) seconds of each piece, the least of some turns by CPU."""
    found: list[list[tuple[float, float]]] = [[] for _ in pieces]
    for _ in range(TURNS):
        for place, piece in enumerate(pieces):
            cpu, wall = process_time(), perf_counter()
            piece()
            found[place].append((process_time() - cpu, perf_counter() - wall))
    return [min(times) for times in found]


def measure(rows: int, count: int, rounds: int) -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    """(what, ours, bare) of each comparison."""
    params = {**spec.FIXED, **spec.TRIALS[1], "seed": 7}
    with connect(engine=EngineSettings(memory_limit="4GB", threads=2)) as connection:
        fields = make_views(connection, rows, count)
        sql = feature_sql(fields, where="true", label=True)
        table = connection.sql(sql).to_arrow_table()
        encoder = Encoder(fields, {"channel": CHANNELS})
        labels = table.column("is_converted").cast(pa.int8()).to_numpy()
        matrix = encoder.encode(table)

        def boosted(data: np.ndarray, target: np.ndarray) -> xgb.Booster:
            return xgb.train(params, xgb.QuantileDMatrix(data, label=target, max_bin=128, nthread=spec.THREADS), rounds)

        def from_views() -> xgb.Booster:
            read = connection.sql(sql).to_arrow_table(100_000)
            return boosted(encoder.encode(read), read.column("is_converted").cast(pa.int8()).to_numpy())

        def whole_set() -> object:
            return load_dataset(connection, fields, horizon_days=7, min_positives=20, max_training_rows=rows, seed=7)

        trained = least(from_views, lambda: boosted(matrix, labels))
        loaded = least(whole_set)[0]
        booster = boosted(matrix, labels)
        held = slice(0, min(60_000, len(labels)))
        margins = np.asarray(booster.inplace_predict(matrix[held], predict_type="margin"), dtype=np.float64)
        model = PropensityModel(booster, Calibrator.fit(margins, labels[held], np.arange(len(margins))), encoder)
        batches = table.to_batches(max_chunksize=BATCH_ROWS)
        parts = [matrix[first : first + BATCH_ROWS] for first in range(0, len(matrix), BATCH_ROWS)]
        scored = least(lambda: [model.predict(batch) for batch in batches], lambda: [booster.inplace_predict(part) for part in parts])
    return [
        (f"views -> matrix -> {rounds} rounds / the same from memory", trained[0], trained[1]),
        ("load_dataset (split, digest) / training from memory", loaded, trained[1]),
        ("scores with intervals / inplace_predict", scored[0], scored[1]),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Learning beside bare XGBoost, as ratios.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--fields", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=100)
    given = parser.parse_args(arguments)
    print(f"{given.rows:,} rows, {given.fields} fields, {given.rounds} rounds, {spec.THREADS} threads\n")
    print("| ours / bare | CPU s | bare CPU s | CPU ratio | wall ratio | speed of bare |\n|---|---|---|---|---|---|")
    for what, ours, bare in measure(given.rows, given.fields, given.rounds):
        print(f"| {what} | {ours[0]:.2f} | {bare[0]:.2f} | {ours[0] / bare[0]:.2f} | {ours[1] / bare[1]:.2f} | {bare[0] / ours[0]:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
