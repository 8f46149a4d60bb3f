"""The exact oracle: how likely an order is, given all that can be seen of a person, and given what cannot be seen as well."""

from ml.simulator.oracle.scores import mondays, oracle_scores, write_propensity

__all__ = ["mondays", "oracle_scores", "write_propensity"]
