"""Why a score is what it is: exact contributions, their sizes over many rows, and the same in words."""

from ml.explain.words import Contribution, Importance, importances, top_contributions

__all__ = ["Contribution", "Importance", "importances", "top_contributions"]
