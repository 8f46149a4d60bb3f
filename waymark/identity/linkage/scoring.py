"""A pair's probability as SQL: a function of two records and an estimation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log

from waymark.core.warehouse import Connection
from waymark.identity.linkage.comparisons import EXACT, FORMS, MOVED, NOT_KNOWN, Part, comparisons_of, overlap_sql
from waymark.identity.linkage.estimation import Estimation, PartEstimate

FREQUENCIES = "linkage_frequencies"
MOST_ODDS = 30.0  # beyond it a double's probability says nothing more


def vectors_sql(pairs: str, wide: str, parts: Sequence[Part]) -> str:
    """SELECT of each pair's columns and, a part, `level_<part>` (comparisons.LEVELS), and `<part>_held_l`, `<part>_held_r`: the exact hashes where they agree.

    pairs: record_l, record_r and others. wide: a table of `comparisons.wide_sql` with a column `record`.
    """
    columns = [f"{part.name}_{form}" for part in sorted(parts) for form in FORMS]
    both = ", ".join(f"{side}.{column} as {column}_{side}" for side in "lr" for column in columns)
    joined = f"select p.*, {both} from {pairs} p join {wide} l on l.record = p.record_l join {wide} r on r.record = p.record_r"
    overlaps = ", ".join(f"{overlap_sql(part.name)} as {part.name}_overlap" for part in sorted(parts))
    levels = ", ".join(
        f"{comparison.level_sql(f'{name}_overlap')} as level_{name}, "
        + ", ".join(f"case when level_{name} in ({EXACT}, {MOVED}) then {name}_exact_{side} end as {name}_held_{side}" for side in "lr")
        for comparison in comparisons_of(parts)
        for name in [comparison.part.name]
    )
    hidden = ", ".join(f"{column}_{side}" for side in "lr" for column in columns)
    return f"select * exclude ({hidden}, {', '.join(f'{part.name}_overlap' for part in parts)}), {levels} from (select *, {overlaps} from ({joined}))"


def prepare_frequencies(connection: Connection, estimation: Estimation) -> None:
    """Makes the temp table of frozen frequencies (part, exact, frequency) that `scored_sql` reads."""
    connection.execute(f"create or replace temp table {FREQUENCIES} (part VARCHAR, exact BIGINT, frequency DOUBLE)")
    told = [(estimate.part.name, value, share) for estimate in estimation.parts for value, share in estimate.frequencies]
    if told:
        columns = {"part": [part for part, _, _ in told], "exact": [value for _, value, _ in told], "frequency": [share for _, _, share in told]}
        connection.execute(f"insert into temp.{FREQUENCIES} select unnest($part), unnest($exact), unnest($frequency)", columns)


def scored_sql(vectors: str, estimation: Estimation) -> str:
    """SELECT of each row of `vectors` (made by `vectors_sql`) with weight, log_odds and probability.

    weight: the sum of log(m / u), Fellegi and Sunter's; log_odds: one person against all else, before calibration. Needs `prepare_frequencies`.
    """
    joins = " ".join(
        f"left join temp.{FREQUENCIES} f_{name}_{side} on f_{name}_{side}.part = '{name}' and f_{name}_{side}.exact = {name}_held_{side}"
        for name in [estimate.part.name for estimate in estimation.parts]
        for side in "lr"
    )  # fmt: skip
    weight = " + ".join(f"({_weight(estimate, estimate.m)} + {_rarity(estimate)})" for estimate in estimation.parts)
    others = [f"{_double(log(1 - estimation.match - sum(estimation.alike)))}"]
    for place, share in enumerate(estimation.alike):
        alike = [f"({_weight(estimate, estimate.alike[place])} + {_rarity(estimate)})" for estimate in estimation.parts if estimate.alike]
        others.append(" + ".join([_double(log(share)), *alike]))
    weighed = f"select v.*, {weight} as weight, [{', '.join(others)}] as others from ({vectors}) v {joins}"
    # The logarithm of a sum of exponentials, the largest taken out first.
    other = "(list_max(others) + ln(list_sum(list_transform(others, lambda x: exp(x - list_max(others))))))"
    odds = f"least(greatest({_double(log(estimation.match))} + weight - {other}, {-MOST_ODDS}), {MOST_ODDS})"
    told = f"select * exclude (others), cast({odds} as double) as log_odds from ({weighed})"
    return f"select *, 1 / (1 + exp(-({_calibrated(estimation.calibration)}))) as probability from ({told})"


def _weight(estimate: PartEstimate, shares: Sequence[float]) -> str:
    weights = [log(share / u) for share, u in zip(shares, estimate.u, strict=True)]
    weights[MOVED] = weights[EXACT]  # as in mixture.py
    cases = " ".join(f"when {level} then {_double(weight)}" for level, weight in enumerate(weights))
    return f"case level_{estimate.part.name} when {NOT_KNOWN} then 0 {cases} end"


def _rarity(estimate: PartEstimate) -> str:
    """A value in which two agree tells the more, the rarer it is; of two that were exchanged, the one that is more frequent in this part is its own."""
    name = estimate.part.name
    known = ", ".join(f"coalesce(f_{name}_{side}.frequency, {_double(estimate.rare)})" for side in "lr")
    return f"case when level_{name} in ({EXACT}, {MOVED}) then ln({_double(estimate.u[EXACT])} / greatest({known})) else 0 end"


def _calibrated(knots: Sequence[tuple[float, float]]) -> str:
    """The map through the knots; beyond them, as between the two nearest."""
    segments = list(pairwise(knots))
    lines = [f"{_double(y)} + {_double((b - y) / (a - x))} * (log_odds - {_double(x)})" for (x, y), (a, b) in segments]
    cases = " ".join(f"when log_odds < {_double(end)} then {line}" for (_, (end, _)), line in zip(segments[:-1], lines[:-1], strict=True))
    return f"case {cases} else {lines[-1]} end" if cases else lines[-1]


def _double(value: float) -> str:
    return f"{value:.17e}"  # without an exponent it would be a DECIMAL
