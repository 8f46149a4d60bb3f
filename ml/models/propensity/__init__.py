"""Propensity: the probability that a customer converts within the horizon."""
