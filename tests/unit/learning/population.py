"""A synthetic population whose conversion probability is known, as tables that look like the feature views joined to the label."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from ml.features import Field

FIELDS = (
    Field("hours_since_last_event", "number", None, "hours since the latest event", ("last_event_us",)),
    Field("session_count_28d", "integer", 28, "sessions begun in the last 28 days", ("session_count",)),
    Field("event_count_90d", "integer", 90, "events in the last 90 days", ("event_count",)),
    Field("revenue_amount_total", "number", None, "revenue, ever", ("revenue_amount",)),
    Field("has_open_intent", "boolean", None, "stage intent was reached after the latest conversion", ("last_intent_us",)),
    Field("last_channel", "category", None, "channel group of the latest touch", ("last_touch_key",)),
)
START = datetime(2026, 1, 5)


def population(rows: int, *, seed: int, first_week: int, weeks: int) -> tuple[pa.Table, np.ndarray]:
    """Rows in the order (as_of_at, customer_id), and their true probabilities."""
    rng = np.random.default_rng(seed)
    week = np.sort(rng.integers(first_week, first_week + weeks, rows))
    hours = rng.exponential(300, rows)
    sessions = rng.poisson(2, rows)
    intent = rng.random(rows) < 0.2
    channel = rng.choice(["direct", "email", "paid_search"], rows, p=[0.6, 0.2, 0.2])
    revenue = np.where(rng.random(rows) < 0.3, rng.exponential(80, rows), np.nan)
    margin = -3.4 - hours / 200 + 0.35 * sessions + 1.2 * intent + 0.7 * (channel == "email")
    p = 1 / (1 + np.exp(-margin))
    table = pa.table({
        "customer_id": [f"c_{number:05d}" for number in rng.integers(0, rows // 3, rows)],
        "as_of_at": pa.array([START + timedelta(days=7 * int(item)) for item in week], pa.timestamp("us")),
        "hours_since_last_event": hours, "session_count_28d": sessions.astype(float), "event_count_90d": sessions * 4.0,
        "revenue_amount_total": pa.array(revenue, from_pandas=True), "has_open_intent": intent.astype(float), "last_channel": channel,
        "is_converted": rng.random(rows) < p,
    })  # fmt: skip
    return table, p
