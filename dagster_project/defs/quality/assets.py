"""The suites of each stage as asset checks."""

from dagster_project.lib.suite_checks import stage_checks

raw_checks = stage_checks("raw")
journey_checks = stage_checks("journeys")
feature_checks = stage_checks("features")
score_checks = stage_checks("scores")
