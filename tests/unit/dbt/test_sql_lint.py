"""House rules of the models' SQL, read from the text: determinism, portability, layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from waymark.core.warehouse import connect, rows
from waymark.identity import prepare_identity
from waymark.identity.changes import REASONS, RESTATED
from waymark.pipeline.dbt_sources import IDENTITY_COLUMNS, IDENTITY_LOGS, IDENTITY_TABLES, RESTATEMENT_TABLES, sources_document
from waymark.pipeline.kept_digests import STORED_AS
from waymark.pipeline.publish import COMPUTED, LOG_TABLES

DBT = Path(__file__).resolve().parents[3] / "dbt"
MODELS = sorted((DBT / "models").rglob("*.sql"))
MACROS = sorted((DBT / "macros").rglob("*.sql"))
ENGINE = DBT / "macros" / "engine"
# What depends on threads, on the clock or on the session; what another engine answers otherwise (concat with NULL); estimates.
BANNED = re.compile(
    r"(?<![\w.])(first|last|any_value|arbitrary|mode|hash|random|uuid|gen_random_uuid|setseed|nextval|now|today|get_current_timestamp|version|current_setting"
    r"|getvariable|concat|concat_ws|avg|reservoir_quantile|approx_\w+)\s*\("
    r"|\bcurrent_(date|time|timestamp)\b|\browid\b|\busing sample\b|\btablesample\b|\bdistinct on\b",
    re.I,
)
UNORDERED_LIST = re.compile(r"(?<![\w.])(list|array_agg|string_agg|group_concat)\s*\((?![^()]*\border by\b)", re.I)
ENGINE_ONLY = re.compile(
    r"::|\b(date_diff|datediff|date_sub|epoch_us|epoch_ms|list_transform|list_filter|list_concat|list_extract|list_contains|lambda|unnest|generate_subscripts|md5_number\w*|regexp_matches|array_to_string|strptime|struct_pack)\b"
    r"|\bexclude\s*\(|\bgroup by all\b|\border by all\b|\bis_nan\b|\bread_\w+\(",
    re.I,
)
BARE_SUM = re.compile(r"(?<!cast\()\bsum\s*\(", re.I)
RANKING = re.compile(r"\b(row_number|rank|dense_rank|percent_rank|cume_dist|ntile|lag|lead|first_value|last_value|nth_value)\s*\(", re.I)
MONEY = re.compile(r"\bas ((?:\w+_)?value(?:_reporting)?|\w+_amount(?:_\w+)?)\b", re.I)
MONEY_TYPE = re.compile(r"as (decimal\(18, 4\)|double)\)", re.I)
RELATION = re.compile(r"\b(?:from|join)\s+(raw|identity|staging|intermediate|marts|features|quality)\.\w+", re.I)
REFERENCE = re.compile(r"""\bref\(\s*['"](\w+)['"](?:\s*,\s*['"](\w+)['"])?""")
SOURCE = re.compile(r"""\bsource\(\s*['"](\w+)['"]""")
# A layer reads its own and those below it.
MAY_READ = {"staging": (), "intermediate": ("stg_", "int_"), "marts": ("int_", "fct_", "dim_"), "features": ("int_", "label_")}
MAY_READ_SOURCES = {"staging": {"raw"}, "intermediate": {"identity"}, "marts": {"identity"}, "features": {"identity"}}
TYPES = {
    r"(^|_)(value|amount)(_|$)": {"decimal(18,4)"}, r"_mean$|_weight$|_share(_|$)|_per_|^hours_|_days$": {"double", "integer"},
    r"_count(_|$)|_rank(_|$)": {"integer", "bigint"}, r"^(is|has)_": {"boolean"}, r"_at$": {"timestamp"}, r"_date$": {"date"}, r"_seconds$": {"bigint"},
    r"^mean_.*_amount": {"double"},
}  # fmt: skip


def _sql(path: Path) -> str:
    """A file's SQL without comments, and without what only Jinja reads."""
    text = re.sub(r"\{#.*?#\}", " ", path.read_text(), flags=re.S)
    return re.sub(r"--[^\n]*", " ", text)


def _orders(sql: str) -> list[str]:
    """The items of every ORDER BY: from the words to the frame, or the bracket that closes it."""
    items = []
    for match in re.finditer(r"\border by\b", sql, re.I):
        rest, depth, end = sql[match.end() :], 0, None
        for place, sign in enumerate(rest):
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if depth < 0 or (depth == 0 and re.match(r"\s(rows|range|limit)\s", rest[place : place + 8], re.I)):
                end = place
                break
        part, depth, item = rest[:end], 0, ""
        for sign in part + ",":
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if sign == "," and depth == 0:
                items.append(item.strip())
                item = ""
            else:
                item += sign
    return items


# Digests are of rows as this engine stores and hashes them, and are kept with its version; no model's rows depend on them.
DIGESTS = ENGINE / "kept_digests.sql"


@pytest.mark.parametrize("path", MODELS + [path for path in MACROS if path != DIGESTS], ids=lambda path: path.stem)
def test_nothing_in_a_model_depends_on_threads_or_on_the_clock(path: Path) -> None:
    sql = _sql(path)
    assert not BANNED.search(sql), BANNED.search(sql)
    assert not UNORDERED_LIST.search(re.sub(r"\{%.*?%\}", " ", sql, flags=re.S)), path.name


@pytest.mark.parametrize("path", MODELS + MACROS, ids=lambda path: path.stem)
def test_every_order_says_where_nulls_stand(path: Path) -> None:
    for item in _orders(_sql(path)):
        assert re.search(r"\bnulls (first|last)\b", item, re.I), f"{path.name}: order by {item}"


@pytest.mark.parametrize("path", MODELS + [path for path in MACROS if ENGINE not in path.parents], ids=lambda path: path.stem)
def test_engine_specific_sql_stands_in_engine_macros_alone(path: Path) -> None:
    found = ENGINE_ONLY.search(_sql(path))
    assert not found, f"{path.name}: {found and found.group(0)}"


def _close(text: str, opened: int) -> int:
    """The place of the bracket that closes the one at `opened`."""
    depth = 0
    for place in range(opened, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError(f"a bracket that nothing closes: {text[opened : opened + 60]}")


def _unordered_windows(sql: str) -> Iterator[str]:
    """Functions that depend on an order, over windows that state none."""
    for match in RANKING.finditer(sql):
        after = _close(sql, match.end() - 1) + 1
        over = re.match(r"\s*(?:ignore nulls\s*)?over(?:\s+(\w+)|\s*\()", sql[after:], re.I)
        if not over:
            yield match.group(0)
            continue
        if over.group(1):
            named = re.search(rf"\b{over.group(1)} as \(", sql, re.I)
            body = sql[named.end() : _close(sql, named.end() - 1)] if named else ""
        else:
            body = sql[after + over.end() : _close(sql, after + over.end() - 1)]
        if not re.search(r"\border by\b", body, re.I):
            yield match.group(0)


def _bad_ratios(sql: str) -> Iterator[str]:
    """Divisions of what is not a double, or by what may be zero; a line holds one expression."""
    for line in re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "''", sql).splitlines():
        for match in re.finditer(r"(?<![/{])/(?!/)", line):
            is_never_zero = re.match(r"\s*(nullif\(|cast\(\d*[1-9]\d* as double\)|\d*[1-9]\d*\.\d+)", line[match.end() :], re.I)
            if not is_never_zero or not re.search(r"as double\)|\d\.\d", line, re.I):
                yield line.strip()


def _uncast_money(sql: str) -> Iterator[str]:
    """Money that is computed and not cast. A column that is only named anew has its type already."""
    for match in MONEY.finditer(sql):
        start, depth = match.start(), 0
        while start > 0 and not (depth == 0 and (sql[start - 1] == "," or re.match(r"select\b", sql[start:], re.I))):
            start -= 1
            depth += {")": 1, "(": -1}.get(sql[start], 0)
            if depth < 0:
                break
        expression = re.sub(r"^select\s+|^\(", "", sql[start : match.start()].strip(), flags=re.I).strip()
        if not re.fullmatch(r"[\w.]+", expression) and not MONEY_TYPE.search(expression):
            yield f"{expression} {match.group(0)}"


def _reads_above(layer: str, sql: str) -> set[str]:
    """What a model of this layer may not read: models of layers above it, sources of others, and whatever goes by without ref and source."""
    models = {second or first for first, second in REFERENCE.findall(sql)}
    sources = set(SOURCE.findall(sql)) - MAY_READ_SOURCES[layer]
    return {name for name in models if not name.startswith(MAY_READ[layer])} | sources | {match.group(0) for match in RELATION.finditer(sql)}


@pytest.mark.parametrize("path", MODELS + [path for path in MACROS if ENGINE not in path.parents], ids=lambda path: path.stem)
def test_every_sum_is_cast(path: Path) -> None:
    assert not BARE_SUM.search(_sql(path)), path.name


@pytest.mark.parametrize("path", MODELS + MACROS, ids=lambda path: path.stem)
def test_every_window_that_ranks_states_its_order(path: Path) -> None:
    assert list(_unordered_windows(_sql(path))) == []


@pytest.mark.parametrize("path", MODELS + MACROS, ids=lambda path: path.stem)
def test_every_ratio_is_of_doubles_and_by_no_zero(path: Path) -> None:
    assert list(_bad_ratios(_sql(path))) == []


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_money_that_is_computed_is_cast(path: Path) -> None:
    assert list(_uncast_money(_sql(path))) == []


@pytest.mark.parametrize("path", [path for path in MODELS if path.relative_to(DBT / "models").parts[0] in ("marts", "features")], ids=lambda path: path.stem)
def test_a_columns_name_says_its_type(path: Path) -> None:
    (model,) = yaml.safe_load(path.with_suffix(".yml").read_text())["models"]
    for column in model["columns"]:
        rules = [types for pattern, types in TYPES.items() if re.search(pattern, column["name"])]
        assert not rules or any(column["data_type"] in types for types in rules), f"{column['name']}: {column['data_type']}"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_layers_read_downward_and_the_last_line_selects_the_last_step(path: Path) -> None:
    assert _reads_above(path.relative_to(DBT / "models").parts[0], _sql(path)) == set()
    assert re.fullmatch(r"select \* from \w+", path.read_text().rstrip().splitlines()[-1])


def test_exposures_name_what_is_published() -> None:
    found = [exposure for path in (DBT / "models").rglob("*.yml") for exposure in yaml.safe_load(path.read_text()).get("exposures", [])]
    published = {path.stem for path in MODELS if path.relative_to(DBT / "models").parts[0] in ("marts", "features")}
    named = {exposure["name"]: {name for text in exposure["depends_on"] for name, _ in REFERENCE.findall(text)} for exposure in found}
    assert set().union(*named.values()) == published, "every published model is somebody's, and nothing inside the warehouse is"
    assert all(exposure["description"] and exposure["owner"]["name"] and exposure["label"] for exposure in found)
    assert {"published_snapshot", "propensity_scores"} <= set(named)


def _is_view_of_one_table(path: Path) -> bool:
    """Its rows are another model's, whose key is tested there: nothing joins, groups, or is stored."""
    sql = _sql(path)
    return len(REFERENCE.findall(sql)) == 1 and not re.search(r"restate|\bjoin\b|\bgroup by\b|\bunion\b|\bunnest\b", sql)


def _is_view_by_its_key(path: Path) -> bool:
    """Its last step groups by what tells its rows apart, so no test of that could fail."""
    last = re.search(r"group by [\w, ]+(\s+having [^)]*\) >= [^)]*)?\s*\)\s+select \* from \w+\s*$", _sql(path))
    return "materialized='view'" in path.read_text() and bool(last)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_states_grain_kind_owner_and_how_it_is_restated(path: Path) -> None:
    document = yaml.safe_load(path.with_suffix(".yml").read_text())
    (model,) = [model for model in document["models"] if model["name"] == path.stem]
    meta = model["config"]["meta"]
    assert re.match(r"One row per ", model["description"]) and meta["kind"] in ("pure", "log") and meta["owner"]
    assert all(column["description"] for column in model["columns"])
    assert ("restate" in path.read_text().split("with ", 1)[0]) == bool(meta.get("restated_by"))
    if path.relative_to(DBT / "models").parts[0] != "staging":
        tested = {name if isinstance(name, str) else next(iter(name)) for part in (model, *model["columns"]) for name in part.get("data_tests", [])}
        assert "unique_key" in tested or {"unique", "not_null"} <= tested or _is_view_of_one_table(path) or _is_view_by_its_key(path)
        assert document.get("unit_tests")


def test_the_digest_of_every_mart_that_is_no_log_is_kept_by_its_increments() -> None:
    """A table that is made anew by another materialization would leave the digest of what stood before it."""
    logs, stored = {"marts.fct_propensity_scores"}, dict[str, str]()
    for path in sorted((DBT / "models" / "marts").glob("*.sql")):
        (model,) = [model for model in yaml.safe_load(path.with_suffix(".yml").read_text())["models"] if model["name"] == path.stem]
        name, sql = f"marts.{path.stem}", path.read_text()
        if model["config"]["meta"]["kind"] == "log":
            logs.add(name)
        elif "incremental_strategy='restate'" not in sql and name not in COMPUTED:
            assert "materialized='view'" in sql and _is_view_of_one_table(path)
            stored[name] = f"intermediate.{REFERENCE.findall(sql)[0][0]}"
    assert logs == set(LOG_TABLES)
    assert stored == STORED_AS
    for table in STORED_AS.values():
        (path,) = (DBT / "models").rglob(f"{table.split('.')[1]}.sql")
        assert "incremental_strategy='restate'" in path.read_text()


def test_the_shipped_sources_are_what_the_generator_writes() -> None:
    assert yaml.safe_load((DBT / "models" / "staging" / "_sources.yml").read_text()) == sources_document(["waymark_world"])


def test_every_column_of_identity_that_is_shown_is_described() -> None:
    with connect() as connection:
        prepare_identity(connection)
        columns: dict[str, set[str]] = {}
        for table, column in rows(connection, "select table_name, column_name from duckdb_columns() where schema_name = 'identity' order by all"):
            columns.setdefault(str(table), set()).add(str(column))
    assert {table: set(described) for table, described in IDENTITY_COLUMNS.items()} == {table: columns[table] for table in IDENTITY_COLUMNS}
    assert set(IDENTITY_COLUMNS) == set(IDENTITY_TABLES | IDENTITY_LOGS | RESTATEMENT_TABLES)


def test_a_source_brings_two_tables_and_no_jinja() -> None:
    document = sources_document(["shop", "till"])
    raw, identity = document["sources"]
    assert [table["name"] for table in raw["tables"]][:4] == ["shop_events", "shop_pending", "till_events", "till_pending"]
    assert {"memberships", "restated_session_keys"} <= {table["name"] for table in identity["tables"]}
    assert "{{" not in yaml.safe_dump(document)


def test_dbt_finds_no_python_at_its_root() -> None:
    assert not list(DBT.glob("*.py")), "a module here would shadow dbt-core's own package"


@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("select first(x) from t", BANNED),
        ("select list(x) from t", UNORDERED_LIST),
        ("select sum(x) from t", BARE_SUM),
        ("select x::integer from t", ENGINE_ONLY),
        ("select current_timestamp", BANNED),
        ("select concat(a, b) from t", BANNED),
        ("select avg(x) from t", BANNED),
        ("select approx_count_distinct(x) from t", BANNED),
        ("select distinct on (a) b from t", BANNED),
        ("select * from t using sample 5", BANNED),
    ],
)
def test_the_rules_catch_what_they_are_for(sql: str, broken: re.Pattern[str]) -> None:
    assert broken.search(sql)
    assert _orders("select row_number() over (partition by a order by b, c desc rows unbounded preceding) from t") == ["b", "c desc"]


