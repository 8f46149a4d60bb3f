"""What is worth looking at in a table that was made: its rows, a few aggregates, and events a day as a chart. Never a row, never an identifier."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, TypeGuard

import dagster as dg

from dagster_project.lib.plots import bars_markdown
from waymark.core.warehouse import Connection, QueryError, rows
from waymark.pipeline.dbt_sources import IDENTITY_COLUMNS
from waymark.pipeline.steps import Run

# By table: what the columns of its preview are called, and the aggregate (at most a dozen rows).
_PREVIEWS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "raw.ingestion_log": (
        ("source", "status", "files", "rows read", "accepted", "duplicate", "quarantined"),
        "select source, status, count(*), sum(rows_read), sum(rows_accepted), sum(rows_duplicate), sum(rows_quarantined) from {t} group by all order by all",
    ),
    "raw.event_conflicts": (("source", "event ids with several contents"), "select source, count(distinct event_id) from {t} group by all order by all"),
    "raw.run_clock": (("data_now",), "select data_now from {t}"),
    "identity.finished_clock": (("data_now of the last finished run",), "select data_now from {t}"),
    "identity.nodes": (
        ("identifier type", "identifiers", "over-shared"),
        "select identifier_type, count(*), count_if(is_over_shared) from {t} group by all order by 2 desc, 1",
    ),
    "identity.edges": (
        ("evidence", "links", "events", "probability"),
        "select evidence_kind, count(*), sum(event_count), min(probability) from {t} group by all order by 2 desc, 1",
    ),
    "identity.negative_edges": (("evidence", "pairs kept apart"), "select kind, count(*) from {t} group by all order by 2 desc, 1"),
    "identity.restatements": (
        ("why", "changes of customers", "identifiers"), "select why, count(*), sum(identifier_count) from {t} group by all order by 2 desc, 1",
    ),
    "identity.memberships": (
        ("identifiers of a customer", "customers"),
        "select case when size >= 6 then '6 and more' else size::varchar end as sized, count(*) from (select count(*) as size from {t} group by customer_id) "
        "group by sized order by sized",
    ),
    "intermediate.int_events": (
        ("stage", "events", "by bots", "by staff"),
        "select coalesce(stage, 'none'), count(*), count_if(is_bot), count_if(is_internal) from {t} group by all order by 2 desc, 1",
    ),
    "intermediate.int_conversions_deduplicated": (
        ("goal", "conversions", "reported more than once"), "select goal, count(*), count_if(report_count > 1) from {t} group by all order by all",
    ),
    "intermediate.int_customer_activity": (("points", "first", "last"), "select count(distinct as_of_at), min(as_of_at), max(as_of_at) from {t}"),
    "features.label_conversion": (
        ("labelled points", "converted", "share"), "select count(*), count_if(is_converted), round(avg(is_converted::integer), 4) from {t}",
    ),
    "marts.fct_events": (("event type", "events"), "select event_type, count(*) from {t} group by all order by 2 desc, 1 limit 12"),
    "marts.fct_sessions": (
        ("channel", "sessions", "engaged", "with a conversion"),
        "select coalesce(channel, 'none'), count(*), count_if(is_engaged), count_if(conversion_count > 0) from {t} group by all order by 2 desc, 1 limit 12",
    ),
    "marts.fct_touchpoints": (("channel", "touchpoints"), "select coalesce(channel, 'none'), count(*) from {t} group by all order by 2 desc, 1 limit 12"),
    "marts.fct_journeys": (
        ("goal", "status", "journeys", "value", "touches, mean"),
        "select goal, status, count(*), sum(conversion_value), round(avg(touch_count), 2) from {t} group by all order by 1, 3 desc, 2",
    ),
    "marts.fct_journey_steps": (
        ("stage", "steps", "back from a later one"),
        "select coalesce(stage, 'none'), count(*), count_if(is_jump_back) from {t} group by all order by 2 desc, 1",
    ),
    "marts.fct_conversions": (
        ("goal", "conversions", "value", "with a journey"), "select goal, count(*), sum(value_reporting), count(journey_id) from {t} group by all order by all",
    ),
    "marts.dim_consent_now": (("scope", "state", "customers now"), "select scope, state, count(*) from {t} group by all order by all"),
    "marts.fct_consent_intervals": (
        ("scope", "state", "intervals", "customers"), "select scope, state, count(*), count(distinct customer_id) from {t} group by all order by all",
    ),
    "marts.dim_customers": (
        ("customers", "with a conversion", "with several identifiers", "revenue"),
        "select count(*), count_if(conversion_count > 0), count_if(identifier_count > 1), sum(revenue_amount) from {t}",
    ),
    "marts.dim_customer_aliases": (("ids ever used", "of today's customers"), "select count(*), count(distinct customer_id) from {t}"),
    "marts.dim_identity_clusters": (
        ("by", "identifiers now", "confidence, least", "mean"),
        "select method, count(*), min(confidence), round(avg(confidence), 4) from {t} where valid_to is null group by all order by 2 desc, 1",
    ),
    "marts.fct_propensity_scores": (
        ("decile", "customers", "score, mean", "least", "greatest"),
        "select decile, count(*), round(avg(score), 4), round(min(score), 4), round(max(score), 4) from {t} group by all order by all",
    ),
}  # fmt: skip
# By table: the day of a row, for rows a day.
_DAYS: Mapping[str, str] = {
    "intermediate.int_events": "reporting_date", "intermediate.int_node_days": "cast(day_at as date)", "marts.fct_events": "reporting_date",
    "marts.fct_sessions": "reporting_date", "marts.fct_conversions": "reporting_date", "marts.fct_journeys": "cast(started_at as date)",
    "marts.fct_touchpoints": "cast(occurred_at as date)",
    "identity.nodes": "cast(first_seen_at as date)", "identity.edges": "cast(first_seen_at as date)",
}  # fmt: skip
_TABLES = "select schema_name || '.' || table_name from duckdb_tables() where not internal"
# Views that name the columns of one stored table, less the few whom consent or the clock leaves out: counting them is about as cheap as counting it.
_PLAIN_VIEWS = frozenset({"marts.fct_events", "marts.fct_journey_steps", "marts.dim_consent_now", "features.label_conversion"})
# Columns of what dbt does not make, and of its models without a contract: their types are known once they are made.
_COLUMNS = """
    select schema_name || '.' || table_name, column_name, lower(data_type), comment from duckdb_columns()
    where not internal and (schema_name in ('raw', 'identity', 'staging', 'intermediate') or table_name = 'fct_propensity_scores')
    order by schema_name, table_name, column_index
