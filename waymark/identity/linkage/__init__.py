"""Probabilistic links: who may be whom, by what people typed of themselves, compared under keyed hashes."""

from waymark.identity.linkage.comparisons import Part
from waymark.identity.linkage.estimation import (
    Estimation,
    current_estimation,
    has_estimation,
    keep_estimation,
    put_in_force,
    remove_estimations,
    remove_other_estimations,
    version_in_force,
)  # fmt: skip
from waymark.identity.linkage.estimator import EstimateReport, NothingToEstimateError, estimate
from waymark.identity.linkage.links import LinkageReport, is_linked_by, link_records, remove_links
from waymark.identity.linkage.records import facts_sql, records_sql
from waymark.identity.linkage.splink_model import estimation_charts

__all__ = [
    "EstimateReport", "Estimation", "LinkageReport", "NothingToEstimateError", "Part", "current_estimation", "estimate", "estimation_charts", "facts_sql",
    "has_estimation", "is_linked_by", "keep_estimation", "link_records", "put_in_force", "records_sql", "remove_estimations", "remove_links",
    "remove_other_estimations", "version_in_force",
]  # fmt: skip
