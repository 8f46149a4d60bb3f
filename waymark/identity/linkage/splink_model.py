"""The comparisons in Splink's terms: it estimates what strangers have in common, and is the witness of our own scores.

Splink works on a database of its own, in memory: it makes many tables, and none of them belongs into a warehouse.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from waymark.core.warehouse import connect
from waymark.identity.linkage.comparisons import EXACT, LEVELS, MOVED, Comparison, Part, comparisons_of, wide_sql
from waymark.identity.linkage.estimation import Estimation
from waymark.identity.linkage.mixture import Floats
from waymark.identity.linkage.records import RECORDS, TABLES


def strangers_shares(records: pa.Table, parts: Sequence[Part]) -> Floats:
    """u, (parts, levels): the shares of levels among all pairs of a random sample of records, so few of which are one person's that they do not count.

    records: `node_id` and the columns of `comparisons.wide_sql`, a sample already: which records are in it must not depend on how many threads draw it. A level
    that no pair has gets the share of half a pair.
    """
    with _linker(records, comparisons_of(parts), None) as linker:
        linker.training.estimate_u_using_random_sampling(max_pairs=1e12, min_count_per_level=None, num_chunks=1)
        model = linker.misc.save_model_to_json()
    least = 0.5 / max(1.0, len(records) * (len(records) - 1) / 2)
    shares = [[_share(level) for level in comparison["comparison_levels"] if not level.get("is_null_level")] for comparison in model["comparisons"]]
    u = np.maximum(np.array(shares), least)
    return np.asarray(u / u.sum(axis=1, keepdims=True), dtype=np.float64)


def _share(level: dict[str, Any]) -> float:
    told = level.get("u_probability")  # a text where no pair was seen at this level
    return float(told) if isinstance(told, int | float) else 0.0


def splink_weights(records: pa.Table, pairs: pa.Table, estimation: Estimation) -> pa.Table:
    """What Splink's own prediction says of these pairs: unique_id_l, unique_id_r, match_weight (base 2, the prior in it).

    pairs: node_l, node_r. The frozen shares and frequencies are handed to Splink; for tests that hold our SQL to it.
    """
    from splink import DuckDBAPI

    comparisons = comparisons_of([told.part for told in estimation.parts])
    with _linker(records, comparisons, estimation) as linker:
        api: DuckDBAPI = linker._db_api
        for told in estimation.parts:
            column = f"{told.part.name}_exact"
            known = dict(told.frequencies)
            values = [value for value in records[column].unique().to_pylist() if value is not None]
            table = pa.table({column: pa.array(values, pa.int64()), f"tf_{column}": [known.get(value, told.rare) for value in values]})
            linker.table_management.register_term_frequency_lookup(api.register(table), column)
        blocked = pa.table({"match_key": pa.array(["0"] * len(pairs)), "join_key_l": pairs["node_l"], "join_key_r": pairs["node_r"]})
        linker.table_management.register_blocked_pairs_for_predict(api.register(blocked))
        found: pa.Table = linker.inference.predict().as_pyarrow_table()
        return found


def estimation_charts(estimation: Estimation) -> dict[str, str]:
    """Splink's charts of an estimation, as HTML pages that need no network, by file name: how much each level speaks for a match, and its shares m and u."""
    parts = [told.part for told in estimation.parts]
    with connect() as connection:
        connection.execute(f"create temp table nobody ({TABLES[RECORDS]})")
        records = connection.sql(wide_sql("temp.nobody", parts)).to_arrow_table()
    with _linker(records, comparisons_of(parts), estimation) as linker:
        charts = {"match_weights.html": linker.visualisations.match_weights_chart(), "m_u_parameters.html": linker.visualisations.m_u_parameters_chart()}
        return {name: str(chart.to_html(inline=True)) for name, chart in charts.items()}


@contextmanager
def _linker(records: pa.Table, comparisons: Sequence[Comparison], estimation: Estimation | None) -> Iterator[Any]:
    from splink import DuckDBAPI, Linker, SettingsCreator
    from splink.blocking_rule_library import CustomRule
    from splink.comparison_level_library import CustomLevel, ElseLevel, ExactMatchLevel
    from splink.comparison_library import CustomComparison

    told = {estimate.part.name: estimate for estimate in estimation.parts} if estimation else {}
    made: list[Any] = []
    for comparison in comparisons:
        name = comparison.part.name
        levels: list[Any] = [CustomLevel(comparison.not_known).configure(is_null_level=True)]
        for number, condition in enumerate(comparison.conditions):
            level: Any
            label = LEVELS[number]
            if number == EXACT:
                level = ExactMatchLevel(f"{name}_exact", term_frequency_adjustments=estimation is not None)
            else:
                level = ElseLevel() if number == len(LEVELS) - 1 else CustomLevel(condition, label_for_charts=label)
            if name in told:
                weighed = EXACT if number == MOVED else number
                level = level.configure(m_probability=told[name].m[weighed], u_probability=told[name].u[weighed], label_for_charts=label)
                if number == MOVED:
                    level = level.configure(tf_adjustment_column=f"{name}_exact", tf_adjustment_weight=1.0)
            levels.append(level)
        made.append(CustomComparison(output_column_name=name, comparison_levels=levels))
    settings = SettingsCreator(
        link_type="dedupe_only", comparisons=made, unique_id_column_name="node_id", retain_matching_columns=False,
        blocking_rules_to_generate_predictions=[CustomRule("l.node_id = r.node_id")],
        probability_two_random_records_match=estimation.match if estimation else 1e-4,
    )  # fmt: skip
    connection = connect()
    try:
        yield Linker(DuckDBAPI(connection).register(records, dataset_display_name="records"), settings, log_level=logging.ERROR)
    finally:
        connection.close()
