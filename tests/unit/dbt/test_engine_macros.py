"""Each engine macro beside its portable twin: another wording of the same value, which both must agree on."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from waymark.core.warehouse import connect

DBT = Path(__file__).resolve().parents[3] / "dbt"
INSTANTS = "(values (timestamp '1969-12-31 23:59:59.999999'), (timestamp '2025-03-30 00:59:59.000001'), (timestamp '2025-10-26 23:30:00'), (null)) as t(moment)"
TEXTS = "(select case when i = 0 then null when i = 1 then '' else 'anonymous_id|käse' || i end as said from range(300) r(i)) as t"
LISTS = "(values (['b', 'a']), (['c']), (cast([] as varchar[])), (null)) as t(texts)"
PERSON, LOGIN = "[{'type': 'anonymous_id', 'value': 'web:1'}, {'type': 'email', 'value': 'ff'}]", "[{'type': 'user_id', 'value': 'u'}]"
IDENTIFIERS = f"(values ({PERSON}), ({LOGIN}), (list_concat({PERSON}, {LOGIN})), (null)) as t(identifiers)"
ROWS = "(values (1, 'x', 2), (1, 'y', 1), (1, null, 3), (2, 'z', 1)) as t(grouped, said, place)"

# name: (macro, twin) over rows; the twins are plain SQL, or the macro's own default form where this engine can read it.
PAIRS: dict[str, tuple[str, str]] = {
    "x_epoch_us": (f"select {{{{ x_epoch_us('moment') }}}} from {INSTANTS}", f"select {{{{ waymark.default__x_epoch_us('moment') }}}} from {INSTANTS}"),
    "x_add_days": (
        f"select {{{{ x_add_days('moment', -8) }}}} from {INSTANTS}",
        f"select moment - interval '192 hours' from {INSTANTS}",
    ),
    "x_visitor_key": (f"select {{{{ x_visitor_key('said') }}}} from {TEXTS}", f"select {{{{ waymark.default__x_visitor_key('said') }}}} from {TEXTS}"),
    "x_node_ids": (
        f"select unnest({{{{ x_node_ids('identifiers') }}}}) from {IDENTIFIERS}",
        f"select {{{{ waymark.default__x_visitor_key(\"one.type || '|' || one.value\") }}}} from (select unnest(identifiers) as one from {IDENTIFIERS})",
    ),
    "x_accounts_first": (
        f"select cast({{{{ x_accounts_first('identifiers') }}}} as varchar) from {IDENTIFIERS}",
        f"""
        select cast(list_transform(list_sort(list_transform(
            identifiers, lambda one, place: {{'rank': if(one.type = 'user_id', 0, 1), 'place': place, 'one': one}}
        )), lambda found: found.one) as varchar) from {IDENTIFIERS}
        """,
    ),
    "x_string_list": ("select unnest({{ x_string_list(['a', \"b'c\"]) }})", "select * from (values ('a'), ('b''c'))"),
    "x_list_contains": (
        f"select {{{{ x_list_contains('texts', \"'a'\") }}}} from {LISTS}",
        f"select exists (select 1 from (select unnest(texts) as one) where one = 'a') from {LISTS}",
    ),
    "x_list_element": (
        f"select {{{{ x_list_element('texts', 2) }}}} from {LISTS}",
        f"select nullif(split_part(array_to_string(texts, '|'), '|', 2), '') from {LISTS}",
    ),
    "x_unnest_with_position": (
        f"select nodes.element, nodes.position from {LISTS} {{{{ x_unnest_with_position('t.texts', 'nodes') }}}}",
        f"select split_part(array_to_string(texts, '|'), '|', cast(i as integer)), i from {LISTS} join range(1, 9) r(i) on i <= length(texts)",
    ),
    "x_ordered_join": (
        f"select grouped, {{{{ x_ordered_join('said', ' > ', ['place']) }}}} from {ROWS} where said is not null group by grouped",
        f"select grouped, string_agg(said, ' > ' order by place asc nulls first) from {ROWS} where said is not null group by grouped",
    ),
    "x_order_key": (
        f"select grouped, max_by(said, {{{{ x_order_key(['place', 'said']) }}}}) from {ROWS} where said is not null group by grouped",
        f"""
        select grouped, said from (
            select *, row_number() over (partition by grouped order by place desc nulls last, said desc nulls last) as n from {ROWS} where said is not null
        ) where n = 1
        """,
    ),
    "x_matches": (
        f"select {{{{ x_matches('said', \"'[|]käse1.*2'\") }}}} from {TEXTS}",
        f"select said like '%|käse1%2%' from {TEXTS}",
    ),
    "x_local_date": (
        f"select {{{{ x_local_date('moment', 'Europe/Zurich') }}}}, {{{{ x_local_date('moment', 'UTC') }}}} from {INSTANTS}",
        # Zurich is two hours ahead between the last Sundays of March and October, at 01:00 UTC, and one hour otherwise.
        f"""
        select
            cast(moment + case when moment >= timestamp '2025-03-30 01:00' and moment < timestamp '2025-10-26 01:00'
                then interval 2 hour else interval 1 hour end as date),
            cast(strftime(moment, '%Y-%m-%d') as date) from {INSTANTS}""",
    ),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The pairs as SQL, compiled by dbt in one go from a project that holds the macros alone."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    folder = tmp_path_factory.mktemp("macros")
    for name in ("macros", "dbt_project.yml"):
        (folder / name).symlink_to(DBT / name)
    output = {"type": "duckdb", "path": str(folder / "macros.duckdb"), "threads": 1, "schema": "main"}
    (folder / "profiles.yml").write_text(yaml.safe_dump({"waymark": {"target": "test", "outputs": {"test": output}}}))
    parts = [sql for pair in PAIRS.values() for sql in pair]
    arguments = ["--quiet", "--log-level-file", "none", "compile", "--inline", "\n-- next part\n".join(parts)]
    arguments += ["--project-dir", str(folder), "--profiles-dir", str(folder)]
    try:
        with redirect_stdout(io.StringIO()):
            outcome: Any = dbtRunner().invoke([*arguments, "--target-path", str(folder / "target"), "--log-path", str(folder)])
    finally:
        DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call]
    assert outcome.success, outcome.exception
    texts = outcome.result.results[0].node.compiled_code.split("-- next part")
    return {name: (texts[2 * i], texts[2 * i + 1]) for i, name in enumerate(PAIRS)}


@pytest.mark.parametrize("name", PAIRS)
def test_an_engine_macro_and_its_twin_agree(compiled: dict[str, tuple[str, str]], name: str) -> None:
    connection = connect()
    try:
        found, twin = (sorted(connection.execute(sql).fetchall(), key=repr) for sql in compiled[name])
    finally:
        connection.close()
    assert found == twin and found


def test_no_engine_macro_is_without_a_twin() -> None:
    assert {path.stem for path in (DBT / "macros" / "engine").glob("x_*.sql")} == set(PAIRS)


def test_the_visitor_key_has_not_changed_since_ids_were_published(compiled: dict[str, tuple[str, str]]) -> None:
    connection = connect()
    try:
        sql = compiled["x_visitor_key"][0]
        assert connection.execute(sql.replace(TEXTS, "(select 'a|b' as said) as t")).fetchall() == [(1208601818290246437,)]
    finally:
        connection.close()
