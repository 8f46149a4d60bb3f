"""Identity: links from events, clusters, customer ids with their history, what must be re-stated when they change, and an operator's words."""

from waymark.identity.changes import CustomerChange, restated_rows
from waymark.identity.report import IdentityReport, OverShared, over_shared
from waymark.identity.resolve import preview_words, resolve_identities
from waymark.identity.tables import clear_restatements, is_restating, prepare_identity, request_days
from waymark.identity.words import Word

__all__ = [
    "CustomerChange",
    "IdentityReport",
    "OverShared",
    "Word",
    "clear_restatements",
    "is_restating",
    "over_shared",
    "prepare_identity",
    "preview_words",
    "request_days",
    "resolve_identities",
    "restated_rows",
]
