"""From the model's log-odds to ones that come true: a monotone map, fitted on worlds whose truth is known, and kept in each estimation.

The model takes parts for independent, given the class of a pair, and cannot tell a son from a father of one name whose dates of birth are not known; so
it is too sure. The map is the most likely one through a few knots (`python -m benchmarks.linkage_world --calibrate 6 --seed 1201`, customers 8,000).
"""

from __future__ import annotations

Knots = tuple[tuple[float, float], ...]  # (log-odds of the model, log-odds told), both rising
IDENTITY: Knots = ((-30.0, -30.0), (30.0, 30.0))
SIMULATED: Knots = ((-30.0, -30.053), (0.0, -0.053), (2.0, 1.475), (4.0, 3.898), (9.0, 5.552), (15.0, 6.27))
