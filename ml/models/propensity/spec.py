"""What the propensity model tries, and what it always does the same."""

from __future__ import annotations

from collections.abc import Mapping

NAME = "propensity"
# The share of training rows, the latest, on which boosting stops; never calibration or test.
STOPPING_SHARE = 0.2
ROUNDS = 600
PATIENCE = 25
# Sums of floats depend on how rows are shared out, so the number of threads is fixed, whatever the machine has.
THREADS = 2
FIXED: Mapping[str, object] = {
    "objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "max_bin": 128, "nthread": THREADS, "verbosity": 0,
}  # fmt: skip
TRIALS: tuple[Mapping[str, object], ...] = (
    {"max_depth": 3, "eta": 0.10, "min_child_weight": 20.0, "subsample": 0.8, "colsample_bytree": 0.6, "lambda": 5.0},
    {"max_depth": 4, "eta": 0.06, "min_child_weight": 40.0, "subsample": 0.8, "colsample_bytree": 0.5, "lambda": 10.0},
    {"max_depth": 6, "eta": 0.05, "min_child_weight": 60.0, "subsample": 0.7, "colsample_bytree": 0.4, "lambda": 20.0},
    {"max_depth": 4, "eta": 0.05, "min_child_weight": 1.0, "subsample": 0.8, "colsample_bytree": 0.6, "lambda": 1.0},
)
# How often the trees are grown again on drawn outcomes, to learn how far they come from a truth that is known: that of these candidates, in turn.
REFITS = 4
TRUTHS = ("logistic", "xgboost")
# Recency, frequency and value.
RFM = ("hours_since_last_event", "session_count_28d", "event_count_90d", "revenue_amount_total")