"""
_LANDED = """
    select regexp_extract(path, 'event_date=(\\d{4}-\\d{2}-\\d{2})', 1) as day, sum(rows), sum(bytes), count(*)
    from raw.lake_files where source = ? group by day order by day
"""


def figures(run: Run, keys: Collection[dg.AssetKey]) -> dict[dg.AssetKey, dict[str, Any]]:
    """Metadata by asset, read in one connection. A table that a figure cannot be had of has none: figures never fail a run."""
    with run.open_warehouse() as connection:
        tables = {str(table) for (table,) in rows(connection, _TABLES)} | _PLAIN_VIEWS
        columns, named = _columns(connection), {key: ".".join(key.path) for key in keys}
        return {key: {**(table_figures(connection, table) if table in tables else {}), **columns.get(table, {})} for key, table in named.items()}


# Previews and charts read columns of the whole table. Of so many rows they would cost more than an increment does.
_MOST_ROWS = 20_000_000


def table_figures(connection: Connection, table: str) -> dict[str, Any]:
    """Metadata of one table. Views have none, but for the plain ones: to count their rows is to compute them."""
    if (counted := _asked(connection, f"select count(*) from {table}")) is None:
        return {}
    found: dict[str, Any] = {"dagster/row_count": counted[0][0]}
    if int(str(found["dagster/row_count"])) > _MOST_ROWS:
        return found | {"preview": f"left out, as the table has more than {_MOST_ROWS:,} rows; ask with `waymark sql`"}
    if table in _PREVIEWS:
        head, query = _PREVIEWS[table]
        if (known := _asked(connection, query.format(t=table))) is not None:
            found["preview"] = dg.MetadataValue.md(markdown_table(head, known))
    if table in _DAYS:
        day = _DAYS[table]
        known = _asked(connection, f"select {day} as day, count(*) from {table} where {day} is not null group by day order by day") or []
        if known:
            found["rows a day"] = dg.MetadataValue.md(bars_markdown("rows a day", [str(day) for day, _ in known], [float(str(count)) for _, count in known]))
    return found


def source_figures(run: Run, source: str) -> dict[str, Any]:
    """Metadata of a source's raw events, from the registry of the lake: whatever their number, no event is read."""
    with run.open_warehouse() as connection:
        days = rows(connection, _LANDED, [source])
        columns = _columns(connection).get(f"raw.{source}_events", {})
    counts = [float(str(count)) for _, count, _, _ in days]
    size, files = sum(int(str(size)) for _, _, size, _ in days), sum(int(str(number)) for *_, number in days)
    return {
        "dagster/row_count": int(sum(counts)), "dagster/size_bytes": size, "files in the lake": files,
        "events a day": dg.MetadataValue.md(bars_markdown("events a day", [str(day) for day, *_ in days], counts)), **columns,
    }  # fmt: skip


def markdown_table(head: Collection[str], lines: Collection[Collection[object]]) -> str:
    """A table in markdown, numbers to the right; nothing in it is a link or a tag."""
    if not lines:
        return "no rows"
    rules = ["---:" if all(cell is None or _is_number(cell) for cell in column) else "---" for column in zip(*lines, strict=True)]
    return "\n".join([_line(head), _line(rules), *(_line(line) for line in lines)])


def _line(cells: Collection[object]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if _is_number(value):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _is_number(value: object) -> TypeGuard[int | float | Decimal]:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _columns(connection: Connection) -> dict[str, dict[str, Any]]:
    """Dagster's column schema by table, as the warehouse has it; nothing where a view has lost what it reads."""
    found: dict[str, list[dg.TableColumn]] = {}
    for table, name, kind, comment in _asked(connection, _COLUMNS) or []:
        described = str(comment) if comment else IDENTITY_COLUMNS.get(str(table).removeprefix("identity."), {}).get(str(name))
        found.setdefault(str(table), []).append(dg.TableColumn(str(name), str(kind), described))
    return {table: {"dagster/column_schema": dg.TableSchema(columns)} for table, columns in found.items()}


def _asked(connection: Connection, query: str) -> list[tuple[object, ...]] | None:
    try:
        return rows(connection, query)
    except QueryError:
        return None
