"""Promises about data: suites of rules that Great Expectations runs inside DuckDB. No table is loaded to be checked."""

from expectations.rules import Bounds, CheckResult, Rule, Suite
from expectations.suites import suites_of

__all__ = ["Bounds", "CheckResult", "Rule", "Suite", "suites_of"]
