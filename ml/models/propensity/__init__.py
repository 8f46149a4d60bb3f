"""Propensity: the probability that a customer converts within the horizon."""

# Its name in the registry.
MODEL = "propensity"
