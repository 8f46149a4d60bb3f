"""Orchestration: the only package that imports Dagster. Thin assets over `waymark.pipeline`."""
