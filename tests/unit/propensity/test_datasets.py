"""The point-in-time set: what a split may know of the next, what counts as the same data, and when there is too little of it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.datasets import SPLITS, Dataset, NotEnoughHistoryError, assemble, load_dataset, load_for, plan_splits
from tests.unit.propensity.synthetic import FIELDS, array, fill, population, week
from waymark.core.settings import LearningSettings
from waymark.core.warehouse import Connection, connect


def load(connection: Connection, **changed: int) -> Dataset:
    asked = {"horizon_days": 7, "min_positives": 50, "max_training_rows": 60_000, "seed": 7} | changed
    return load_dataset(connection, FIELDS, **asked)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=80, unique=True), st.integers(1, 60))
def test_no_label_of_a_split_looks_beyond_the_first_point_of_the_next(days: list[int], horizon: int) -> None:
    points = [week(0) + timedelta(days=day) for day in days]
    try:
        plan = plan_splits(points, horizon)
    except NotEnoughHistoryError as error:
        assert error.reasons
        return
    used = [plan.points[name] for name in SPLITS]
    for earlier, later in pairwise(used):
        assert max(earlier) + timedelta(days=horizon) <= min(later)
    assert all(len(part) >= 2 for part in used)
    flat = [point for part in used for point in part]
    assert len(flat) == len(set(flat)) and set(flat) <= set(points)
    assert max(flat) == max(points)


def test_a_horizon_of_a_week_costs_weekly_points_no_gap_and_one_of_two_weeks_costs_a_point_at_each_border() -> None:
    points = [week(number) for number in range(20)]
    weekly, fortnightly = plan_splits(points, 7), plan_splits(points, 14)
    assert [len(weekly.points[name]) for name in SPLITS] == [12, 4, 4]
    assert sum(len(part) for part in fortnightly.points.values()) == 18
    assert week(15) not in fortnightly.points["calibration"] and fortnightly.points["test"][0] == week(16)


def test_rows_are_the_joined_views_in_order_with_the_labels_that_are_ripe(warehouse: Connection) -> None:
    dataset, truth = load(warehouse), population(900, 16)
    expected = {(customer, point): (sessions, converted) for customer, point, sessions, converted in zip(
        *(truth.column(name).to_pylist() for name in ("customer_id", "as_of_at", "session_count_28d", "is_converted")), strict=True)}  # fmt: skip
    seen = 0
    for split in dataset.splits.values():
        keys = list(zip(split.table.column("as_of_at").to_pylist(), split.table.column("customer_id").to_pylist(), strict=True))
        assert keys == sorted(keys)
        for (point, customer), sessions, label in zip(keys, array(split.table, "session_count_28d"), split.labels, strict=True):
            assert expected[customer, point] == (sessions, bool(label))
        seen += len(keys)
    assert seen == 900 * 15  # the last point is data_now, whose horizon is not over
    assert max(split.points.max() for split in dataset.splits.values()) == np.datetime64(week(14))


def test_the_fingerprint_is_free_of_row_order_and_sees_every_cell(warehouse: Connection) -> None:
    table = population(900, 16)
    again = np.random.default_rng(3).permutation(table.num_rows)
    flipped = np.array(table.column("is_converted").to_pylist())
    flipped[17] = not flipped[17]
    later = array(table, "session_count_28d").astype(np.int64)
    later[1_234] += 1
    prints = []
    for variant in (
        table.take(pa.array(again)),
        table.set_column(table.schema.get_field_index("is_converted"), "is_converted", pa.array(flipped)),
        table.set_column(table.schema.get_field_index("session_count_28d"), "session_count_28d", pa.array(later)),
    ):
        with connect() as connection:
            fill(connection, variant)
            prints.append(load(connection).fingerprint)
    first = load(warehouse).fingerprint
    assert prints[0] == first
    assert len({*prints}) == 3


def test_a_sample_keeps_whole_customers_the_same_ones_each_time(warehouse: Connection) -> None:
    whole, half, same, other = (load(warehouse, max_training_rows=rows, seed=seed) for rows, seed in ((60_000, 7), (4_000, 7), (4_000, 7), (4_000, 8)))
    assert whole.sampled == 1 and 0 < half.sampled < 1
    kept = [set(half.splits[name].table.column("customer_id").to_pylist()) for name in SPLITS]
    assert kept[0] == kept[1] == kept[2] and 0.3 * 900 < len(kept[0]) < 0.6 * 900
    assert half.fingerprint == same.fingerprint != other.fingerprint


def test_a_category_that_only_later_rows_have_is_nothing_to_the_model(warehouse: Connection) -> None:
    dataset = load(warehouse)
    tables = {name: split.table for name, split in dataset.splits.items()}
    place = tables["test"].schema.get_field_index("last_channel")
    tables["test"] = tables["test"].set_column(place, "last_channel", pa.array(["carrier_pigeon"] * tables["test"].num_rows))
    again = assemble(tables, FIELDS, horizon_days=7, seed=7)
    assert again.encoder.categories == {"last_channel": ("direct", "email", "paid_search")}
    columns = [number for number, (name, _) in enumerate(again.encoder.columns) if name == "last_channel"]
    assert not again.encoder.encode(tables["test"])[:, columns].any()


def test_training_is_skipped_with_the_numbers_that_are_missing() -> None:
    settings = LearningSettings(min_positives=50)

    def lacking(connection: Connection) -> tuple[str, ...]:
        with pytest.raises(NotEnoughHistoryError) as caught:
            load_for(connection, settings, FIELDS)
        return caught.value.reasons

    with connect() as connection:
        assert "the table features.train_conversion does not exist" in lacking(connection)
        fill(connection, population(200, 6))
        assert lacking(connection) == ("5 weekly points have a label that is ripe after 7 days; 8 are needed",)
        fill(connection, population(30, 16))
        few = lacking(connection)
    assert len(few) >= 2
    assert all(reason.endswith("converting rows of 90; 50 are needed") for reason in few if "train" not in reason)


def test_maturity_leaves_the_latest_labels_out(warehouse: Connection) -> None:
    assert load(warehouse, maturity_days=14).splits["test"].points.max() == np.datetime64(week(12))


def test_a_missing_column_is_an_error(warehouse: Connection) -> None:
    dataset = load(warehouse)
    with pytest.raises(KeyError):
        dataset.encoder.encode(dataset.splits["test"].table.drop(["has_cart"]))