@pytest.mark.parametrize(
    ("sql", "is_good"),
    [
        ("select row_number() over (partition by a) from t", False),
        ("select row_number() over (partition by a order by (b + 1)) from t", True),
        ("select lag(x, f(1)) over w from t window w as (partition by a)", False),
        ("select lag(x) ignore nulls over w from t window w as (partition by a order by b)", True),
        ("select lag(x) over v from t window w as (order by b)", False),
    ],
)
def test_windows_without_order_are_caught(sql: str, is_good: bool) -> None:
    assert (list(_unordered_windows(sql)) == []) == is_good


@pytest.mark.parametrize(
    ("sql", "is_good"),
    [
        ("a / b as share", False),
        ("a / nullif(b, 0) as share", False),
        ("cast(a as double) / b as share", False),
        ("cast(a as double) / nullif(b, 0) as share", True),
        ("us / cast(3600000000 as double) / nullif(n, 0) as hours", True),
        ("us / cast(0 as double) as hours", False),
        ("'a/b' as path", True),
    ],
)
def test_ratios_of_whole_numbers_and_by_zero_are_caught(sql: str, is_good: bool) -> None:
    assert (list(_bad_ratios(sql)) == []) == is_good


@pytest.mark.parametrize(
    ("sql", "is_good"),
    [
        ("select t.value as value_reporting from t", True),
        ("select a, t.value * f(t.rate, 2) as value_reporting from t", False),
        ("select cast(t.value * t.rate as decimal(18, 4)) as value_reporting from t", True),
        ("select coalesce(a, 0) as revenue_amount from t", False),
        ("select x, (select max(v) as order_value from u) from t", False),
        ("select cast(x as decimal(18, 2)) as refund_amount_90d from t", False),
    ],
)
def test_money_that_is_not_cast_is_caught(sql: str, is_good: bool) -> None:
    assert (list(_uncast_money(sql)) == []) == is_good


