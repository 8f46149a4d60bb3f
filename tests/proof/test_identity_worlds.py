"""Worlds whose truth is known: who is one person comes out as planted, and what people share joins no two of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.simulator import DEFAULT_MECHANISMS, WorldSpec, generate_world
from tests.integration.stepwise import Stepwise
from tests.proof.world_project import SOURCE, world_project
from waymark.core.warehouse import rows

pytestmark = pytest.mark.prove
CUSTOMERS = 1_280  # a multiple of sixty-four, so that no group of neighbours is cut by the world's end


def resolved(folder: Path, seed: int, **rates: float) -> tuple[Stepwise, Path]:
    """A project that has taken in a world and resolved its people, and the folder of the truth."""
    project = world_project(folder / "project", min_positives=20)
    truth = folder / "truth"
    truth.mkdir()
    spec = WorldSpec(customers=CUSTOMERS, days=112, seed=seed, mechanisms={**DEFAULT_MECHANISMS, **rates})
    generate_world(project.directory / "in" / SOURCE, truth, spec, workers=1)
    project.run(stop_before="transform_marts", checks=False)
    return project, truth


def asked(project: Stepwise, truth: Path, query: str) -> list[tuple[object, ...]]:
    """The query's rows. Beside the truth tables it may read `mapped`: identifier type, plain id of devices and accounts, customer now."""
    with project.reading() as connection:
        for path in truth.glob("*.parquet"):
            connection.execute(f"create temp view {path.stem} as from read_parquet('{path}')")
        connection.execute("""
            create temp view mapped as
            select identifier_type, split_part(identifier_value, ':', 2) as id, node_id, customer_id
            from identity.memberships join identity.nodes using (node_id) where identifier_type in ('anonymous_id', 'user_id')
        """)
        return rows(connection, query)


PERSONS_OF_CUSTOMERS = """
    select customer_id, count(distinct person_id)
    from (
        select customer_id, person_id from mapped join truth_devices on anonymous_id = id where identifier_type = 'anonymous_id'
        union select customer_id, person_id from mapped join truth_persons on user_id = id where identifier_type = 'user_id'
    )
    group by customer_id having count(distinct person_id) > 1
"""


@pytest.mark.parametrize("seed", range(3))
def test_the_default_world_is_recovered_exactly(tmp_path: Path, seed: int) -> None:
    project, truth = resolved(tmp_path, seed)
    assert asked(project, truth, PERSONS_OF_CUSTOMERS) == []
    assert asked(project, truth, "select * from identity.negative_edges") == [], "nothing speaks against what is planted"
    torn, joined = asked(project, truth, """
        with found as (select distinct customer_id, component_id from mapped join truth_devices on anonymous_id = id where identifier_type = 'anonymous_id')
        select (select count(*) from (select component_id from found group by all having count(*) > 1)),
            (select count(*) from (select customer_id from found group by all having count(*) > 1))
    """)[0]
    assert (torn, joined) == (0, 0)
    assert int(str(asked(project, truth, "select count(*) from mapped")[0][0])) > CUSTOMERS


@pytest.mark.parametrize("seed", range(2))
def test_reused_order_ids_join_no_two_people(tmp_path: Path, seed: int) -> None:
    project, truth = resolved(tmp_path, seed, reused_order_ids=0.5)
    assert asked(project, truth, PERSONS_OF_CUSTOMERS) == []
    kinds = dict(asked(project, truth, "select kind, count(*) from identity.negative_edges group by kind"))
    assert int(str(kinds["order_conflict"])) > 50
    # Strangers' reports of one order are kept apart, and nobody is torn by it: what evidence joins within a person stays joined.
    torn = asked(project, truth, """
        select component_id from mapped join truth_devices on anonymous_id = id where identifier_type = 'anonymous_id'
        group by component_id having count(distinct customer_id) > 1
    """)
    assert torn == []


@pytest.mark.parametrize("seed", range(2))
def test_two_accounts_of_one_session_at_a_shared_device_stay_two_people(tmp_path: Path, seed: int) -> None:
    project, truth = resolved(tmp_path, seed, shared_devices=0.6)
    pairs, joined = asked(project, truth, """
        with logins as (select anonymous_id, session_number, user_id, is_second from truth_shared_devices),
        pairs as (
            select distinct least(one.user_id, other.user_id) as one_id, greatest(one.user_id, other.user_id) as other_id
            from logins one join logins other using (anonymous_id, session_number) where not one.is_second and other.is_second
        )
        select count(*), count(*) filter (where a.customer_id = b.customer_id)
        from pairs join mapped a on a.id = one_id and a.identifier_type = 'user_id' join mapped b on b.id = other_id and b.identifier_type = 'user_id'
        where one_id <> other_id
    """)[0]
    assert int(str(pairs)) > 20 and joined == 0
    assert int(str(asked(project, truth, "select count(*) from identity.negative_edges where kind = 'two_logins_in_one_session'")[0][0])) > 20
