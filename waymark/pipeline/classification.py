"""The class of every column (waymark.privacy.classes): read from the yml beside each model, and declared here for tables that no model makes.

Each column is named; there is no default that a new one could hide behind. Decision: a list of columns a class, in the model's `meta.classes`. Context: most of
five hundred columns are counts. Consequence: four lines a model say all; a column that stands in none of them fails a test, and no role's file is made with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waymark.core.errors import AuditError, SettingsError
from waymark.core.shipped import shipped
from waymark.privacy.classes import CLASSES, ColumnClass

# Tables that code writes, not dbt. Those of schema identity are not published.
OF_TABLES: dict[str, dict[ColumnClass, str]] = {
    "marts.fct_propensity_scores": {
        "pseudonymous": "customer_id",
        "internal": "as_of_at score score_low score_high decile model_version reasons",
    },
    "quality.check_results": {
        "internal": "run_id checked_at stage suite table_name rule meaning status is_blocking failing_count scope seconds",
        "pseudonymous": "failing_keys",
    },
    "raw.ingestion_log": {
        "internal": "file_id source file file_digest file_bytes file_mtime_ns mapping_digest status rows_read rows_accepted rows_duplicate rows_conflict"
        " rows_quarantined columns_missing columns_renamed note error batch_id ingested_at last_occurred_at last_received_at",
    },
    "raw.removals": {"internal": "removal_id source file_id event_type rows_removed reason older_than last_received_at removed_at", "public": "data_now"},
    "main.snapshot_info": {
        "public": "snapshot_id published_at data_now waymark_version settings_digest",
        "internal": "run_id secret_fingerprint",
    },
    "identity.nodes": {
        "pseudonymous": "node_customer_id",
        "personal": "node_id identifier_value",
        "internal": "identifier_type first_seen_at last_seen_at neighbour_count is_over_shared",
    },
    "identity.edges": {
        "pseudonymous": "first_event_id last_event_id",
        "personal": "node_a node_b",
        "internal": "evidence_kind first_seen_at last_seen_at event_count probability estimation_version",
    },
    "identity.negative_edges": {"internal": "kind since until", "personal": "node_a node_b source_event_id"},
    "identity.memberships": {"pseudonymous": "customer_id", "personal": "node_id"},
    "identity.membership_history": {
        "pseudonymous": "customer_id",
        "personal": "node_id",
        "internal": "valid_from valid_to method confidence weakest_estimated_link",
    },
    "identity.restatements": {
        "pseudonymous": "customer_before customer_after",
        "public": "data_now",
        "internal": "run_number why identifier_count rows_by_table",
    },
    "identity.restated_session_keys": {"personal": "session_key_id", "internal": "restate_from"},
    "identity.restated_events": {"pseudonymous": "event_id"},
    "identity.restated_placements": {"pseudonymous": "event_id", "internal": "occurred_at"},
    "identity.restated_customers": {"pseudonymous": "customer_id"},
    "identity.over_shared_since": {"personal": "node_id", "internal": "over_shared_from"},
    "identity.finished_clock": {"public": "data_now"},
    "identity.restated_nodes": {"personal": "node_id"},
    "identity.restated_feature_customers": {"pseudonymous": "customer_id"},
    "identity.restated_orders": {"personal": "order_id"},
}


def column_classes() -> dict[str, dict[str, ColumnClass]]:
    """schema.table -> column -> class, of every model and of the tables that code writes.

    Raises SettingsError for a class that is none, and for a column that stands in two.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root = shipped("dbt") / "models"
    found = {table: _by_column(table, {kind: names.split() for kind, names in classes.items()}) for table, classes in OF_TABLES.items()}
    for path in sorted(root.rglob("*.yml")):
        for model in yaml.load(path.read_text(encoding="utf-8"), Loader=loader).get("models", []):
            table = f"{path.relative_to(root).parts[0]}.{model['name']}"
            found[table] = _by_column(table, _declared(model))
    return found


def _declared(model: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    declared: Mapping[str, Sequence[str]] = model.get("config", {}).get("meta", {}).get("classes", {})
    return declared


def _by_column(table: str, classes: Mapping[Any, Sequence[str]]) -> dict[str, ColumnClass]:
    found: dict[str, ColumnClass] = {}
    for kind, columns in classes.items():
        if kind not in CLASSES:
            raise SettingsError(f"'{kind}' is no class of columns", where=table, remedy=f"One of: {', '.join(CLASSES)}.")
        for column in columns:
            if column in found:
                raise SettingsError(f"the column {column} stands in two classes", where=table, remedy="Leave it in the one that tells more.")
            found[column] = kind
    return found


def class_of(classes: Mapping[str, Mapping[str, ColumnClass]], table: str, column: str) -> ColumnClass:
    """The class of a column; raises AuditError where it has none: what nobody classified is shown to nobody."""
    try:
        return classes[table][column]
    except KeyError:
        raise AuditError(
            f"the column {column} has no class", where=table, remedy="Name it in meta.classes of the model's yml (docs/access.md). Nothing was published."
        ) from None
