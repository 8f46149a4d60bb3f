"""How good a probability is: every number with its interval and its n."""

from ml.evaluation.estimate import Estimate

__all__ = ["Estimate"]
