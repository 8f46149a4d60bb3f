"""Deterministic identity: links from events, clusters, customer ids with their history, and what must be re-stated when they change."""

from waymark.identity.report import IdentityReport, OverShared, over_shared
from waymark.identity.resolve import resolve_identities
from waymark.identity.tables import clear_restatements, prepare_identity, request_days

__all__ = ["IdentityReport", "OverShared", "clear_restatements", "over_shared", "prepare_identity", "request_days", "resolve_identities"]
