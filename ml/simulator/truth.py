"""The truth about a world, for tests and benchmarks alone: who had which identifiers, which rows of evidence link them, and what the sessions were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.simulator import catalogue as cat
from ml.simulator.block import Block
from ml.simulator.catalogue import EVENT
from ml.simulator.people import COOKIES_PER_DEVICE, DEVICE_SLOTS, TYPES
from ml.simulator.rendering import anonymous_ids, order_ids
from ml.simulator.rows import Array, Rows, cookie_keys, customers_of, steps_of
from ml.simulator.spec import WorldSpec

# Nodes of a person: account, e-mail, phone, then cookies.
USER, EMAIL, PHONE, FIRST_COOKIE = range(4)
NODES = FIRST_COOKIE + DEVICE_SLOTS * COOKIES_PER_DEVICE
ABSENT = -1

TEXT, TIME = pa.string(), pa.timestamp("us")  # columns of truth tables, of mechanisms' own, too
SCHEMAS = {
    "truth_persons": pa.schema([
        ("person_id", TEXT), ("person_type", TEXT), ("country", TEXT), ("user_id", TEXT), ("email", TEXT), ("phone", TEXT), ("is_existing", pa.bool_()),
        ("signed_up_at", TIME), ("first_event_at", TIME), ("event_count", pa.int64()), ("order_count", pa.int64()), ("user_component_id", TEXT),
        ("email_component_id", TEXT), ("phone_component_id", TEXT),
    ]),
    "truth_devices": pa.schema([
        ("person_id", TEXT), ("device_number", pa.int64()), ("anonymous_id", TEXT), ("first_seen_at", TIME), ("last_seen_at", TIME),
        ("event_count", pa.int64()), ("is_linked", pa.bool_()), ("component_id", TEXT),
    ]),
    "truth_sessions": pa.schema([
        ("person_id", TEXT), ("anonymous_id", TEXT), ("stage", TEXT), ("started_at", TIME), ("ended_at", TIME), ("event_count", pa.int64()),
    ]),
    "truth_orders": pa.schema([
        ("person_id", TEXT), ("order_id", TEXT), ("event_at", TIME), ("event_type", TEXT), ("value", pa.decimal128(18, 4)),
        ("currency", TEXT), ("report_count", pa.int64()),
    ]),
    "truth_dirt": pa.schema([("file", TEXT), ("kind", TEXT), ("outcome", TEXT), ("row_count", pa.int64())]),
}  # fmt: skip


@dataclass
class _Components:
    """node -> component, over the block: labels are nodes, ABSENT where the identifier stands in no counted row."""

    labels: Array
    is_alone: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class TruthWriter:
    """The truth tables as Parquet files in a folder, appended block by block. further: schemas of the tables that mechanisms add."""

    def __init__(self, folder: Path, further: Mapping[str, pa.Schema]) -> None:
        self._schemas = {**SCHEMAS, **further}
        self._writers = {name: pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd") for name, schema in self._schemas.items()}

    def write(self, name: str, table: pa.Table) -> None:
        self._writers[name].write_table(table.cast(self._schemas[name]))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def block_truth(block: Block, spec: WorldSpec) -> dict[str, pa.Table]:
    """The truth of a block's customers."""
    extra = Rows.joined([batch.rows for batch in block.batches if batch.kind == "double_report"])
    parts = _components(block, [block.events, extra])
    return {
        "truth_persons": _persons(block, spec, extra, parts),
        "truth_devices": _devices(block, parts),
        "truth_sessions": _sessions(block),
        "truth_orders": _orders(block, extra),
    }


def _components(block: Block, counted: list[Rows]) -> _Components:
    """Connected components of identifiers that stand together in a row, by spreading the least node until nothing changes."""
    rows = Rows.joined(counted)
    base = rows.local * NODES
    held = [
        (rows.user == 1, base + USER),
        ((rows.email == 1) | (rows.email == 2), base + EMAIL),
        (rows.phone > 0, base + PHONE),
        (rows.cookie >= 0, base + FIRST_COOKIE + np.maximum(rows.cookie, 0)),
    ]
    total = len(block.people) * NODES
    seen = np.zeros(total, dtype=np.bool_)
    for has, node in held:
        seen[node[has]] = True
    pairs = [one[has & also] * total + other[has & also] for place, (has, one) in enumerate(held) for also, other in held[place + 1 :]]
    one_end, other_end = np.divmod(np.unique(np.concatenate(pairs)), total)
    labels = np.arange(total)
    while True:
        least = np.minimum(labels[one_end], labels[other_end])
        spread = labels.copy()
        np.minimum.at(spread, one_end, least)
        np.minimum.at(spread, other_end, least)
        if np.array_equal(spread, labels):
            break
        labels = spread
    sizes = np.bincount(labels[seen], minlength=total)
    return _Components(np.where(seen, labels, ABSENT), sizes[labels] == 1)


def person_ids(numbers: Array) -> pa.Array:
    """The ids of persons in the truth, by their numbers in the world."""
    return pc.binary_join_element_wise("p", pc.utf8_lpad(pc.cast(pa.array(numbers), TEXT), width=7, padding="0"), "")


