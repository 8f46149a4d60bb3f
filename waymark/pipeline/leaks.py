"""Are the features what was known then? A sample of customers is built anew from a log that ends at the point, by the same models, and compared; and rows that
sources date back are looked for by their times of receipt."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from waymark.core.quoting import literal
from waymark.core.settings import OPERATOR_SOURCE
from waymark.core.warehouse import Connection, rows
from waymark.identity import prepare_identity
from waymark.identity.linkage.links import LINKS
from waymark.pipeline.dbt_project import DbtProject
from waymark.pipeline.steps import BEFORE_IDENTITY, Run, resolve

if TYPE_CHECKING:
    from ml.models.propensity.result import Leak

# Half of them convert after the point, where there are so many. A leak that changes a share s of the converting, or of the other, customers gains about
# s (1 - AUC) of AUC at most: one worth .03 where AUC is .9 changes .3 of either, and that 75 all miss it has a chance of 3e-12. Of 150 drawn
# from everybody, one Monday in four would miss a count of orders three days ahead, because few convert.
SAMPLED_CUSTOMERS = 150
_KNOWN_LINKS = "raw.known_links"
_FEATURES = "+feat_customer_behavior +feat_customer_channels +feat_customer_value"


def check_leaks(run: Run, *, seed: int) -> tuple[Leak, ...]:
    """Names kinds of rows that are dated back; then rebuilds all features of sampled customers at one sampled Monday from events before it, and names those
    that come out otherwise.

    The sample is whole clusters of customers whose identifiers touch no over-shared one, so that nothing outside it bears on them. A scratch warehouse of
    their events is run through the project's own models. Probable links alone are not found anew but taken as they were known at the point: what is too
    common to tell of anybody is counted over all, and among few it would be rare.
    """
    from ml.datasets import feature_sql
    from ml.features import VIEWS, model_fields
    from ml.models.propensity.backdating import backdated_leaks
    from ml.models.propensity.leaks import recomputed_leaks

    fields = model_fields(VIEWS)
    with run.open_warehouse() as connection:
        points = [point for (point,) in rows(connection, "select distinct as_of_at from features.label_conversion order by as_of_at")]
        if not points:
            return (_nothing_compared(),)
        backdated = backdated_leaks(connection, fields)
        point = random.Random(seed).choice(points[len(points) // 2 :])
        _sample(connection, point, seed)
        at_point = f"points.as_of_at = timestamp '{point}'"
        sampled = f"{at_point} and points.customer_id in (select customer_id from temp.sampled)"
        stored = connection.sql(feature_sql(fields, where=sampled)).to_arrow_table()
        folder = run.project.home.scratch / "leaks"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # The file has the warehouse's name, so that the models as dbt parsed them fit it.
        scratch = replace(run, warehouse=folder / run.warehouse.name, dbt=DbtProject(run.project, folder / run.warehouse.name, folder / "dbt"))
        _copy_events(connection, scratch, str(point))
    if not stored.num_rows:
        shutil.rmtree(folder, ignore_errors=True)
        return (*backdated, _nothing_compared())
    try:
        scratch.dbt.assemble()
        scratch.dbt.share_manifest(run.dbt)
        with scratch.open_warehouse() as connection:
            prepare_identity(connection)
            connection.execute("create table raw.build_state as select true as full_refresh_needed")
        scratch.dbt.build(select=BEFORE_IDENTITY, exclude="resource_type:test", full_refresh=True)
        resolve(scratch, quiet=True, link=_known_links)
        scratch.dbt.build(select=_FEATURES, exclude=f"{BEFORE_IDENTITY} resource_type:test", full_refresh=True)
        with scratch.open_warehouse() as connection:
            connection.register("sampled_customers", stored.select(["customer_id"]))
            known = f"{at_point} and points.customer_id in (select customer_id from sampled_customers)"
            recomputed = connection.sql(feature_sql(fields, where=known)).to_arrow_table()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return (*backdated, *recomputed_leaks(stored, recomputed, fields))


def _nothing_compared() -> Leak:
    """A check that compared nothing has not passed."""
    from ml.models.propensity.result import Leak

    return Leak("", "recomputed", "the leak check found no customer to compare, so nothing is known of leaks")


def _sample(connection: Connection, point: object, seed: int) -> None:
    """Fills temp.sampled (customer_id as known at the point), temp.sampled_nodes and temp.sampled_events."""
    connection.execute("""
        create or replace temp table tainted as
        with hubs as (select node_id from identity.over_shared_since)
        select node_a as node_id from identity.edges where node_b in (select node_id from hubs)
        union select node_b from identity.edges where node_a in (select node_id from hubs)
        union select node_id from hubs
    """)
    connection.execute(f"""
        create or replace temp table sampled_nodes as
        with known as (
            select h.node_id, h.customer_id, coalesce(c.cluster_id, h.node_id) as cluster_id
            from identity.membership_history h left join identity.clusters c on c.node_id = h.node_id
            where h.valid_from < timestamp '{point}' and (h.valid_to is null or timestamp '{point}' <= h.valid_to)
        ),
        active as (select customer_id from intermediate.int_customer_activity where as_of_at = timestamp '{point}'),
        converting as (select customer_id from features.label_conversion where as_of_at = timestamp '{point}' and is_converted),
        clean as (
            select cluster_id, bool_or(customer_id in (select customer_id from converting)) as is_converted from known group by cluster_id
            having not bool_or(node_id in (select node_id from temp.tainted)) and bool_or(customer_id in (select customer_id from active))
        ),
        chosen as (
            select cluster_id from clean
            where cluster_id not in (select coalesce(c.cluster_id, t.node_id) from temp.tainted t left join identity.clusters c on c.node_id = t.node_id)
            qualify row_number() over (partition by is_converted order by md5(cluster_id::varchar || '|{int(seed)}'), cluster_id) <= {SAMPLED_CUSTOMERS // 2}
        )
        select node_id, cluster_id from identity.clusters where cluster_id in (select cluster_id from chosen)
        union select cluster_id, cluster_id from chosen
    """)
    connection.execute(f"""
        create or replace temp table sampled as
        select distinct customer_id from identity.membership_history
        where node_id in (select node_id from temp.sampled_nodes)
            and valid_from < timestamp '{point}' and (valid_to is null or timestamp '{point}' <= valid_to)
    """)
    connection.execute(f"""
        create or replace temp table sampled_events as
        select event_id from (select event_id, unnest(node_ids) as node_id from intermediate.int_events where occurred_at < timestamp '{point}')
        where node_id in (select node_id from temp.sampled_nodes) group by event_id
    """)
    # Reports of one order are judged together, whoever sent them.
    connection.execute(f"""
        insert into temp.sampled_events
        select event_id from intermediate.int_events
        where occurred_at < timestamp '{point}' and event_id not in (select event_id from temp.sampled_events) and order_id in (
            select order_id from intermediate.int_events where order_id is not null and event_id in (select event_id from temp.sampled_events)
        )
    """)


def _copy_events(connection: Connection, scratch: Run, point: str) -> None:
    connection.execute(f"attach {literal(scratch.warehouse)} as scratch")
    connection.execute("create schema scratch.raw")
    for source in sorted(scratch.mappings):
        # What an operator said names nobody by its row, and bears on all.
        known = f"occurred_at < timestamp '{point}'" if source == OPERATOR_SOURCE else "event_id in (select event_id from temp.sampled_events)"
        connection.execute(f'create table scratch.raw."{source}_events" as select * from raw."{source}_events" where {known}')
        connection.execute(f'create view scratch.raw."{source}_pending" as from raw."{source}_events"')
    connection.execute(f"create table scratch.raw.run_clock as select timestamp '{point}' as data_now")
    # An end after the point was not known at it.
    of_sampled = " and ".join(f"{end} in (select node_id from temp.sampled_nodes)" for end in ("node_a", "node_b"))
    connection.execute(f"""
        create table scratch.{_KNOWN_LINKS} as
        select * replace (case when valid_to < timestamp '{point}' then valid_to end as valid_to) from {LINKS}
        where valid_from < timestamp '{point}' and {of_sampled}
    """)
    connection.execute("detach scratch")


def _known_links(connection: Connection, pending_only: bool) -> None:
    """The scratch warehouse's probable links, as `Link` brings them: it is rebuilt, so all of them."""
    assert not pending_only
    connection.execute(f"insert into {LINKS} from {_KNOWN_LINKS}")
