"""Rows that a source dates back: they say that they happened before a point, were received after it, and go with what came after it.

A log cut off at the point by `occurred_at` holds such rows, so features that are built anew from it agree; only `received_at` gives them away. Honest rows
are late, too, but not because of what followed. Two tests a kind of row (source and event type), each with a known null:

1. **late and label.** Among rows dated as many hours before the same point, being received after the point does not go with the label, if lateness is honest.
   Sum over rows of w (late - mean of the stratum) (label - mean of the stratum), strata by point and band of hours, w = 1 / rows of that kind that the
   customer has before the point: the excess of late rows in converting customers, as stratified tables have it (Mantel & Haenszel 1959).
2. **receipt and conversion.** Among late rows of those who convert, being received after the conversion is as frequent as the times of receipt and of
   conversion, each by itself, make it, within a band of hours. This sees a kind of which every row is dated back, where the first has nothing to compare with.

Variances are by customer (the sums of a customer's terms squared), so rows that arrive together, and one row at several points, count once. An alarm needs
both: beyond noise at LEVEL over all tests of a training together (Bonferroni), and an excess of at least LEAST_SHARE of the converting rows of the label.
A source without times of receipt has received_at = occurred_at, hence no late rows, and is never named. A source that holds rows back until the customer
returns is named where that matters, and rightly: at the point nobody had them, and that they came says that the customer did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from ml.evaluation.estimate import Z95, Estimate
from ml.explain import Event, events_behind
from ml.features import Field
from ml.labels import LABEL
from ml.models.propensity.result import Leak
from waymark.core.warehouse import Connection, rows

Floats = npt.NDArray[np.float64]
LEVEL = 1e-4
# A kind of row that is dated back for a share s of the converting rows moves AUC by s (1 - AUC) at most: .002 where AUC is .9.
LEAST_SHARE = 0.02
# How far before the point rows are looked at. One that is dated back further is caught at the earlier of these points, if at all.
WEEKS = 4
_SHOWN = 8
_SAMPLED_ROWS = 50
_NO_SPREAD = 1e-9  # sums of rows that do not differ, but for rounding


@dataclass(frozen=True)
class Excess:
    """A kind of row: late rows in converting customers before a point, and how many honest lateness would make.

    label, receipt: excess as a share of all converting rows of the label, by the first and the second test, with 95 % intervals. z: of both. The first is
    too small where many rows are dated back, because these are among what it compares with.
    """

    source: str
    event_type: str
    late: int
    label: Estimate
    receipt: Estimate
    z: tuple[float, float]

    def is_alarm(self, tests: int) -> bool:
        """tests: how many are done together; the first is two-sided, because rows may as well be dated back for those who do not convert."""
        both, above = norm.isf(LEVEL / tests / 2), norm.isf(LEVEL / tests)
        by_label = abs(self.z[0]) > both and abs(self.label.value) >= LEAST_SHARE
        return bool(by_label or (self.z[1] > above and self.receipt.value >= LEAST_SHARE))


def backdated_leaks(connection: Connection, fields: Sequence[Field]) -> tuple[Leak, ...]:
    """Kinds of rows that are dated back, as leaks that name source, event type and the features which such rows feed.

    Reads intermediate.int_events_sessionized, intermediate.int_conversions_deduplicated, identity.membership_history and the label.
    """
    measured = excesses(connection)
    alarms = [excess for excess in measured if excess.is_alarm(2 * len(measured))]
    if not alarms:
        return ()
    fed = {(excess.source, excess.event_type): _fed(connection, excess, fields) for excess in measured}
    common = {field.name: sum(field.name in names for names in fed.values()) for field in fields}  # what few kinds feed says most, so it is named first
    return tuple(_leak(excess, sorted(fed[excess.source, excess.event_type], key=lambda name: common[name])) for excess in alarms)


def _leak(excess: Excess, fed: Sequence[str]) -> Leak:
    named = ", ".join(fed[:_SHOWN]) + (f" and {len(fed) - _SHOWN} more" if len(fed) > _SHOWN else "")
    said = (
        f"{excess.event_type} of {excess.source} is dated back: {excess.late:,} of its rows in converting customers are dated before a point and were received "
        f"after it; of all converting rows, that is at least {_percent(excess.label)} more than honest lateness makes, and "
        f"{_percent(excess.receipt)} more were received after the conversion itself than chance makes; it feeds {named}"
    )
    return Leak(excess.event_type, "received", said)


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.2g} % [{100 * share.low:.2g}, {100 * share.high:.2g}]"


def excesses(connection: Connection) -> tuple[Excess, ...]:
    """Both tests for each kind that has a late row, ordered by source and event type."""
    converting = int(str(rows(connection, f"select count(*) from {LABEL.table} where {LABEL.name}")[0][0]))
    if not converting:
        return ()
    connection.execute(_CELLS)
    try:
        by_label = {(str(source), str(kind)): (float(str(total)), float(str(variance))) for source, kind, total, variance in rows(connection, _BY_LABEL)}
        late = connection.sql(_LATE).fetchnumpy()
    finally:
        connection.execute("drop table if exists temp.dated_cells")
    kinds = np.asarray([f"{source}\n{kind}" for source, kind in zip(late["source"], late["event_type"], strict=True)], dtype=np.str_)
    found = []
    for source, kind in sorted({*by_label, *zip(late["source"], late["event_type"], strict=True)}):
        at = kinds == f"{source}\n{kind}"
        first = by_label.get((source, kind), (0.0, 0.0))
        second = _receipt_after_conversion(*(np.asarray(late[name])[at] for name in ("band", "customer", "weight", "received_us", "converted_us")))
        (label, z), (receipt, after) = (_share(*sums, converting) for sums in (first, second))
        found.append(Excess(source, kind, int(np.asarray(late["late"])[at].sum()), label, receipt, (z, after)))
    return tuple(found)


def _share(total: float, variance: float, converting: int) -> tuple[Estimate, float]:
    spread = float(np.sqrt(max(variance, 0.0)))
    value, half = total / converting, Z95 * spread / converting
    return Estimate(value, value - half, value + half, converting), total / spread if spread > _NO_SPREAD else 0.0


def _receipt_after_conversion(
    bands: npt.NDArray[np.int64], customers: npt.NDArray[np.int64], weights: Floats, received: npt.NDArray[np.int64], converted: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Sum over cells of w (received after the own conversion - share of the band's conversions before the receipt), and its variance by customer.

    The terms are centred on both times (Hoeffding's projection), which leaves the sum as it is.
    """
    terms = np.zeros(len(bands))
    for band in np.unique(bands):
        at = np.flatnonzero(bands == band)
        w, r, c = weights[at], received[at], converted[at]
        by_row = _weight_before(c, w, r) / w.sum()
        by_column = 1 - _weight_before(r, w, c, inclusive=True) / w.sum()
        terms[at] = w * ((r > c) - by_row - by_column + float(w @ by_row) / w.sum())
    if not len(terms):
        return 0.0, 0.0
    of_customers = np.bincount(np.unique(customers, return_inverse=True)[1], terms)
    return float(terms.sum()), float(of_customers @ of_customers)


