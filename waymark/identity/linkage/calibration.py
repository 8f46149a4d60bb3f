"""From the model's log-odds to ones that come true: a monotone map, fitted on worlds whose truth is known."""

from __future__ import annotations

Knots = tuple[tuple[float, float], ...]
IDENTITY: Knots = ((-30.0, -30.0), (30.0, 30.0))
SIMULATED: Knots = IDENTITY
