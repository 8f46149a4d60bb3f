"""The only place that asks the wall clock. No SQL and no domain code asks the time: `data_now` is data."""

from __future__ import annotations

from datetime import UTC, datetime


def wall_now() -> datetime:
    """The wall time, UTC and without zone, for logs and manifests only."""
    return datetime.now(UTC).replace(tzinfo=None)
