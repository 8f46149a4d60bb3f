"""Makes a world: blocks of customers are drawn, rendered and spilled, then the files are written in order of arrival."""

from __future__ import annotations

import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa

from ml.simulator.block import Batch, Block
from ml.simulator.catalogue import CHANNEL, among
from ml.simulator.journeys import simulate_journeys
from ml.simulator.landing import Spill, file_name, write_files
from ml.simulator.mechanisms import MECHANISMS, truth_schemas
from ml.simulator.people import draw_people
from ml.simulator.rendering import DAMAGES, render_damaged, render_lines
from ml.simulator.rows import Array, Rows
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Stream
from ml.simulator.truth import TruthWriter, block_truth
from waymark.core.errors import SettingsError, StorageError

BLOCK_CUSTOMERS = 2_500  # bounds memory; no byte depends on it
OUTCOMES = {"duplicate": "duplicate", "conflict": "duplicate", "skewed": "quarantined", **dict.fromkeys(DAMAGES, "quarantined")}


@dataclass(frozen=True)
class WorldReport:
    """What was written. events: the customers' own; rows: all; files: how many; seconds: wall time; rows_by_kind: as truth_dirt has them, over all files."""

    customers: int
    events: int
    rows: int
    files: int
    seconds: float
    rows_by_kind: dict[str, int]
    paths: tuple[Path, ...]


def generate_world(
    landing: Path, truth: Path, spec: WorldSpec | None = None, *, block_customers: int = BLOCK_CUSTOMERS, workers: int | None = None,
    part: range | None = None,
) -> WorldReport:  # fmt: skip
    """Writes the source files of a world into `landing` and its truth tables into `truth`.

    Files and truth rows are a function of `spec` alone, whatever `block_customers` and `workers` (default: two, or the one core there is).
    part: numbers of the customers to write, from 0, where a world is too large to be written at once; the files of all parts together hold its lines.
    Raises SettingsError for an unknown mechanism or a landing folder that holds another world's files, StorageError where the disk does not allow it.
    """
    spec = spec or WorldSpec()
    part = range(spec.customers) if part is None else part
    unknown = sorted(set(spec.mechanisms) - set(MECHANISMS))
    if unknown:
        raise SettingsError(f"there is no mechanism '{unknown[0]}'", where="WorldSpec.mechanisms", remedy=f"Known are: {', '.join(MECHANISMS)}.")
    began = monotonic()
    workers = workers or min(2, os.cpu_count() or 1)
    try:
        landing.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
        if any(landing.glob("events_*.csv*")):
            remedy = "Name an empty folder, or remove its events_*.csv files: two worlds in one folder have no truth."
            raise SettingsError("the folder holds a world already", where=str(landing), remedy=remedy)
        with tempfile.TemporaryDirectory(prefix=".spill-", dir=truth) as folder:
            spill, writer, kinds = Spill(Path(folder), spec), TruthWriter(truth, truth_schemas(spec)), Counter[tuple[int, str]]()
            try:
                for tables, counted in _blocks(spill, spec, part, block_customers, workers):
                    kinds.update(counted)
                    for name, table in tables.items():
                        writer.write(name, table)
                writer.write("truth_dirt", _dirt(spec, kinds))
            finally:
                writer.close()
            # all files are whole before the first appears, so a run that dies leaves no half world in `landing`
            with tempfile.TemporaryDirectory(prefix=".making-", dir=landing.absolute().parent) as making:
                paths = [made.rename(landing / made.name) for made in write_files(spill, Path(making), spec, workers)]
    except OSError as error:
        remedy = "Free space or grant write permission, or name other folders."
        raise StorageError(f"the world cannot be written ({error.strerror})", where=str(error.filename or landing), remedy=remedy) from error
    by_kind: Counter[str] = Counter()
    for (_, kind), count in kinds.items():
        by_kind[kind] += count
    events = by_kind["event"] + by_kind["late"]
    return WorldReport(len(part), events, by_kind.total(), len(paths), monotonic() - began, dict(sorted(by_kind.items())), tuple(paths))


