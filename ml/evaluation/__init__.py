"""How good a probability is: every number with its interval and its n."""

from ml.evaluation.auc import auc, auc_difference
from ml.evaluation.estimate import Estimate
from ml.evaluation.ranked import Ranked, ranked
from ml.evaluation.recalibration import calibration_slope_and_intercept, logit, sigmoid
from ml.evaluation.report import COMPARED, METRICS, clopper_pearson, compare, curves, evaluate, log_losses, mean_estimate, squared_errors, stability

__all__ = [
    "COMPARED", "METRICS", "Estimate", "Ranked", "auc", "auc_difference", "calibration_slope_and_intercept", "clopper_pearson", "compare", "curves", "evaluate",
    "log_losses", "logit", "mean_estimate", "ranked", "sigmoid", "squared_errors", "stability",
]  # fmt: skip
