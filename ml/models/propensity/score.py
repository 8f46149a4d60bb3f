"""Scores of all customers at the latest point, streamed: batches of features from DuckDB, scores back, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml.datasets import feature_sql
from ml.explain import top_contributions
from waymark.core.quoting import literal
from waymark.core.warehouse import Connection, another_cursor, rows

if TYPE_CHECKING:
    from ml.models.propensity.model import PropensityModel

TABLE = "marts.fct_propensity_scores"
# Who may be scored: the scope that a score needs stands in its yml (dbt/models/features/score_points.yml).
POINTS = "features.score_points"
COLUMNS = {
    "customer_id": "VARCHAR", "as_of_at": "TIMESTAMP", "score": "DOUBLE", "score_low": "DOUBLE", "score_high": "DOUBLE", "decile": "INTEGER",
    "model_version": "VARCHAR", "reasons": "VARCHAR",
}  # fmt: skip
DESCRIPTIONS = {
    "customer_id": "The customer.",
    "as_of_at": "The point: what came at or after it was not known to the score.",
    "score": "Calibrated probability of a conversion within learning.horizon_days of the point.",
    "score_low": "Lower end of the score's 90 % interval.",
    "score_high": "Upper end of the score's 90 % interval.",
    "decile": "1 for the tenth with the highest scores, to 10. Equal scores share a decile, by the middle of their ranks.",
    "model_version": "Version in the registry of the model that gave the score.",
    "reasons": "Top decile: JSON list of feature, value, log_odds and sentence, by exact SHAP contributions; NULL for others (waymark why CUSTOMER).",
}
BATCH_ROWS = 50_000
TOP_REASONS = 3
_EXPLAINED_ROWS = 5_000


@dataclass(frozen=True)
class ScoreReport:
    """rows: customers scored; version: of the model, None where there is none and the table was emptied."""

    rows: int
    version: str | None


def prepare_scores(connection: Connection) -> None:
    """Makes the table, empty, where it does not exist."""
    connection.execute(f"create table if not exists {TABLE} ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    for name, text in DESCRIPTIONS.items():
        connection.execute(f"comment on column {TABLE}.{name} is {literal(text)}")


def score_customers(connection: Connection, model: PropensityModel | None, version: str | None, *, batch_rows: int = BATCH_ROWS) -> ScoreReport:
    """Replaces the scores by those of all customers who may be scored at the latest point (data_now); leaves none where there is no model.

    Deciles are equal parts by score. Equal scores share a decile, that of the middle of their ranks, so a decile can hold more or less than a tenth:
    calibration makes steps, and nothing tells apart who is on one. Reasons are the exact contributions of the top decile.
    """
    prepare_scores(connection)
    if model is None or version is None:
        connection.execute(f"delete from {TABLE}")
        return ScoreReport(0, None)
    connection.execute("create or replace temp table fresh_scores (customer_id VARCHAR, as_of_at TIMESTAMP, score DOUBLE, score_low DOUBLE, score_high DOUBLE)")
    now = "(select data_now from raw.run_clock)"
    where = f"points.as_of_at = {now} and points.customer_id in (select customer_id from {POINTS} where as_of_at = {now})"
    source = another_cursor(connection)
    reader = source.sql(feature_sql(model.encoder.fields, where=where)).to_arrow_reader(batch_rows)
    for batch in reader:
        scores = model.predict(batch)
        scored = pa.table({
            "customer_id": batch.column("customer_id"), "as_of_at": batch.column("as_of_at"),
            "score": scores.score, "score_low": scores.low, "score_high": scores.high,
        })  # fmt: skip
        connection.register("scored_batch", scored)
        connection.execute("insert into temp.fresh_scores from scored_batch")
        connection.unregister("scored_batch")
    source.close()
    # As known at data_now is as known today, but for links that events beyond data_now have made since: their customers go by today's id, once.
    connection.execute("""
        create or replace temp table current_scores as
        select coalesce(a.customer_id, f.customer_id) as customer_id, f.customer_id as known_customer_id, f.as_of_at, f.score, f.score_low, f.score_high
        from temp.fresh_scores f left join marts.dim_customer_aliases a on a.alias_customer_id = f.customer_id
        qualify row_number() over (
            partition by coalesce(a.customer_id, f.customer_id)
            order by f.customer_id = coalesce(a.customer_id, f.customer_id) desc, f.score desc, f.customer_id
        ) = 1
    """)
    connection.execute("""
        create or replace temp table ranked_scores as
        select *, cast((2 * (rank() over (order by score desc) - 1) + count(*) over (partition by score) - 1) * 10 // (2 * count(*) over ()) as integer) + 1
            as decile
        from temp.current_scores
    """)
    reasons = _reasons(connection, model)
    connection.register("reasons_of_the_top", reasons)
    connection.begin()
    try:
        connection.execute(f"delete from {TABLE}")
        connection.execute(
            f"""
            insert into {TABLE}
            select s.customer_id, s.as_of_at, s.score, s.score_low, s.score_high, s.decile, ?, r.reasons
            from temp.ranked_scores s left join reasons_of_the_top r on r.customer_id = s.known_customer_id
            order by s.score desc, s.customer_id
            """,
            [version],
        )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.unregister("reasons_of_the_top")
        for table in ("fresh_scores", "current_scores", "ranked_scores"):
            connection.execute(f"drop table if exists temp.{table}")
    count = rows(connection, f"select count(*) from {TABLE}")[0][0]
    return ScoreReport(int(str(count)), version)


def _reasons(connection: Connection, model: PropensityModel) -> pa.Table:
    top = "(select known_customer_id from temp.ranked_scores where decile = 1)"
    where = f"points.as_of_at = (select data_now from raw.run_clock) and points.customer_id in {top}"
    customers: list[str] = []
    texts: list[str] = []
    for batch in connection.sql(feature_sql(model.encoder.fields, where=where)).to_arrow_reader(_EXPLAINED_ROWS):
        contributions = model.contributions(model.encoder.encode(batch))
        values = batch.select(list(model.fields)).to_pylist()
        customers += batch.column("customer_id").to_pylist()
        texts += [reasons_json(model, row, value) for row, value in zip(contributions, values, strict=True)]
    return pa.table({"customer_id": pa.array(customers, pa.string()), "reasons": pa.array(texts, pa.string())})


def reasons_json(model: PropensityModel, contributions: npt.NDArray[np.float64], values: dict[str, object], count: int = TOP_REASONS) -> str:
    """The top contributions of one row as JSON."""
    found: Sequence[object] = [
        {"feature": item.feature, "value": item.value, "log_odds": round(item.log_odds, 6), "sentence": item.sentence}
        for item in top_contributions(model.encoder.fields, contributions, values, count=count)
    ]
    return json.dumps(found)