def _component_ids(block: Block, labels: Array) -> pa.Array:
    """`<person>/<least node>`, null where the identifier was never seen."""
    present = labels != ABSENT
    texts = pc.binary_join_element_wise(person_ids(block.people.number[np.maximum(labels, 0) // NODES]), pc.cast(pa.array(labels % NODES), TEXT), "/")
    return pc.if_else(pa.array(present), texts, pa.scalar(None, TEXT))


def instants(milliseconds: Array, present: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None) -> pa.Array:
    """Timestamps of epoch milliseconds, null where `present` does not hold."""
    return pa.array(milliseconds * 1000, mask=None if present is None else ~present).cast(TIME)


def _persons(block: Block, spec: WorldSpec, extra: Rows, parts: _Components) -> pa.Table:
    people, events, count = block.people, block.events, len(block.people)
    base = np.arange(count) * NODES
    signed_up = np.zeros(count, dtype=np.int64)
    is_sign_up = events.event == EVENT["signed_up"]
    signed_up[events.local[is_sign_up]] = block.counted[is_sign_up]
    far = np.iinfo(np.int64).max
    first = np.full(count, far)
    np.minimum.at(first, events.local, block.counted)
    has_account = people.is_existing | (signed_up > 0) | spec.is_identified
    return pa.table({
        "person_id": person_ids(people.number), "person_type": pa.array(TYPES).take(pa.array(people.type)),
        "country": pa.array([country for country, _, _ in cat.PLACES]).take(pa.array(people.place)),
        "user_id": pc.if_else(pa.array(has_account), people.user_id, pa.scalar(None, TEXT)), "email": people.email,
        "phone": pc.if_else(pa.array(people.has_phone), people.phone, pa.scalar(None, TEXT)), "is_existing": people.is_existing,
        "signed_up_at": instants(signed_up, signed_up > 0), "first_event_at": instants(np.where(first == far, 0, first), first != far),
        "event_count": np.bincount(events.local, minlength=count) + np.bincount(extra.local, minlength=count),
        "order_count": np.bincount(events.local[events.event == EVENT["order_completed"]], minlength=count),
        **{f"{name}_component_id": _component_ids(block, parts.labels[base + node]) for name, node in (("user", USER), ("email", EMAIL), ("phone", PHONE))},
    })  # fmt: skip


def _devices(block: Block, parts: _Components) -> pa.Table:
    events = block.events
    with_cookie = np.flatnonzero(events.cookie >= 0)
    node = events.local[with_cookie] * NODES + FIRST_COOKIE + events.cookie[with_cookie]
    nodes, first, place, count = np.unique(node, return_index=True, return_inverse=True, return_counts=True)
    times = block.counted[with_cookie]
    earliest, latest = times[first].copy(), times[first].copy()
    np.minimum.at(earliest, place, times)
    np.maximum.at(latest, place, times)
    one = events.take(with_cookie[first])
    return pa.table({
        "person_id": person_ids(customers_of(one.serial)), "device_number": one.cookie // COOKIES_PER_DEVICE, "anonymous_id": anonymous_ids(cookie_keys(one)),
        "first_seen_at": instants(earliest), "last_seen_at": instants(latest), "event_count": count, "is_linked": ~parts.is_alone[nodes],
        "component_id": _component_ids(block, parts.labels[nodes]),
    })  # fmt: skip


def _sessions(block: Block) -> pa.Table:
    """A visit's rows that carry a device: rows are ordered by visit, so each visit is a stretch."""
    picked = np.flatnonzero(block.events.cookie >= 0)
    rows, times = block.events.take(picked), block.counted[picked]
    visits = steps_of(rows.serial)
    starts = np.flatnonzero(np.concatenate([[True], visits[1:] != visits[:-1]])[: len(visits)])
    first, last = (np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)) if len(starts) else (times, times)
    one = rows.take(starts)
    return pa.table({
        "person_id": person_ids(customers_of(one.serial)), "anonymous_id": anonymous_ids(cookie_keys(one)),
        "stage": pa.array(cat.STAGES).take(pa.array(one.stage)),
        "started_at": instants(first), "ended_at": instants(last),
        "event_count": np.diff(np.append(starts, len(visits))),
    })  # fmt: skip


def _orders(block: Block, extra: Rows) -> pa.Table:
    picked = np.flatnonzero(block.events.order > 0)
    rows = block.events.take(picked)
    twice = np.isin(rows.serial, extra.serial)
    cents = pa.array(rows.amount).cast(pa.decimal128(19, 0))
    return pa.table({
        "person_id": person_ids(customers_of(rows.serial)), "order_id": order_ids(rows.order), "event_at": instants(block.counted[picked]),
        "event_type": pa.array([name for name, _ in cat.EVENTS]).take(pa.array(rows.event)), "value": pc.multiply(cents, pa.scalar(Decimal("0.01"))),
        "currency": pa.array(["USD", "EUR"]).take(pa.array(block.people.is_euro[rows.local].astype(np.int64))), "report_count": 1 + twice.astype(np.int64),
    })  # fmt: skip
