"""The suites of each stage as asset checks, and the table that keeps what they found."""

import dagster as dg

from dagster_project.lib.suite_checks import checked_tables, stage_checks
from expectations.rules import STAGES

raw_checks, journey_checks, feature_checks, score_checks = (stage_checks(stage) for stage in STAGES)

check_results = dg.AssetSpec(
    ["quality", "check_results"], group_name="quality", kinds={"duckdb"}, deps=checked_tables(),
    description="One row per rule and run: what each check found, written by the checks themselves. `waymark quality` shows it.",
)  # fmt: skip
