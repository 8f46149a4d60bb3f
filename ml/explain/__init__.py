"""Why a score is what it is: exact contributions, their sizes over many rows, and the same in words."""

from ml.explain.events import Event, events_behind, value_from
from ml.explain.words import Contribution, Importance, importances, top_contributions

__all__ = ["Contribution", "Event", "Importance", "events_behind", "importances", "top_contributions", "value_from"]
