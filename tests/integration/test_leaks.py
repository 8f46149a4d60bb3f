"""Leaks planted in a real feature model, and in the rows of a real run: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.linkage_world import COMPARE
from ml.datasets import Dataset, load_for
from ml.evaluation import auc_difference
from ml.features import VIEWS, model_fields
from ml.models.propensity.backdating import excesses
from ml.models.propensity.gate import judge
from ml.models.propensity.leaks import univariate_leaks
from ml.models.propensity.result import TrainingResult
from ml.models.propensity.train import train_on
from ml.simulator import DEFAULT_MECHANISMS, WorldSpec, generate_world
from ml.simulator.mechanisms.leaks import SUBTLE
from tests.integration.conftest import demo_project
from tests.integration.stepwise import run_steps, share_manifest
from waymark.core.settings import load_project
from waymark.core.warehouse import OUTPUTS, rows
from waymark.pipeline import steps
from waymark.pipeline.leaks import _sample, check_leaks
from waymark.pipeline.linkage import estimate_links
from waymark.pipeline.steps import Run

pytestmark = pytest.mark.prove

SEED = 5
VALUE = "model.waymark.feat_customer_value"


def built(directory: Path, customers: int, compare: str = "", **rates: float) -> Run:
    """The demo's project with a world of its own, up to the features. compare: what the mapping says besides."""
    settings = demo_project(directory) / "waymark.yml"
    settings.write_text(settings.read_text().replace("min_positives: 200 ", "min_positives: 30 "))
    project = load_project(directory)
    spec = WorldSpec(customers=customers, seed=SEED, mechanisms={**DEFAULT_MECHANISMS, **rates}, is_identified=True)
    generate_world(project.home.root / "landing" / "waymark_world", directory / "truth", spec)
    with project.mapping_path("waymark_world").open("a", encoding="utf-8") as mapping:
        mapping.write(compare)
    run = steps.preflight(project)
    share_manifest(run)
    _built(run)
    return run


def _built(run: Run) -> None:
    for name, step in run_steps(run, checks=False):
        if name == "publish":
            break
        step()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return built(tmp_path_factory.mktemp("leaks") / "project", 1_500)


def test_half_of_the_sample_converts_where_so_many_do(world: Run) -> None:
    with world.open_warehouse() as connection:
        ((point, converting),) = rows(connection, """
            select as_of_at, count(*) filter (where is_converted) as n from features.label_conversion group by as_of_at order by n desc, as_of_at limit 1
        """)  # fmt: skip
        _sample(connection, point, SEED)
        labels = "select customer_id, is_converted from features.label_conversion where as_of_at = ?"
        drawn = dict(rows(connection, f"select is_converted, count(*) from temp.sampled join ({labels}) using (customer_id) group by all", [point]))
    assert drawn == {True: min(int(str(converting)), 75), False: 75}


@contextmanager
def looking_ahead(run: Run, hours: int) -> Iterator[None]:
    """conversion_count_7d counts orders up to so many hours after the point."""
    node = run.dbt.manifest().nodes[VALUE]
    kept = node.raw_code
    assert kept.count("        conversion_count_7d,\n") == 1
    node.raw_code = kept.replace(
        "        conversion_count_7d,\n",
        f"""        cast(conversion_count_7d + (
            select count(*) from {OUTPUTS}.intermediate.int_events_sessionized as later
            where later.customer_id = activity.customer_id and later.is_conversion_event
                and later.occurred_at >= activity.as_of_at and later.occurred_at < activity.as_of_at + interval {hours} hours
        ) as integer) as conversion_count_7d,\n""",
    )
    try:
        run.dbt.build(select="feat_customer_value", exclude="resource_type:test")
        yield
    finally:
        node.raw_code = kept
        run.dbt.build(select="feat_customer_value", exclude="resource_type:test")


def dataset(run: Run) -> Dataset:
    with run.open_warehouse() as connection:
        return load_for(connection, run.project.settings.learning, model_fields(VIEWS))


@pytest.fixture(scope="module")
def honest(world: Run) -> TrainingResult:
    return train_on(dataset(world))


def test_honest_features_and_late_rows_are_no_leak(world: Run, honest: TrainingResult) -> None:
    leaks = (*honest.leaks, *check_leaks(world, seed=7))
    assert leaks == ()
    with world.open_warehouse() as connection:
        assert sum(excess.late for excess in excesses(connection)) > 10


def test_a_feature_that_looks_ahead_for_three_hundredths_of_auc_is_refused_by_name(world: Run, honest: TrainingResult) -> None:
    """Not by what it gains: alone it ranks no better than honest ones, so the second line is silent."""
    with looking_ahead(world, hours=72):
        leaking = train_on(dataset(world))
        found = [check_leaks(world, seed=seed) for seed in (7, 8)]
    customers = np.unique(leaking.test.keys.column("customer_id").to_pylist(), return_inverse=True)[1]
    gain = auc_difference(leaking.test.labels, leaking.test.probabilities, honest.test.probabilities, customers)
    assert gain.low < 0.03 < gain.high and 0.02 < gain.value < 0.04, gain
    assert leaking.leaks == ()
    assert [[(leak.feature, leak.how) for leak in leaks] for leaks in found] == [[("conversion_count_7d", "recomputed")]] * 2
    verdict = judge(leaking, found[0])
    assert not verdict.promote and "conversion_count_7d needs events at or after the point" in verdict.summary


def test_a_feature_that_counts_the_label_is_refused_by_name_on_both_lines(world: Run) -> None:
    with looking_ahead(world, hours=7 * 24):
        leaks = (*univariate_leaks(dataset(world)), *check_leaks(world, seed=7))
    assert [(leak.feature, leak.how) for leak in leaks] == [("conversion_count_7d", "univariate"), ("conversion_count_7d", "recomputed")]


def test_rows_that_the_source_dates_back_are_refused_by_name(tmp_path: Path) -> None:
    """By the whole pipeline: mapping, identity as known then, labels, features."""
    run = built(tmp_path / "project", 800, leaks=SUBTLE)
    leaks = check_leaks(run, seed=7)
    assert [(leak.feature, leak.how) for leak in leaks] == [("newsletter_subscribed", "received")]
    assert "email_touch_count_90d" in leaks[0].sentence


def test_a_project_that_links_people_by_names_has_no_leaks(tmp_path: Path) -> None:
    """The sample alone would make common names rare, and link whom the whole does not."""
    run = built(tmp_path / "project", 800, COMPARE, names=1.0, households=0.3, second_accounts=0.6)
    estimate_links(run)
    _built(run)
    with run.open_warehouse() as connection:
        linked = "select distinct unnest([node_a, node_b]) as node_id from identity.edges where estimation_version > 0"
        ((point,),) = rows(connection, "select max(as_of_at) from features.label_conversion")
        _sample(connection, point, 7)
        ((count,),) = rows(connection, f"select count(*) from ({linked}) semi join temp.sampled_nodes using (node_id)")
    assert int(str(count)) > 10
    assert check_leaks(run, seed=7) == ()
