"""Feature views and the label: keys, ranges, windows that hold each other, and drift between what a model learns from and what it will score."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expectations.rules import Bounds, Rule, Suite

_SCOPE = """(t.as_of_at >= coalesce((select max(data_now) from identity.finished_clock), timestamp '0001-01-01')
    or t.customer_id in (select customer_id from identity.restated_feature_customers))"""
# The key as customer_point_id has it; a rule that breaks none need not make one for every row.
_KEY = "coalesce(t.customer_id, '?') || '_' || coalesce(epoch_us(t.as_of_at)::varchar, '?')"
_LATEST = "(select data_now from raw.run_clock)"
# Drift is asked of points with so many rows, against as many weeks before.
_LEAST_ROWS = 500
_WEEKS = 8
_ENOUGH = f"""
    select (select count(*) from {{table}} where as_of_at = {_LATEST}) >= {_LEAST_ROWS}
        and (select count(distinct as_of_at) from {{table}} where as_of_at < {_LATEST} and as_of_at >= {_LATEST} - to_days({7 * _WEEKS})) >= 4
"""


def suites(bounds: Bounds, fields: Sequence[tuple[str, str, str]]) -> list[Suite]:
    """One suite a feature view, and one for the label."""
    tables = list(dict.fromkeys(table for table, _, _ in fields))
    found = []
    for table in tables:
        columns = [(column, dtype) for of, column, dtype in fields if of == table]
        found.append(Suite(table.replace(".", "_"), "features", table, (*_keys(), *_ranges(columns), *_drift(table, columns, bounds)), _SCOPE))
    return [*found, Suite("features_label_conversion", "features", "features.label_conversion", _label(), _SCOPE)]


def _where(name: str, meaning: str, condition: str) -> Rule:
    return Rule(name, meaning, f"select {_KEY} from {{batch}} t where {{scope}} and ({condition})")


def _keys() -> tuple[Rule, ...]:
    return (
        _where("feature_keys_are_whole", "A feature row names its customer and its point.", "t.customer_id is null or t.as_of_at is null"),
        Rule("feature_keys_are_unique", "One row a customer and point.",
             "select t.customer_id || '_' || epoch_us(t.as_of_at) from {batch} t where {scope} group by t.customer_id, t.as_of_at having count(*) > 1"),
        _where("points_are_on_the_grid", "A point is a Monday's midnight or data_now.",
               f"t.as_of_at <> date_trunc('week', t.as_of_at) and t.as_of_at is distinct from {_LATEST} or t.as_of_at > {_LATEST}"),
    )  # fmt: skip


def _ranges(columns: Sequence[tuple[str, str]]) -> tuple[Rule, ...]:
    counts = [column for column, dtype in columns if dtype == "integer"]
    hours = [column for column, dtype in columns if column.startswith("hours_")]
    shares = [column for column, _ in columns if column.endswith("_share_90d")]
    found = [_where("counts_are_not_negative", "A count is zero or more, and never unknown.", " or ".join(f't."{column}" < 0' for column in counts))] if counts else []
    if hours:
        found.append(_where("hours_are_not_negative", "Nothing in a feature lies at or after its point.", " or ".join(f't."{column}" < 0' for column in hours)))
    if shares:
        found.append(_where("shares_are_shares", "A share lies between 0 and 1.", " or ".join(f'not t."{column}" between 0 and 1' for column in shares)))
    pairs = _nested(columns)
    if pairs:
        found.append(_where("longer_windows_hold_shorter_ones", "A count over more days is no less.", " or ".join(f't."{short}" > t."{long}"' for short, long in pairs)))
    return tuple(found)


def _nested(columns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    windows: dict[str, list[tuple[int, str]]] = {}
    for column, dtype in columns:
        if dtype in ("integer", "number") and (match := re.fullmatch(r"(.+_(?:count|amount))_(?:(\d+)d|total)", column)):
            windows.setdefault(match[1], []).append((int(match[2] or 10**6), column))
    return [(short, long) for found in windows.values() for (_, short), (_, long) in zip(sorted(found), sorted(found)[1:], strict=False) if "max_stage" not in short]


def _drift(table: str, columns: Sequence[tuple[str, str]], bounds: Bounds) -> tuple[Rule, ...]:
    latest, before = f"t.as_of_at = {_LATEST}", f"t.as_of_at < {_LATEST} and t.as_of_at >= {_LATEST} - to_days({7 * _WEEKS})"
    applies = _ENOUGH.format(table=table)
    nullable = [column for column, dtype in columns if dtype in ("number", "category")]
    found = []
    if nullable:
        shifts = " union all ".join(
            f"""select '{column}' as feature, abs(avg(case when t."{column}" is null then 1.0 else 0 end) filter (where {latest})
                - avg(case when t."{column}" is null then 1.0 else 0 end) filter (where {before})) as shift from {{batch}} t"""
            for column in nullable
        )
        found.append(Rule("null_rates_are_steady", "The share of undefined values at the latest point is near that of the eight weeks before it.",
                          f"select feature from ({shifts}) s where shift > {bounds.max_null_rate_shift}", applies=applies))  # fmt: skip
    categories = [column for column, dtype in columns if dtype == "category"]
    if categories:
        indices = " union all ".join(
            f"""select '{column}' as feature, sum((p - q) * ln(p / q)) as psi from (
                    select coalesce(t."{column}", '') as value,
                        (count(*) filter (where {latest}) + 0.5) / (sum(count(*) filter (where {latest})) over () + 0.5 * count(*) over ()) as p,
                        (count(*) filter (where {before}) + 0.5) / (sum(count(*) filter (where {before})) over () + 0.5 * count(*) over ()) as q
                    from {{batch}} t group by 1)"""
            for column in categories
        )
        found.append(Rule("categories_are_steady", "The population stability index of a category, latest point against eight weeks, is under quality.max_category_shift.",
                          f"select feature from ({indices}) s where psi > {bounds.max_category_shift}", applies=applies))  # fmt: skip
    return tuple(found)


def _label() -> tuple[Rule, ...]:
    return (
        _where("labels_are_ripe", "A label's horizon ended at or before data_now.", f"t.as_of_at + to_days(t.horizon_days) > {_LATEST}"),
        _where("labelled_conversions_lie_in_the_horizon", "A conversion that a label counts lies in its horizon.",
               "t.is_converted is null or t.is_converted <> (t.first_converted_at is not null) or t.first_converted_at < t.as_of_at"
               " or t.first_converted_at >= t.as_of_at + to_days(t.horizon_days)"),
        Rule("labels_have_features", "Every labelled customer and point has features.",
             f"select {_KEY} from {{batch}} t where {{scope}} and not exists ("
             "select 1 from intermediate.int_customer_activity a where a.customer_id = t.customer_id and a.as_of_at = t.as_of_at)"),
    )  # fmt: skip
