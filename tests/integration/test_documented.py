"""What a run really makes is what the reference says: no published column without a description, and no type that a missing cast would leave."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.integration.conftest import Ran
from waymark.cli.reference import table_pages
from waymark.core.warehouse import connect


def test_every_published_column_is_in_the_reference_and_the_reverse(demo: Ran) -> None:
    found = demo.rows("select distinct schema_name || '.' || table_name, column_name from duckdb_columns() where not internal")
    described = {(page.name, column) for page in table_pages() if page.is_published for column, _, _ in page.columns}
    assert set(found) == described


def test_the_types_are_those_of_the_reference(demo: Ran) -> None:
    said = {(page.name, column): kind for page in table_pages() for column, kind, _ in page.columns if kind and page.is_published}
    found = demo.rows("select schema_name || '.' || table_name, column_name, lower(replace(data_type, '\"', '')) from duckdb_columns() where not internal")
    different = [(table, column, kind) for table, column, kind in found if said.get((str(table), str(column)), kind) != kind]
    assert different == [] and len(said) > 150


def test_no_sum_ratio_or_amount_lacks_its_cast(demo: Ran) -> None:
    """A sum of whole numbers is a HUGEINT where nothing casts it, a sum of money a DECIMAL(38), a quotient of money a DOUBLE."""
    query = """
        select schema_name || '.' || table_name, column_name, data_type from duckdb_columns()
        where not internal and schema_name in ('staging', 'intermediate', 'marts', 'features') order by all
    """
    with connect(demo.home.warehouse, read_only=True) as connection:
        columns = sorted({*connection.execute(query).fetchall(), *demo.rows(query)})
    assert len(columns) > 400
    assert [column for column in columns if re.match(r"HUGEINT|DECIMAL\(38", column[2])] == []
    money = [column for column in columns if re.search(r"(^|_)value(_reporting)?$|_amount(_\d+d|_total)?$", column[1]) and not column[1].startswith("mean_")]
    money = [column for column in money if not column[1].endswith("identifier_value")]
    assert [column for column in money if column[2] != "DECIMAL(18,4)"] == [] and len(money) > 15


@pytest.mark.parametrize("page", ["analyst.md", "ml-engineer.md"])
def test_every_query_of_a_page_runs_and_finds_something(page: str, demo: Ran) -> None:
    queries = re.findall(r"^```sql\n(.*?)^```", (REPOSITORY / "docs" / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(queries) >= 2
    for query in queries:
        # A thousand persons are too few for an alias: no two devices of one that were met apart.
        assert demo.rows(query) or "dim_customer_aliases" in query, query