@pytest.mark.parametrize(
    ("layer", "sql", "found"),
    [
        ("marts", "{{ ref('stg_events') }}", {"stg_events"}),
        ("features", "{{ ref('fct_events') }}", {"fct_events"}),
        ("intermediate", '{{ ref("waymark", "dim_customers") }}', {"dim_customers"}),
        ("intermediate", "{{ source('raw', 'shop_events') }}", {"raw"}),
        ("marts", "from intermediate.int_events", {"from intermediate.int_events"}),
        ("marts", "{{ ref('int_events') }} join {{ ref('fct_sessions') }} {{ source('identity', 'nodes') }}", set()),
    ],
)
def test_reads_against_the_layers_are_caught(layer: str, sql: str, found: set[str]) -> None:
    assert _reads_above(layer, sql) == found


# Of a model's scopes, those that follow from who is who, by the table that names them; the others follow from time, or from pending events, alone.
IDENTITY_SCOPES = {
    "placements": "restated_placements", "first_placements": "restated_placements", "session_keys": "restated_session_keys", "customers": "restated_customers",
    "nodes": "restated_nodes", "feature_customers": "restated_feature_customers", "events": "restated_events", "orders": "restated_orders",
}  # fmt: skip


def test_what_a_word_is_announced_to_restate_is_counted_by_the_models_own_scopes() -> None:
    named = {}
    for path in (DBT / "models").rglob("*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", []):
            scopes = model.get("config", {}).get("meta", {}).get("restated_by", [])
            if tables := {IDENTITY_SCOPES[scope] for scope in scopes if scope in IDENTITY_SCOPES}:
                named[f"{path.relative_to(DBT / 'models').parts[0]}.{model['name']}"] = tables
    assert {table: set(re.findall(r"identity\.(restated_\w+)", condition)) for table, condition in RESTATED.items()} == named


def test_every_reason_why_a_customer_changed_passes_the_models_test_and_is_described() -> None:
    (model,) = yaml.safe_load((DBT / "models" / "marts" / "fct_identity_restatements.yml").read_text())["models"]
    (column,) = [column for column in model["columns"] if column["name"] == "why"]
    (test,) = column["data_tests"]
    assert sorted(test["accepted_values"]["arguments"]["values"]) == sorted(REASONS)
    assert [reason for reason in REASONS if reason not in column["description"]] == []