def _weight_before(values: npt.NDArray[np.int64], weights: Floats, bounds: npt.NDArray[np.int64], *, inclusive: bool = False) -> Floats:
    """For each bound, the weight of the values under it (or at it)."""
    order = np.argsort(values, kind="stable")
    summed = np.concatenate(([0.0], np.cumsum(weights[order])))
    return np.asarray(summed[np.searchsorted(values[order], bounds, side="right" if inclusive else "left")])


# A cell: rows of a kind, of a customer as known at a point, in one band of hours before it. Kinds without a late row are left out, and points without a label.
# An event counts for its first identifier here. late_at: when one of the late rows was received, whichever has the least id. Steps are materialised, because an
# engine that joins points to labels first makes a row for each customer and event.
_CELLS = f"""
    create or replace temp table dated_cells as
    with weeks as (select unnest(range(1, {WEEKS + 1})) as week),
    events as (
        select source, event_type, event_id, occurred_at, received_at, node_ids[1] as node_id, date_trunc('week', occurred_at) as week_at
        from intermediate.int_events_sessionized where is_counted and len(node_ids) > 0
    ),
    kinds as (select source, event_type from events group by all having bool_or(received_at >= week_at + to_days(7))),
    dated as materialized (
        select source, event_type, event_id, node_id, occurred_at, received_at, week_at + to_days(cast(7 * week as integer)) as as_of_at
        from events inner join kinds using (source, event_type) cross join weeks
    ),
    banded as (
        select *, received_at >= as_of_at as is_late, epoch_us(as_of_at - occurred_at - interval 1 microsecond) // 3600000000 as hours from dated
    ),
    of_nodes as materialized (
        select source, event_type, node_id, as_of_at,
            case when hours < 24 then cast(floor(log2(hours + 1)) as integer) else 5 + cast(hours // 24 as integer) end as band,
            count(*) as n, count(*) filter (where is_late) as late, min(event_id) filter (where is_late) as late_id,
            min_by(received_at, event_id) filter (where is_late) as late_at
        from banded group by all
    ),
    known as materialized (
        select of_nodes.*, history.customer_id
        from of_nodes inner join identity.membership_history as history
            on history.node_id = of_nodes.node_id and history.valid_from < of_nodes.as_of_at
            and (history.valid_to is null or of_nodes.as_of_at <= history.valid_to)
    ),
    cells as (
        select source, event_type, as_of_at, customer_id, band, sum(n) as n, sum(late) as late, min_by(late_at, late_id) as late_at
        from known group by source, event_type, as_of_at, customer_id, band
    )
    select cells.*, label.{LABEL.name} as is_converted, label.first_converted_at,
        1.0 / sum(n) over (partition by source, event_type, as_of_at, customer_id) as w
    from cells inner join {LABEL.table} as label using (customer_id, as_of_at)
"""
# Sum of w (late - mean) (label - mean) and its variance by customer, each stratum's scaled for the means that it loses; but not less than the null expects
# where a cell's rows are late together, because a sum that fell short of its mean has small squares as well.
_BY_LABEL = """
    with strata as (
        select source, event_type, as_of_at, band, count(*) as size, sum(w * late) / sum(w * n) as mean_late,
            sum(w * n) filter (where is_converted) / sum(w * n) as mean_y
        from temp.dated_cells group by source, event_type, as_of_at, band
        having bool_or(is_converted) and not bool_and(is_converted) and sum(late) between 1 and sum(n) - 1
    ),
    terms as (
        select source, event_type, customer_id, sum(w * (late - n * mean_late) * (is_converted::integer - mean_y)) as term,
            sum(w * (late - n * mean_late) * (is_converted::integer - mean_y) * sqrt(size / (size - 1.0))) as scaled,
            sum(w * n * w * n * mean_late * (1 - mean_late) * pow(is_converted::integer - mean_y, 2) * size / (size - 1.0)) as expected
        from temp.dated_cells inner join strata using (source, event_type, as_of_at, band) group by source, event_type, customer_id
    )
    select source, event_type, sum(term), greatest(sum(scaled * scaled), sum(expected)) from terms group by source, event_type
"""
_LATE = """
    select source, event_type, band, md5_number_lower(customer_id) as customer, cast(w * late as double) as weight, late,
        epoch_us(late_at - as_of_at) as received_us, epoch_us(first_converted_at - as_of_at) as converted_us
    from temp.dated_cells where is_converted and late > 0
"""


def _fed(connection: Connection, excess: Excess, fields: Sequence[Field]) -> tuple[str, ...]:
    """Fields, in their order, that most late rows of the kind feed, by the rules that `waymark why` goes by."""
    late = [(Event(*found[:-1]), found[-1]) for found in rows(connection, _SAMPLE, [excess.source, excess.event_type, _SAMPLED_ROWS])]  # type: ignore[arg-type]

    def is_fed(field: Field) -> bool:
        return 2 * sum(bool(events_behind(field, [event], point)) for event, point in late) > len(late)  # type: ignore[arg-type]

    return tuple(field.name for field in fields if field.measures and is_fed(field))


_SAMPLE = """
    select event_id, event_type, occurred_at, session_id, event_number, coalesce(session_started_at, occurred_at), stage, channel, device_type,
        micro_conversion is not null, event_id in (select event_id from intermediate.int_conversions_deduplicated), is_intent_start, is_jump_back,
        value_reporting, date_trunc('week', occurred_at) + to_days(7)
    from intermediate.int_events_sessionized
    where source = ? and event_type = ? and is_counted and received_at >= date_trunc('week', occurred_at) + to_days(7)
    order by md5(event_id) limit ?
"""
