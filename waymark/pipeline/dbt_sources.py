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

_NODE, _CUSTOMER = "The identifier: identity.nodes.node_id.", "The customer."
# What the columns of these tables hold: for dbt's documentation and for Dagster.
IDENTITY_COLUMNS: dict[str, dict[str, str]] = {
    "nodes": {
        "node_id": "Key of the identifier (x_visitor_key of `type|value`).",
        "identifier_type": "What it is: anonymous_id, user_id, or a kind that a mapping names (email, phone, ...).",
        "identifier_value": "Namespaced as the source has it, or a keyed hash.",
        "first_seen_at": "Instant of its first event, UTC.",
        "last_seen_at": "Instant of its last event, UTC.",
        "node_customer_id": "The customer id that it gives where it is the first of its customer's identifiers.",
        "neighbour_count": "Identifiers that it was ever seen with.",
        "is_over_shared": "Whether they are more than the settings allow: then it links nobody.",
    },
    "edges": {
        "node_a": "One identifier: identity.nodes.node_id, the smaller of the two.",
        "node_b": "The other.",
        "evidence_kind": "`<type>-<type>` in alphabetical order: both stood in one event. operator_merge: somebody said so. probable: estimated.",
        "first_seen_at": "Instant of the first event that shows it, UTC.",
        "last_seen_at": "Instant of the last, UTC.",
        "event_count": "Events that show it.",
        "first_event_id": "event_id of the first of them.",
        "last_event_id": "event_id of the last of them.",
        "probability": "How sure this kind of evidence is, 0 to 1 (waymark/identity/probabilities.py).",
        "estimation_version": "Version of the estimate that gave the probability; 0: a stated one.",
    },
    "negative_edges": {
        "node_a": "One identifier: identity.nodes.node_id, the smaller of the two.",
        "node_b": "The other.",
        "kind": "two_logins_in_one_session, order_conflict or operator_split.",
        "since": "From when that holds, UTC.",
        "until": "Until when, UTC; NULL for ever.",
        "source_event_id": "event_id of the event that says so.",
    },
    "memberships": {"node_id": _NODE, "customer_id": "The customer that it belongs to now."},
    "membership_history": {
        "node_id": _NODE,
        "customer_id": "The person, as known in this interval.",
        "valid_from": "After this instant, UTC.",
        "valid_to": "Up to this instant, UTC; NULL: to this day.",
        "method": "By what it is theirs: own, deterministic, operator or probabilistic (marts.dim_identity_clusters).",
        "confidence": "Product of the links' probabilities along the surest way from the person's earliest identifier; 1 for that one.",
        "weakest_estimated_link": "The weakest estimated link between it and the person's earliest account, or else identifier: probability; NULL: none.",
    },
    "restatements": {
        "run_number": "Counts the runs that changed somebody, from 1.",
        "data_now": "The run's clock, UTC.",
        "customer_before": "Whose the identifiers were.",
        "customer_after": "Whose they are since; NULL: nobody's, because shared by too many.",
        "why": "The first that holds: operator_split, operator_merge, guard_crossing, withdrawn_event, negative_evidence, probable_link, late_login.",
        "identifier_count": "Identifiers that went.",
        "rows_by_table": "JSON: rows by table that were customer_before's and became customer_after's.",
    },
    "restated_session_keys": {"session_key_id": "The session key.", "restate_from": "From when its sessions are computed again, UTC."},
    "restated_events": {"event_id": "The event."},
    "restated_placements": {"event_id": "The event.", "occurred_at": "An instant under which a table may hold it, UTC."},
    "restated_customers": {"customer_id": _CUSTOMER},
    "over_shared_since": {"node_id": _NODE, "over_shared_from": "When it got one neighbour too many, UTC."},
    "finished_clock": {"data_now": "The clock of the last finished run, UTC."},
    "restated_nodes": {"node_id": _NODE},
    "restated_feature_customers": {"customer_id": _CUSTOMER},
    "restated_orders": {"order_id": "The order, with the namespace of its source."},
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
    identity_tables = [
        {"name": name, "description": text, "columns": [{"name": column, "description": told} for column, told in IDENTITY_COLUMNS[name].items()]}
        for name, text in (IDENTITY_TABLES | IDENTITY_LOGS | RESTATEMENT_TABLES).items()
    ]
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
