"""House rules of the models' SQL, read from the text: determinism, portability, layers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from waymark.pipeline.dbt_sources import sources_document

DBT = Path(__file__).resolve().parents[3] / "dbt"
MODELS = sorted((DBT / "models").rglob("*.sql"))
MACROS = sorted((DBT / "macros").rglob("*.sql"))
ENGINE = DBT / "macros" / "engine"
BANNED = re.compile(r"(?<![\w.])(first|last|any_value|arbitrary|hash|random|uuid|now|today|get_current_timestamp)\s*\(|\bcurrent_(date|time|timestamp)\b", re.I)
UNORDERED_LIST = re.compile(r"(?<![\w.])(list|array_agg|string_agg|group_concat)\s*\((?![^()]*\border by\b)", re.I)
ENGINE_ONLY = re.compile(
    r"::|\b(epoch_us|epoch_ms|list_transform|list_filter|list_extract|list_contains|lambda|unnest|generate_subscripts|md5_number\w*|regexp_matches|array_to_string|strptime|struct_pack)\b"
    r"|\bexclude\s*\(|\bgroup by all\b|\border by all\b|\bis_nan\b|\bread_\w+\(",
    re.I,
)
BARE_SUM = re.compile(r"(?<!cast\()\bsum\s*\(", re.I)


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


@pytest.mark.parametrize("path", MODELS + MACROS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_sum_is_cast(path: Path) -> None:
    assert not BARE_SUM.search(_sql(path)), path.name


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_layers_read_downward_and_the_last_line_selects_the_last_step(path: Path) -> None:
    read = set(re.findall(r"ref\('(\w+)'\)", _sql(path)))
    layer = path.relative_to(DBT / "models").parts[0]
    allowed = {"staging": (), "intermediate": ("stg_", "int_"), "marts": ("int_", "fct_", "dim_"), "features": ("int_",)}[layer]
    # fct_events holds the wide columns, and only staging has them.
    above = {name for name in read if not name.startswith(allowed)} - ({"stg_events", "stg_pending_events"} if path.stem == "fct_events" else set())
    assert not above
    assert re.fullmatch(r"select \* from \w+", path.read_text().rstrip().splitlines()[-1])


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_every_model_states_grain_kind_owner_and_how_it_is_restated(path: Path) -> None:
    document = yaml.safe_load(path.with_suffix(".yml").read_text())
    (model,) = [model for model in document["models"] if model["name"] == path.stem]
    meta = model["config"]["meta"]
    assert re.match(r"One row per ", model["description"]) and meta["kind"] in ("pure", "log") and meta["owner"]
    assert all(column["description"] for column in model["columns"])
    assert ("restate" in path.read_text().split("with ", 1)[0]) == bool(meta.get("restated_by"))
    if path.relative_to(DBT / "models").parts[0] != "staging":
        tested = {name if isinstance(name, str) else next(iter(name)) for column in model["columns"] for name in column.get("data_tests", [])}
        assert {"unique", "not_null"} <= tested
        assert document.get("unit_tests")


def test_the_shipped_sources_are_what_the_generator_writes() -> None:
    assert yaml.safe_load((DBT / "models" / "staging" / "_sources.yml").read_text()) == sources_document(["waymark_world"])


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
    ],
)
def test_the_rules_catch_what_they_are_for(sql: str, broken: re.Pattern[str]) -> None:
    assert broken.search(sql)
    assert _orders("select row_number() over (partition by a order by b, c desc rows unbounded preceding) from t") == ["b", "c desc"]
