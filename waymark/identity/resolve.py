"""Deterministic identity resolution: one transaction from counted events to customers, their history, and what must be re-stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from waymark.core.errors import WaymarkError
from waymark.core.settings import Settings
from waymark.core.warehouse import Connection, rows
from waymark.identity.changes import CustomerChange, changes_of_last_run, log_changes, restated_rows
from waymark.identity.clusters import JoinRules, find_affected, rebuild_memberships, restate_memberships
from waymark.identity.customer_id import pad_parameters
from waymark.identity.evidence import merge_evidence, read_pending, rebuild_evidence
from waymark.identity.linkage.links import MOVED, SEEN
from waymark.identity.negatives import merge_negatives, rebuild_negatives
from waymark.identity.probable import RETOLD, Link, merge_probable, rebuild_probable
from waymark.identity.report import IdentityReport, counts, customer_count
from waymark.identity.restatement import add_restatements
from waymark.identity.tables import drop_temporary, prepare_identity, replace_identity
from waymark.identity.words import Word, read_words

Progress = Callable[[str], None]

_FULL_INPUTS = ("intermediate.int_events",)
_INCREMENT_INPUTS = (*_FULL_INPUTS, "staging.stg_pending_events", "raw.event_conflicts", "intermediate.int_events_sessionized", "marts.fct_sessions")
_TEMPORARY = (
    *("node_evidence", "pair_evidence", "degrees", "pending_instants", "pending_now", "pending_before", "pending_counted", "withdrawn_events"),
    *("withdrawn_nodes", "withdrawn_pairs", "witnesses", "node_updates", "edge_updates", "relinked_nodes", "relinked_edges", "seed_nodes", "affected_nodes"),
    *("fresh_clusters", "fresh_history", "stale_history", "changed_nodes", "changed_history", "changed_memberships", "changed_node_events"),
    *("operator_words", "word_spells", "judged_keys", "judged_orders", "shared_keys", "negatives_before", "links_before", "changed_negatives", "changed_words"),
    *("stale_clusters", "moved_nodes", "moved_events", "changes_of_customers", MOVED, SEEN, RETOLD),
    *("run_orders", "order_events", "moved_conversions", "run_events", "run_session_keys", "all_session_keys", "active_nodes"),
)


def resolve_identities(
    connection: Connection, *, settings: Settings, customer_id_pads: tuple[bytes, bytes], full_refresh: bool, link: Link | None = None,
    progress: Progress | None = None,
) -> IdentityReport:
    """Brings schema `identity` up to date with `intermediate.int_events`, in one transaction; repeating it changes nothing.

    customer_id_pads: (inner, outer) padded key blocks of HMAC-SHA-256, 64 bytes each. full_refresh: rebuild from all events and empty the restated
    tables; else use the pending events alone and add to the restated tables. link: brings probable links up to date, where any are
    estimated. progress: called with a sentence before each step.
    Raises WaymarkError where an input table is missing, SecretError where the pads are not key blocks.
    """
    started = monotonic()
    pads = pad_parameters(customer_id_pads)
    rules = _rules(settings)
    _require(connection, _FULL_INPUTS if full_refresh else _INCREMENT_INPUTS)
    connection.begin()
    try:
        changed = _rebuild(connection, rules, pads, link, progress) if full_refresh else _increment(connection, rules, pads, link, progress)
        report = IdentityReport(*counts(connection), changed_clusters=changed, full_refresh=full_refresh, seconds=monotonic() - started)
        drop_temporary(connection, _TEMPORARY)
        connection.commit()
    except BaseException:
        # An error that closed the transaction already must not hide behind a failed rollback.
        with suppress(Exception):
            connection.rollback()
        raise
    return replace(report, seconds=monotonic() - started)


@dataclass(frozen=True)
class _Rules:
    """limit: neighbours of an identifier; gap_us: a longer gap ends a session."""

    limit: int
    gap_us: int
    joins: JoinRules


def _rules(settings: Settings) -> _Rules:
    identity = settings.identity
    return _Rules(identity.max_neighbours, settings.time.session_gap_minutes * 60_000_000, JoinRules(identity.thresholds.analysis, identity.one_account))


def preview_words(
    connection: Connection, words: Sequence[Word], *, settings: Settings, customer_id_pads: tuple[bytes, bytes], link: Link | None = None
) -> tuple[list[CustomerChange], dict[str, int]]:
    """What the next run will do if these words are said: changes of customers, and standing rows by table that it will state again.

    It is the run's own step, taken back, so it cannot differ from what the run does; what is pending beside the words would be in it, too. Leaves everything
    as it was. Raises as `resolve_identities` does.
    """
    _require(connection, _INCREMENT_INPUTS)
    connection.begin()
    try:
        _increment(connection, _rules(settings), pad_parameters(customer_id_pads), link, None, and_also=words)
        return changes_of_last_run(connection), restated_rows(connection)
    finally:
        connection.rollback()


def _rebuild(connection: Connection, rules: _Rules, pads: dict[str, object], link: Link | None, progress: Progress | None) -> int:
    _tell(progress, "identity: links from all events")
    replace_identity(connection)
    rebuild_evidence(connection, limit=rules.limit, pads=pads)
    read_words(connection)
    rebuild_negatives(connection, gap_us=rules.gap_us)
    rebuild_probable(connection, link, threshold=rules.joins.threshold)
    drop_temporary(connection, ("node_evidence", "pair_evidence", "degrees"))
    _tell(progress, "identity: customers")
    rebuild_memberships(connection, rules.joins)
    return customer_count(connection)


def _increment(
    connection: Connection, rules: _Rules, pads: dict[str, object], link: Link | None, progress: Progress | None, *, and_also: Sequence[Word] = ()
) -> int:
    _tell(progress, "identity: links from pending events")
    prepare_identity(connection)
    read_pending(connection)
    merge_evidence(connection, limit=rules.limit, pads=pads)
    read_words(connection, and_also=and_also)
    merge_negatives(connection, gap_us=rules.gap_us)
    merge_probable(connection, link, threshold=rules.joins.threshold)
    _tell(progress, "identity: customers whose links changed")
    find_affected(connection)
    restate_memberships(connection, rules.joins)
    _tell(progress, "identity: what must be re-stated")
    add_restatements(connection)
    log_changes(connection)
    (changed,) = rows(
        connection,
        """
        select count(*) from (select customer_before as customer_id from temp.changed_memberships union select customer_now from temp.changed_memberships)
        where customer_id is not null
        """,
    )
    return int(str(changed[0]))


def _require(connection: Connection, relations: tuple[str, ...]) -> None:
    found = rows(connection, "select table_schema, table_name from information_schema.tables")
    known = {f"{schema}.{name}" for schema, name in found}
    for relation in relations:
        if relation not in known:
            raise WaymarkError(
                "identity cannot be resolved: the table does not exist",
                where=relation,
                remedy="Run the models that come before it; after an interrupted first run use --full-refresh.",
            )


def _tell(progress: Progress | None, sentence: str) -> None:
    if progress:
        progress(sentence)
