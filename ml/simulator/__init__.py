"""A world whose truth is known: ordinary source files to run the pipeline on, and `truth_*` tables to grade it by."""

from ml.simulator.spec import DEFAULT_MECHANISMS, Drift, WorldSpec, rates_given
from ml.simulator.world import WorldReport, generate_world

__all__ = ["DEFAULT_MECHANISMS", "Drift", "WorldReport", "WorldSpec", "generate_world", "rates_given"]
