"""Adapters between Waymark's steps and Dagster's assets."""
