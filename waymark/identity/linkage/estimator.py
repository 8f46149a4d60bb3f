"""Estimates the model from the records as they are, without a truth: an act of its own, which makes a new version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import numpy as np
import pyarrow as pa

from waymark.core.errors import WaymarkError
from waymark.core.warehouse import Connection, rows
from waymark.identity.linkage.calibration import SIMULATED, Knots
from waymark.identity.linkage.candidates import BLOCK_LIMIT, pairs_sql
from waymark.identity.linkage.comparisons import EXACT, FORMS, MOVED, Part, keys_sql, wide_sql
from waymark.identity.linkage.estimation import Estimation, PartEstimate, rounded
from waymark.identity.linkage.mixture import Floats, Mixture, Pairs, fit
from waymark.identity.linkage.scoring import vectors_sql
from waymark.identity.linkage.splink_model import strangers_shares

SEED = 7
LEAST_RECORDS = 200
MOST_RECORDS = 60_000  # further ones add seconds and no digit
MOST_PAIRS = 250_000  # candidates; of more, every second, third, …
STRANGERS = 800  # records, that is 320,000 pairs
MOST_FREQUENCIES = 2_000  # values a part; the others are about as rare as each other
FIRST_MATCHES = 0.5  # a record, where EM begins
_TEMPORARY = ("linkage_sample", "linkage_sample_keys", "linkage_vectors")

Progress = Callable[[str], None]
Frequencies = tuple[tuple[tuple[int, float], ...], float]  # of the kept values, and of any other


class NothingToEstimateError(WaymarkError):
    """Nothing is compared, or too few have told something of it, for any estimation."""


@dataclass(frozen=True)
class EstimateReport:
    """candidates: pairs that were looked at; matches, alike: how many are one person's, and of each further class; steps: of EM; known: by part, the share of
    records that know it."""

    estimation: Estimation
    records: int
    candidates: int
    matches: float
    alike: tuple[float, ...]
    steps: int
    known: dict[str, float]
    seconds: float


def estimate(
    connection: Connection, records: str, parts: Sequence[Part], *, fingerprint: str, seed: int = SEED, calibration: Knots = SIMULATED,
    progress: Progress | None = None,
) -> EstimateReport:  # fmt: skip
    """Estimates from the records of now.

    records: a relation of `records.TABLES`; of more than MOST_RECORDS a sample is taken, by the seed. parts: those to compare. fingerprint: of the secret.
    Raises NothingToEstimateError for fewer than LEAST_RECORDS records, or without a part.
    """
    started, parts, tell = monotonic(), sorted(parts), progress or (lambda _: None)
    if not parts:
        remedy = "Say in one: compare: {given_name: {column: NAME, kind: name}}. See docs/sources.md."
        raise NothingToEstimateError("no mapping compares anything", remedy=remedy)
    tell("linkage: records")
    sample = f"select * from {records} where valid_to is null order by md5('{seed}|' || node_id), node_id limit {MOST_RECORDS}"
    wide = wide_sql(f"({sample})", parts)
    connection.execute(f"create or replace temp table linkage_sample as select row_number() over (order by node_id) as record, * from ({wide})")
    count = int(str(rows(connection, "select count(*) from temp.linkage_sample")[0][0]))
    if count < LEAST_RECORDS:
        raise NothingToEstimateError(
            f"{count} identifiers have told something that is compared; an estimation needs {LEAST_RECORDS}", remedy="Take in more files, then try again."
        )
    tell("linkage: what strangers have in common")
    u = strangers_shares(_strangers(connection, parts, seed), parts)
    tell("linkage: what one person's records have in common")
    frequencies = {part.name: _frequencies(connection, part.name) for part in parts}
    pairs = _pairs(connection, parts, u, frequencies, count)
    thinned = _thinned(pairs)
    found = fit(thinned, FIRST_MATCHES * count * thinned.total / pairs.total)
    known = {part.name: float(str(rows(connection, f"select count({part.name}_exact) / count(*) from temp.linkage_sample")[0][0])) for part in parts}
    for name in _TEMPORARY:
        connection.execute(f"drop table if exists temp.{name}")
    estimates = _frozen(parts, u, found, frequencies)
    estimation = Estimation(
        estimates, rounded(found.match), _rounded(found.shares), BLOCK_LIMIT, calibration, fingerprint, count, seed
    )  # fmt: skip
    return EstimateReport(
        estimation, count, len(pairs.levels), found.match * pairs.total, tuple(share * pairs.total for share in found.shares), found.steps, known,
        monotonic() - started,
    )  # fmt: skip


def _strangers(connection: Connection, parts: Sequence[Part], seed: int) -> pa.Table:
    columns = ", ".join(f"{part.name}_{form}" for part in parts for form in FORMS)
    found: pa.Table = connection.sql(
        f"select node_id, {columns} from temp.linkage_sample order by md5('{seed}|strangers|' || node_id), node_id limit {STRANGERS}"
    ).to_arrow_table()
    return found


def _frequencies(connection: Connection, part: str) -> Frequencies:
    """The most frequent values with their shares, and the mean share of the others; a value of one record alone is one of these."""
    counted = rows(connection, f"""
        select {part}_exact, count(*) from temp.linkage_sample where {part}_exact is not null group by 1 order by 2 desc, 1 nulls last
    """)  # fmt: skip
    counts = [(int(str(value)), int(str(n))) for value, n in counted]
    total = sum(n for _, n in counts) or 1
    kept = [(value, n) for value, n in counts[:MOST_FREQUENCIES] if n > 1]
    others = [n for _, n in counts[len(kept) :]]
    rare = (sum(others) / len(others) if others else 1.0) / total
    return tuple((value, rounded(n / total)) for value, n in kept), rounded(rare)


def _pairs(connection: Connection, parts: Sequence[Part], u: Floats, frequencies: Mapping[str, Frequencies], count: int) -> Pairs:
    connection.execute(f"create or replace temp table linkage_sample_keys as {keys_sql('temp.linkage_sample', parts)}")
    candidates = f"({pairs_sql('temp.linkage_sample_keys', 'temp.linkage_sample', BLOCK_LIMIT)})"
    connection.execute(f"create or replace temp table linkage_vectors as {vectors_sql(candidates, 'temp.linkage_sample', parts)}")
    picked = ", ".join(f"cast(level_{part.name} as tinyint) as level_{part.name}, {part.name}_held_l, {part.name}_held_r" for part in parts)
    columns = connection.execute(f"select {picked} from temp.linkage_vectors order by record_l, record_r").fetchnumpy()
    levels = np.stack([np.asarray(columns[f"level_{part.name}"], dtype=np.int8) for part in parts], axis=1)
    rarity = np.zeros(levels.shape)
    for place, part in enumerate(parts):
        told, rare = frequencies[part.name]
        known = np.array(sorted(value for value, _ in told), dtype=np.int64)
        shares = np.array([share for _, share in sorted(told)])
        frequency = np.zeros(len(levels))
        for side in "lr":
            values = np.ma.filled(np.ma.asarray(columns[f"{part.name}_held_{side}"]), -1)
            at = np.minimum(np.searchsorted(known, values), max(len(known) - 1, 0))
            frequency = np.maximum(frequency, np.where(known[at] == values, shares[at], rare) if len(known) else rare)
        rarity[:, place] = np.where(np.isin(levels[:, place], (EXACT, MOVED)), np.log(u[place, EXACT] / frequency), 0.0)
    return Pairs(levels, rarity, count * (count - 1) / 2, u, np.array([part.is_shared for part in parts]))


def _thinned(pairs: Pairs) -> Pairs:
    """Every k-th candidate, as of a world with as many fewer pairs: shares stay what they are."""
    step = max(1, -(-len(pairs.levels) // MOST_PAIRS))
    return replace(pairs, levels=pairs.levels[::step], rarity=pairs.rarity[::step], total=pairs.total / step)


def _frozen(parts: Sequence[Part], u: Floats, found: Mixture, frequencies: Mapping[str, Frequencies]) -> tuple[PartEstimate, ...]:
    estimates = []
    for place, part in enumerate(parts):
        told, rare = frequencies[part.name]
        alike = tuple(_rounded(shares[place]) for shares in found.alike) if part.is_shared else ()
        estimates.append(PartEstimate(part, _rounded(found.m[place]), _rounded(u[place]), alike, told, rare))
    return tuple(estimates)


def _rounded(shares: Iterable[float]) -> tuple[float, ...]:
    return tuple(rounded(float(share)) for share in shares)
