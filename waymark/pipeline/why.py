"""Why a customer has the score it has: score -> contributions -> feature values -> the events that made them, each with file and line.

Reads the published snapshot and the model that gave the score, so it works while a run is writing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from ml.datasets import feature_sql
from ml.explain import Contribution, Event, events_behind, top_contributions, value_from
from ml.explain.events import Value
from ml.models.propensity import MODEL
from ml.models.propensity.model import PropensityModel
from ml.models.propensity.score import POINTS
from ml.registry import version_of
from waymark.core.errors import StorageError, WaymarkError
from waymark.core.quoting import literal
from waymark.core.settings import Project
from waymark.core.warehouse import Connection, rows
from waymark.pipeline.published import open_published

_EVENTS = """
    with goals as (select event_id from marts.fct_conversions where goal = $goal),
    seen as (
        select e.*, row_number() over (partition by e.session_id order by e.occurred_at, e.event_id) as number,
            case e.stage when 'awareness' then 1 when 'consideration' then 2 when 'intent' then 3 when 'purchase' then 4 when 'post_sale' then 5 end as rank
        from marts.fct_events e
        where e.is_counted and (e.customer_id = $customer
            or e.session_id in (select session_id from marts.fct_events where customer_id = $customer and session_id is not null))
    ),
    compared as (
        select *, last_value(rank ignore nulls) over earlier as rank_before, count(*) filter (where rank = 3) over earlier as intents_before
        from seen
        window earlier as (partition by session_id order by number rows between unbounded preceding and 1 preceding)
    )
    select event_id, event_type, occurred_at, session_id, case when session_id is not null then number end,
        case when session_id is null then occurred_at else min(occurred_at) over (partition by session_id) end,
        stage, channel, device_type, micro_conversion is not null, event_id in (select event_id from goals),
        session_id is not null and coalesce(rank = 3 and intents_before = 0, false), session_id is not null and coalesce(rank < rank_before, false),
        value_reporting
    from compared
    qualify customer_id = $customer
    order by occurred_at, event_id
"""


@dataclass(frozen=True)
class Reason:
    """A contribution with the events behind it. rederived: the feature's value from those events alone."""

    contribution: Contribution
    events: tuple[Event, ...]
    rederived: Value


@dataclass(frozen=True)
class Explanation:
    """score, low, high, decile as published; base: the model's mean margin; reasons: largest first."""

    customer_id: str
    as_of_at: datetime
    score: float
    low: float
    high: float
    decile: int
    version: str
    base_log_odds: float
    margin: float
    reasons: tuple[Reason, ...]


def explain_customer(project: Project, customer_id: str, *, count: int = 5) -> Explanation:
    """The published score of a customer, explained.

    Raises WaymarkError where the customer has no score, or none of the features that are published with it; StorageError where the model that gave it is gone.
    """
    with open_published(project.home) as connection:
        found = rows(
            connection,
            "select as_of_at, score, score_low, score_high, decile, model_version from marts.fct_propensity_scores where customer_id = ?",
            [customer_id],
        )
        if not found:
            raise WaymarkError(
                f"customer '{customer_id}' has no score",
                remedy='See: waymark sql "from marts.fct_propensity_scores limit 5"; who is not seen for 90 days has none.',
            )
        as_of_at, score, low, high, decile, version = found[0]
        known = version_of(project.home, MODEL, str(version))
        if known is None or not known.folder.is_dir():
            raise StorageError(f"version {version} of the model is gone", where=str(project.home.mlflow), remedy="Score again: waymark run --full-refresh")
        model = PropensityModel.load(known.folder)
        point = as_of_at if isinstance(as_of_at, datetime) else datetime.fromisoformat(str(as_of_at))
        table = _features(connection, model, customer_id, point)
        contributions = model.contributions(model.encoder.encode(table))[0]
        values = table.select(list(model.fields)).to_pylist()[0]
        events = customer_events(connection, customer_id, project.settings.goals[0].name)
        fields = {field.name: field for field in model.encoder.fields}
        reasons = []
        for contribution in top_contributions(model.encoder.fields, contributions, values, count=count):
            field = fields[contribution.feature]
            behind = events_behind(field, events, point) if field.measures else []
            rederived = value_from(field, behind, point) if field.measures else None
            reasons.append(Reason(contribution, tuple(behind), rederived))
        return Explanation(
            customer_id, point, score=float(str(score)), low=float(str(low)), high=float(str(high)), decile=int(str(decile)), version=str(version),
            base_log_odds=float(contributions[-1]), margin=float(contributions.sum()), reasons=tuple(reasons),
        )  # fmt: skip


def _features(connection: Connection, model: PropensityModel, customer_id: str, point: datetime) -> pa.Table:
    """The one row that the score was made of, under the id by which the customer was known at the point."""
    known = f"""
        select p.customer_id from {POINTS} p left join marts.dim_customer_aliases a on a.alias_customer_id = p.customer_id
        where p.as_of_at = timestamp '{point}' and coalesce(a.customer_id, p.customer_id) = {literal(customer_id)}"""
    where = f"points.as_of_at = timestamp '{point}' and points.customer_id in ({known})"
    table = connection.sql(feature_sql(model.encoder.fields, where=where)).to_arrow_table()
    if not table.num_rows:
        raise WaymarkError(
            f"the features of customer '{customer_id}' are not published any more: its score is older than they are",
            remedy="Score again: waymark run --full-refresh",
        )
    names, scores = table.column("customer_id").to_pylist(), model.predict(table).score
    # Of several the one that scoring took (ml/models/propensity/score.py).
    place = min(range(table.num_rows), key=lambda row: (names[row] != customer_id, -scores[row], names[row]))
    return table.slice(place, 1)


def customer_events(connection: Connection, customer_id: str, goal: str) -> list[Event]:
    """All counted events of a customer, in time order."""
    return [Event(*row) for row in rows(connection, _EVENTS, {"customer": customer_id, "goal": goal})]  # type: ignore[arg-type]
