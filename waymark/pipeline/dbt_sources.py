"""dbt's source declarations, made from a project's source names: what dbt reads and does not make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LOG_TABLES = {
    "run_clock": "One row: data_now, the run's only clock (UTC).",
    "ingestion_log": "One row per file: what was read, accepted, doubled and quarantined. A log, not pure.",
    "event_conflicts": "One row per content of an event id that arrived with more than one; the survivor is the least by (occurred_at, content_digest).",
}
IDENTITY_TABLES = {
    "nodes": "One row per identifier: its key, type, value, first and last instant, and the customer id that it would give.",
    "edges": "One row per pair of identifiers and kind of evidence: when and how often it was seen, and how sure it is.",
    "negative_edges": "One row per pair of identifiers that must not be one person's, kind of evidence and interval.",
    "memberships": "One row per identifier that links people: the customer it belongs to now. Over-shared identifiers are absent.",
    "membership_history": "One row per identifier and interval of event time: the customer it was known to belong to.",
}
# What identity tells its reader of a run: not a function of the events, so nothing compares it.
IDENTITY_LOGS = {
    "restatements": "A log: one row per run, customer before and after, and why: identifiers that went from one customer to another.",
}
# What identity tells the models of this run: what they must compute again, and what the next run compares itself with.
RESTATEMENT_TABLES = {
    "restated_session_keys": "Session keys whose sessions must be computed again, from an instant on. Cleared when a run is finished.",
    "restated_events": "Events that must be placed again: every pending one, and those of no session whose customer changed. Cleared when a run is finished.",
    "restated_placements": "Events to be placed again, and those of the sessions to be computed again, at each instant under which a table may hold them.",
    "restated_customers": "Customers, old and new ids, whose events or links changed. Cleared when a run is finished.",
    "over_shared_since": "One row per identifier that merges nobody any more: from when.",
    "finished_clock": "One row: data_now of the last finished run; none before the first.",
    "restated_nodes": "Identifiers whose daily activity must be computed again. Cleared when a run is finished.",
    "restated_feature_customers": "Customers, as known at any time, whose features and labels must be computed again. Cleared when a run is finished.",
    "restated_orders": "Orders of which a report arrived or changed. Cleared when a run is finished.",
}


def sources_document(source_names: Sequence[str]) -> dict[str, Any]:
    """The content of `models/staging/_sources.yml`: schema raw (two tables a source, and logs) and schema identity.

    source_names: the project's sources, in the order of `waymark.yml`. The document holds no Jinja, so `yaml.safe_dump` writes it as it is.
    """
    raw_tables: list[dict[str, str]] = []
    for name in source_names:
        raw_tables.append(
            {
                "name": f"{name}_events",
                "description": f"One row per accepted event of {name}, as docs/architecture.md states the columns; losers of conflicts are left out.",
            }
        )
        raw_tables.append({"name": f"{name}_pending", "description": f"The rows of {name}_events from batches that no finished run has seen yet."})
    raw_tables.extend({"name": name, "description": text} for name, text in _LOG_TABLES.items())
    identity_tables = [{"name": name, "description": text} for name, text in (IDENTITY_TABLES | IDENTITY_LOGS | RESTATEMENT_TABLES).items()]
    return {
        "version": 2,
        "sources": [
            {"name": "raw", "schema": "raw", "description": "What ingestion accepted, and its logs. Only ingestion writes here.", "tables": raw_tables},
            {
                "name": "identity",
                "schema": "identity",
                "description": "Who is who, and what a run must compute again. Only identity writes here.",
                "tables": identity_tables,
            },
        ],
    }
