"""P(an order within a horizon) for every person of a world and any number of instants: given what can be observed, and given the latent state too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml.simulator.catalogue import EVENT
from ml.simulator.journeys import PURCHASE, Tables, in_order, journey_steps, last_start_ms, tables_of
from ml.simulator.oracle.filtering import filter_visits
from ml.simulator.oracle.horizon import Outlook, outlook
from ml.simulator.oracle.observed import observed_visits
from ml.simulator.oracle.points import Look, Seen, believed_states, moves_after, places_at
from ml.simulator.people import Bools, draw_people
from ml.simulator.rows import Array, Rows
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Stream
from ml.simulator.truth import person_ids
from waymark.core.errors import SettingsError

BLOCK_CUSTOMERS = 2_500
TABLE = "truth_propensity"
SCHEMA = pa.schema([
    ("person_id", pa.string()), ("as_of_at", pa.timestamp("us")), ("horizon_days", pa.int64()), ("p_observable", pa.float64()), ("p_visit_state", pa.float64()),
    ("p_latent", pa.float64()), ("is_converted", pa.bool_()), ("first_seen_at", pa.timestamp("us")), ("last_seen_at", pa.timestamp("us")),
])  # fmt: skip


def mondays(spec: WorldSpec, horizon_days: int = 7) -> tuple[datetime, ...]:
    """The Mondays, 00:00 UTC, after the world's first day whose horizon ends inside its window."""
    first = datetime.combine(spec.start, datetime.min.time()) + timedelta(days=1)
    first += timedelta(days=-first.weekday() % 7)
    last = datetime.combine(spec.start, datetime.min.time()) + timedelta(days=spec.days - horizon_days)
    return tuple(first + timedelta(days=7 * week) for week in range(max((last - first).days // 7 + 1, 0)))


def oracle_scores(spec: WorldSpec, as_of: Sequence[datetime] | None = None, horizon_days: int = 7) -> pa.Table:
    """One row for each person seen before an instant and each instant of `as_of` (UTC midnights; default: `mondays`), ordered by both.

    p_observable: P(an order in [as_of_at, as_of_at + horizon) | all rows of the person before as_of_at), exact but for what the README measures.
    p_visit_state: knowing in addition the type, whether there was an account before the window, the phone, the devices and the last visit's stage.
    p_latent: knowing the stage that the person has moved to as well, or that they left for good. is_converted: what happened.
    Raises SettingsError for an instant that is no midnight UTC inside the window, or for a horizon under a day.
    """
    instants = np.array([_epoch_ms(moment, spec) for moment in (mondays(spec, horizon_days) if as_of is None else as_of)], dtype=np.int64)
    if horizon_days < 1:
        raise SettingsError(f"horizon_days is {horizon_days}", where="oracle_scores", remedy="Use a whole number from 1 on.")
    tables = tables_of(spec)
    end = last_start_ms(spec)
    # what lies ahead differs only where the window's end or a drift comes near
    kinds: dict[tuple[int, int], Outlook] = {}
    ahead = []
    for instant in instants.tolist():
        key = (min(end, instant + horizon_days * DAY_MS) - instant, int(np.clip((tables.drift_at - instant) // DAY_MS, 0, horizon_days)))
        kinds[key] = kinds.get(key) or outlook(tables, instant, instant + key[0], horizon_days)
        ahead.append(kinds[key])
    parts = [
        _block_scores(spec, first, tables=tables, instants=instants, ahead=ahead, horizon_days=horizon_days)
        for first in range(0, spec.customers, BLOCK_CUSTOMERS)
    ]
    return pa.concat_tables(parts)


def write_propensity(truth: Path, spec: WorldSpec, as_of: Sequence[datetime] | None = None, horizon_days: int = 7) -> Path:
    """Writes `oracle_scores` beside the other truth tables; returns the file."""
    path = truth / f"{TABLE}.parquet"
    pq.write_table(oracle_scores(spec, as_of, horizon_days), path, compression="zstd")
    return path


def _epoch_ms(moment: datetime, spec: WorldSpec) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    milliseconds = round(aware.timestamp() * 1000)
    if milliseconds % DAY_MS or not spec.start_ms < milliseconds < spec.end_ms:
        raise SettingsError(f"{moment} is no midnight UTC inside the world's window", where="oracle_scores", remedy="Use days after the first, at 00:00 UTC.")
    return milliseconds


def _block_scores(spec: WorldSpec, first: int, *, tables: Tables, instants: Array, ahead: list[Outlook], horizon_days: int) -> pa.Table:
    count = min(BLOCK_CUSTOMERS, spec.customers - first)
    people = draw_people(spec, first, count, Stream(spec.seed, "people"))
    steps = list(journey_steps(people, spec, Stream(spec.seed, "journeys")))
    rows = in_order([step.rows for step in steps])
    visits = observed_visits(rows, is_identified=spec.is_identified)
    seen = Seen(visits, filter_visits(visits, tables, spec), people, steps)
    places = places_at(visits, count, instants)
    local, grid = np.nonzero(places >= 0)
    last, at = places[local, grid], instants[grid]
    orders = _orders_at(rows, local, at, horizon_days)
    found = np.zeros((3, len(local)))
    for number, instant in enumerate(instants.tolist()):
        here = np.flatnonzero(grid == number)
        place = last[here]
        look = Look(seen, place, instant, ahead[number])
        moves = moves_after(seen, place, tables)
        state, coming = believed_states(seen, place, instant, rows, tables=tables, spec=spec)
        found[0, here] = coming + (1.0 - coming) * look.chance(np.einsum("nefks,nkst->nefkt", state, moves), seen.devices(place))
        for row, known in enumerate(seen.true_states(place, moves), start=1):
            found[row, here] = look.chance(known, seen.true_devices[local[here]])
    # a visit under way whose order is still to come: who knows its stage knows that
    found[1:, (seen.stage[last] == PURCHASE) & (visits.ended_at[last] >= at) & orders] = 1.0
    return pa.table({
        "person_id": person_ids(people.number[local]), "as_of_at": _instants(at), "horizon_days": np.full(len(local), horizon_days),
        "p_observable": found[0], "p_visit_state": found[1], "p_latent": found[2], "is_converted": orders,
        "first_seen_at": _instants(seen.first_at[local]), "last_seen_at": _instants(np.minimum(visits.ended_at[last], at - 1)),
    }, schema=SCHEMA)  # fmt: skip


def _instants(milliseconds: Array) -> pa.Array:
    return pa.array(milliseconds * 1000).cast(pa.timestamp("us"))


def _orders_at(rows: Rows, local: Array, at: Array, horizon_days: int) -> Bools:
    """Whether each person at each instant has an order within the horizon."""
    bought = rows.event == EVENT["order_completed"]
    span = np.int64(1) << 44
    line = np.sort(rows.local[bought] * span + rows.occurred[bought])
    start = np.searchsorted(line, local * span + at)
    return np.asarray(np.searchsorted(line, local * span + at + horizon_days * DAY_MS) > start)