def _blocks(
    spill: Spill, spec: WorldSpec, part: range, block_customers: int, workers: int
) -> Iterator[tuple[dict[str, pa.Table], Counter[tuple[int, str]]]]:
    """Works through the blocks, a few at a time, and gives their truth in the customers' order."""
    under_way: deque[Future[tuple[dict[str, pa.Table], Counter[tuple[int, str]]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for first in part[::block_customers]:
            under_way.append(pool.submit(_make_block, spill, spec, first, min(block_customers, part.stop - first)))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _make_block(spill: Spill, spec: WorldSpec, first: int, count: int) -> tuple[dict[str, pa.Table], Counter[tuple[int, str]]]:
    people = draw_people(spec, first, count, Stream(spec.seed, "people"))
    events = simulate_journeys(people, spec, Stream(spec.seed, "journeys"))
    delay = _delivery_delays(events.channel, events.serial, Stream(spec.seed, "delivery"))
    events.received = events.occurred + delay
    events.delivered = events.received.copy()
    if spec.is_identified:
        _identify(events)
    block = Block.of(people, events, spec)
    for name, apply in MECHANISMS.items():
        if spec.rate(name) > 0:
            apply(block, spec.rate(name), Stream(spec.seed, name))
    counted: Counter[tuple[int, str]] = Counter()
    spill.add(*_written(spec, block, Batch("event", block.events), counted))
    extras = [_written(spec, block, batch, counted) for batch in block.batches if len(batch.rows)]
    if extras:
        delivered, order = (np.concatenate([extra[place] for extra in extras]) for place in (1, 2))
        by_arrival = np.argsort(delivered, kind="stable")
        spill.add(pa.concat_arrays([extra[0] for extra in extras]).take(pa.array(by_arrival)), delivered[by_arrival], order[by_arrival])
    return {**block_truth(block, spec), **block.truth}, counted


def _identify(events: Rows) -> None:
    """Every row names the account, and rows that would name an address for want of an account name no address: they are told apart by nothing."""
    events.user[:] = 1
    events.email[among(events.event, "email_opened", "email_clicked", "crm_call_logged", "order_refunded")] = 0


def _delivery_delays(channel: Array, serial: Array, stream: Stream) -> Array:
    """Milliseconds until an event is received: seconds for what a browser or an app sends, minutes for what other systems export."""
    at_once = np.isin(channel, [CHANNEL[name] for name in ("web", "app", "chat", "social", "ads")])
    wait = stream.exponential("wait", serial)
    return np.where(at_once, 300 + np.minimum(wait * 1_500, 60_000), 60_000 + np.minimum(wait * 600_000, 3_600_000)).astype(np.int64)


def _written(spec: WorldSpec, block: Block, batch: Batch, counted: Counter[tuple[int, str]]) -> tuple[pa.Array, Array, Array]:
    """A batch's lines with their delivery and order, as the spill wants them; adds its rows by file and kind to `counted`."""
    # The collector's clock stops with the window, or a few late rows alone would carry the world's time weeks past everybody's last event.
    batch.rows.received = np.minimum(batch.rows.received, spec.end_ms)
    by_arrival = np.argsort(batch.rows.delivered, kind="stable")
    ordered = batch.in_order(by_arrival)
    rows = ordered.rows
    typed = block.forms.typed(ordered) if block.forms else None
    if ordered.damage is None:
        lines = render_lines(block.people, ordered, typed)
        kinds, names = np.zeros(len(rows), dtype=np.int64), [batch.kind]
        if typed and OUTCOMES.get(batch.kind, "accepted") == "accepted":
            block.truth["truth_forms"] = pa.concat_tables([block.truth["truth_forms"], typed.truth])
    else:
        kinds, names = ordered.damage, list(DAMAGES)
        lines = render_damaged(block.people, ordered, kinds, typed)
    if batch.rows is block.events:
        kinds, names = block.is_late[by_arrival].astype(np.int64), ["event", "late"]
    numbers = (rows.delivered - spec.start_ms) // (DAY_MS * spec.file_days)
    cells, counts = np.unique(numbers * len(names) + kinds, return_counts=True)
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        counted[cell // len(names), names[cell % len(names)]] += count
    return lines, rows.delivered, (rows.serial << 8) | rows.copy


def _dirt(spec: WorldSpec, kinds: Counter[tuple[int, str]]) -> pa.Table:
    cells = sorted(kinds.items())
    return pa.table({
        "file": [file_name(spec, number) for (number, _), _ in cells], "kind": [kind for (_, kind), _ in cells],
        "outcome": [OUTCOMES.get(kind, "accepted") for (_, kind), _ in cells], "row_count": [count for _, count in cells],
    })  # fmt: skip
