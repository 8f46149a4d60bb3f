"""All suites, by stage. A module a group of tables; each gives its suites for a project."""

from __future__ import annotations

from collections.abc import Sequence

from expectations.rules import Bounds, Stage, Suite
from expectations.suites import features, journeys, raw_events, scores

__all__ = ["suites_of"]


def suites_of(stage: Stage, *, sources: Sequence[str], bounds: Bounds, fields: Sequence[tuple[str, str, str]], pending: bool) -> list[Suite]:
    """The suites of a stage. fields: (table, column, dtype) of every feature. pending: raw tables are checked on what no finished run has seen."""
    if stage == "raw":
        return [raw_events.suite(source, bounds, pending=pending) for source in sorted(sources)]
    if stage == "journeys":
        return journeys.suites(bounds)
    if stage == "features":
        return features.suites(bounds, fields)
    return scores.suites()
