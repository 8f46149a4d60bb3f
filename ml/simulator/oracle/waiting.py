"""The law of the time between two visits, exactly as journeys.py draws it, in closed form.

A visit ends at E, e hours into its day. The wished start is E + W (Weibull) with its hour drawn anew from the day's curve; where that is less than two hours
after E, the visit starts between two and six hours after E instead, uniformly. With p(j) = P(day of E + W is the j-th after E's), H the day's curve and
h its density, the start's density at an hour t of the j-th day is p(j) h(t) where 24 j + t >= e + 2, plus p_rest / 4 between e + 2 and e + 6, where
p_rest = p(0) H(e + 2) + p(1) H(e + 2 - 24). A visit's first row comes a short gap after its start; `start_masses` convolves with the gap's law.
"""

from __future__ import annotations

import numpy as np

from ml.simulator.journeys import DAY_CURVE, SOJOURN_DAYS, SOJOURN_SHAPE, TYPE_PACE
from ml.simulator.rows import Array
from ml.simulator.spec import DAY_MS
from ml.simulator.streams import Floats
from ml.simulator.visits import GAP_LEAST_MS, GAP_MEAN_MS, GAP_MOST_MS, HOUR_MS

REST_HOURS, REST_SPREAD_HOURS = 2.0, 4.0
HOUR_SHARES = np.diff(DAY_CURVE)
_SCALE_DAYS = TYPE_PACE[:, None] * SOJOURN_DAYS


def waits_longer(days: Floats) -> Floats:
    """P(W > days) for each type and next stage: (n,) -> (n, 4, 5)."""
    powers = np.maximum(days, 0.0)[:, None] ** SOJOURN_SHAPE
    return np.asarray(np.exp(-powers[:, None, :] * _SCALE_DAYS**-SOJOURN_SHAPE), dtype=np.float64)


def day_share(hours_in: Floats, day: Array | int) -> Floats:
    """p(day): that E + W falls on the day-th day after E's. hours_in: e, (n,). Returns (n, 4, 5); 0 for days before E's."""
    ends = np.asarray(day, dtype=np.float64) + 1.0 - hours_in / 24.0
    return waits_longer(ends - 1.0) - waits_longer(ends)


def day_curve(hours: Floats) -> Floats:
    """H: the share of visits before an hour of the day."""
    return np.asarray(np.interp(hours, np.arange(25.0), DAY_CURVE), dtype=np.float64)


def rest_share(hours_in: Floats) -> Floats:
    """p_rest, (n, 4, 5)."""
    soon = (day_curve(hours_in + REST_HOURS), day_curve(hours_in + REST_HOURS - 24.0))
    return day_share(hours_in, 0) * soon[0][:, None, None] + day_share(hours_in, 1) * soon[1][:, None, None]


def start_shares(hours_in: Floats, day: int) -> Floats:
    """P(the next visit starts in each hour of the day-th day after E's): (n,) -> (n, 4, 5, 24)."""
    edges = 24.0 * day + np.arange(25.0)
    earliest = hours_in[:, None] + REST_HOURS
    curve = np.diff(day_curve(np.maximum(edges, earliest) - 24.0 * day), axis=1)
    rest = np.diff(np.clip((edges - earliest) / REST_SPREAD_HOURS, 0.0, 1.0), axis=1)
    return day_share(hours_in, day)[..., None] * curve[:, None, None, :] + rest_share(hours_in)[..., None] * rest[:, None, None, :]


def not_started(hours_in: Floats, days: Array) -> Floats:
    """P(the next visit starts at or after the midnight `days` >= 1 days after that of E's day), (n, 4, 5)."""
    plain = waits_longer(days - hours_in / 24.0)
    # before the first midnight the rest matters: it can carry a visit over it; six hours never reach the second
    kept = 1.0 - day_curve(hours_in + REST_HOURS)
    reached = np.clip((24.0 - hours_in - REST_HOURS) / REST_SPREAD_HOURS, 0.0, 1.0)
    first = 1.0 - day_share(hours_in, 0) * kept[:, None, None] - rest_share(hours_in) * reached[:, None, None]
    return np.where((days == 1)[:, None, None], first, plain)


def gap_share(milliseconds: Array) -> Floats:
    """P(gap <= milliseconds) for the gap before a row."""
    inside = -np.expm1(-np.maximum(milliseconds - GAP_LEAST_MS, 0) / GAP_MEAN_MS)
    return np.where(milliseconds >= GAP_MOST_MS, 1.0, inside)


def start_masses(first_at: Array, earliest: Array) -> tuple[Floats, Floats, Floats]:
    """The density (an hour) of a first row at `first_at`, split by where its visit may have started: on the row's day, on the day before, in the rest.

    earliest: epoch ms before which it cannot have started. The likelihood is p(j) * first + p(j - 1) * second + p_rest * third.
    """
    hour = first_at % DAY_MS // HOUR_MS
    opens = first_at - first_at % HOUR_MS
    in_hour = gap_share(first_at - np.maximum(opens, earliest)) * HOUR_SHARES[hour]
    before = np.maximum(gap_share(first_at - np.maximum(opens - HOUR_MS, earliest)) - gap_share(first_at - np.maximum(opens, earliest)), 0.0)
    before *= HOUR_SHARES[hour - 1]
    rest = gap_share(first_at - earliest) - gap_share(first_at - earliest - int(REST_SPREAD_HOURS * HOUR_MS))
    return in_hour + np.where(hour > 0, before, 0.0), np.where(hour == 0, before, 0.0), rest / REST_SPREAD_HOURS


def wait_likelihood(ended_at: Array, first_at: Array) -> Floats:
    """Density (an hour) of the next visit's first row at `first_at`, for each type and next stage: (n, 4, 5)."""
    hours_in = ended_at % DAY_MS / HOUR_MS
    day = first_at // DAY_MS - ended_at // DAY_MS
    same, eve, rest = start_masses(first_at, ended_at + int(REST_HOURS * HOUR_MS))
    likelihood = day_share(hours_in, day) * same[:, None, None] + rest_share(hours_in) * rest[:, None, None]
    over = np.flatnonzero(eve)
    likelihood[over] += day_share(hours_in[over], day[over] - 1) * eve[over, None, None]
    return likelihood
