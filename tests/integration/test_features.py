"""The features against a brute force; nothing of them comes from the future; and months of increments give what one rebuild gives."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import yaml

from ml.features import VIEWS
from tests.conftest import REPOSITORY
from tests.integration.equality_logs import BASE, Delivery, give, run_at_once, shop, told
from tests.integration.feature_logs import WEEKS, cell_of, other_futures, season
from tests.integration.features_reference import GROUPS, Features, Key, Log, features, label, read_log
from tests.integration.stepwise import Stepwise, assert_equal, cells_of, differences

CELLS, BATCHES, SEED = 120, 3, 20240304
LABEL = "features.label_conversion"
KEYS = ("customer_point_id", "customer_id", "as_of_at")
# What only rounding may tell apart: shares, hours and weights. A weight is kept in 2^-20ths.
RELATIVE, ABSOLUTE = 1e-9, 1e-5


def project_in_batches(directory: Path, deliveries: Sequence[Delivery]) -> Stepwise:
    project = shop(directory)
    for batch in sorted({delivery.batch for delivery in deliveries}):
        give(project, [delivery for delivery in deliveries if delivery.batch == batch], f"b{batch}", shuffle=batch)
        project.run(stop_before="publish", checks=False)
    return project


@pytest.fixture(scope="module")
def deliveries() -> list[Delivery]:
    return season(SEED, cells=CELLS, batches=BATCHES)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, deliveries: list[Delivery]) -> Iterator[Stepwise]:
    """In batches, and features in several slices of the customers; `rebuilt` is at once, in one slice of them and several of the days."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("waymark.pipeline.dbt_project._BYTES_A_NODE_DAY", 4_000_000)
        yield project_in_batches(tmp_path_factory.mktemp("season") / "batches", deliveries)


def made_by(project: Stepwise, model: str, *, folder: str = "compiled") -> str:
    return next((project.home.dbt / "target" / folder).rglob(f"{model}.sql")).read_text()


@pytest.mark.prove
def test_the_features_were_made_in_slices(built: Stepwise) -> None:
    assert int(re.findall("in ([0-9]+) slices of customers", made_by(built, "int_customer_activity"))[0]) > 2


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory, deliveries: list[Delivery]) -> Iterator[Stepwise]:
    project = shop(tmp_path_factory.mktemp("season") / "once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("waymark.pipeline.dbt_project._BYTES_AN_EVENT", 2_000_000)
        run_at_once(project, deliveries)
        yield project


@pytest.mark.prove
def test_the_rebuild_was_made_in_slices_of_time_and_of_customers(rebuilt: Stepwise) -> None:
    for model in ("int_events_sessionized", "int_node_days", "fct_sessions", "fct_touchpoints"):
        made = made_by(rebuilt, model, folder="run")
        assert len(re.findall(r"create\s+table", made)) == 1 and made.count("insert into") > 2, model
    # A slice is of 500 events; what comes before the slices is made in parts of 2,000: in two.
    assert int(str(rebuilt.rows("select count(*) from intermediate.int_events")[0][0])) > 2_000
    for model in ("int_journey_steps", "fct_journeys"):
        assert int(re.findall("in ([0-9]+) slices of customers", made_by(rebuilt, model))[0]) > 1, model
    assert rebuilt.rows("select table_name from information_schema.tables where table_name like '%\\_\\_step' escape '\\'") == []


@pytest.fixture(scope="module")
def log(built: Stepwise) -> Log:
    return read_log(built)


def found_rows(project: Stepwise, table: str) -> dict[Key, Features]:
    """A table's columns, those of the key aside, by customer and point; each key once."""
    names = [str(name) for (name,) in project.rows(f"select column_name from (describe {table})")]
    rows = [dict(zip(names, row, strict=True)) for row in project.rows(f"from {table}")]
    found = {cast("Key", (row["customer_id"], row["as_of_at"])): {name: row[name] for name in names if name not in KEYS} for row in rows}
    assert len(found) == len(rows), f"{table}: a key stands twice"
    return found


def all_features(project: Stepwise) -> dict[Key, Features]:
    """The columns of the three views side by side; their keys are the same."""
    first, *others = [found_rows(project, view.table) for view in VIEWS.values()]
    for other in others:
        assert other.keys() == first.keys()
    return {key: {name: value for view in (first, *others) for name, value in view[key].items()} for key in first}


def is_equal(found: object, expected: object) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return bool(found == pytest.approx(expected, rel=RELATIVE, abs=ABSOLUTE))
    return type(found) is type(expected) and found == expected


def unequal(found: Features, expected: Features) -> dict[str, tuple[object, object]]:
    """Columns that differ: (found, expected)."""
    assert found.keys() == expected.keys()
    return {name: (found[name], value) for name, value in expected.items() if not is_equal(found[name], value)}


def compare(project: Stepwise, log: Log, *, most: int | None, seed: int) -> int:
    """Keys all, and the columns of so many rows, of the features and of the label; how many rows were compared."""
    found, labels = all_features(project), found_rows(project, LABEL)
    assert found.keys() == log.keys()
    assert labels.keys() == {(customer, at) for customer, at in found if at + log.horizon <= log.data_now}
    keys = sorted(found)
    tried = keys if most is None else random.Random(seed).sample(keys, most)
    wrong = {key: columns for key in tried if (columns := unequal(found[key], features(log, *key)))}
    assert not wrong, f"{len(wrong)} of {len(tried)} rows differ: {dict(list(wrong.items())[:3])}"
    labelled = sorted(labels) if most is None else random.Random(seed).sample(sorted(labels), most)
    expected = {key: label(log, *key) for key in labelled}
    different = {key: (labels[key], value) for key, value in expected.items() if labels[key] != value}
    assert not different, f"{len(different)} of {len(labelled)} labels differ: {dict(list(different.items())[:3])}"
    return len(tried)


@pytest.mark.prove
def test_the_season_holds_what_the_comparison_is_for(log: Log) -> None:
    """A comparison of logs in which nothing happens would say nothing."""
    assert (log.data_now.weekday(), log.data_now.hour) != (0, 0)
    maps = [log.known(at).customers for at in log.points]
    # Identifiers that a later link gave to another customer, and those that too many came to share.
    assert sum(len({found[node] for found in maps if node in found}) > 1 for node in log.names) > 30
    assert len({node for one, two in pairwise(maps) for node in one.keys() - two.keys()}) > 10
    reports = {event.event_id for event in log.events if "purchase" in event.goals and event.is_counted}
    assert len(reports - log.conversions) > 10
    keys, last = log.keys(), log.points[-1]
    assert sum((customer, last) not in keys for customer in log.active(last)) > 10  # whose last event is too long ago
    labels = [label(log, *key) for key in sorted(keys)]
    assert 50 < sum(bool(found and found["is_converted"]) for found in labels) < len(labels) - 500
    counted = [event for event in log.events if event.is_counted]
    assert len({event.group for event in counted}) == len(GROUPS)
    assert {event.device_type for event in counted} >= {"desktop", "mobile", "tablet", None}


@pytest.mark.prove
def test_features_and_labels_are_what_a_brute_force_finds(built: Stepwise, log: Log) -> None:
    compare(built, log, most=500, seed=SEED)


@pytest.mark.prove
def test_months_of_batches_give_what_one_rebuild_gives(built: Stepwise, rebuilt: Stepwise) -> None:
    assert_equal(built, rebuilt)


@pytest.mark.prove
def test_columns_have_the_types_that_the_yml_states(built: Stepwise) -> None:
    for table in [*(view.table for view in VIEWS.values()), LABEL]:
        (model,) = yaml.safe_load((REPOSITORY / "dbt" / "models" / f"{table.replace('.', '/')}.yml").read_text(encoding="utf-8"))["models"]
        stated = [(column["name"], column["data_type"].upper()) for column in model["columns"]]
        assert built.rows(f"select column_name, column_type from (describe {table})") == stated


def check_futures(project: Stepwise, base: Sequence[Delivery], directory: Path, seed: int) -> int:
    """Each cell gets another future from a Monday of its own on: rows up to that Monday stay as they were. Gives the rows compared."""
    changed, cuts = other_futures(base, seed)
    other = shop(directory)
    run_at_once(other, changed)
    owners = {**cells_by_customer(project), **cells_by_customer(other)}
    before, after = all_features(project), all_features(other)
    ends = {name: BASE + timedelta(microseconds=cut) for name, cut in cuts.items()}

    def early(rows: dict[Key, Features]) -> dict[Key, Features]:
        return {key: row for key, row in rows.items() if key[1] <= ends[owners[key[0]]]}

    one, two = early(before), early(after)
    wrong = sorted({owners[key[0]] for key in one.keys() ^ two.keys()} | {owners[key[0]] for key in one.keys() & two.keys() if one[key] != two[key]})
    if wrong:
        name = wrong[0]
        shown = "\n".join(f"{key}: {row} became {two.get(key)}" for key, row in one.items() if owners[key[0]] == name and row != two.get(key))
        logs = "\n\n".join(told([d for d in delivered if cell_of(d.record) == name]) for delivered in (base, changed))
        pytest.fail(f"seed {seed}: the future moved the past of cells {wrong}; {name} is cut at {ends[name]}:\n{shown}\n{logs}")
    assert before != after
    return len(one)


def cells_by_customer(project: Stepwise) -> dict[str, str]:
    """The cell of each customer id that any identifier can give."""
    rows = project.rows("""
        with named as (select unnest(node_ids) as node_id, concat_ws(' ', source_event_id, anonymous_id, user_id) as name
            from intermediate.int_events join staging.stg_events using (event_id))
        select distinct node_customer_id, regexp_extract(name, 'k[0-9]+') from named join identity.nodes using (node_id)
    """)
    return {str(customer): str(name) for customer, name in rows}


@pytest.mark.prove
def test_no_feature_moves_with_what_happens_at_its_point_or_later(rebuilt: Stepwise, deliveries: list[Delivery], tmp_path: Path) -> None:
    assert check_futures(rebuilt, deliveries, tmp_path / "other", SEED) > 500


@pytest.mark.prove
@pytest.mark.parametrize(("seed", "batches", "on_mondays"), [(1, 2, False), (2, 6, False), (4, 3, True), (6, 18, True)])
def test_other_seasons_agree_in_all_rows(seed: int, batches: int, on_mondays: bool, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    deliveries = season(seed, cells=200, batches=batches, on_mondays=on_mondays)
    built, rebuilt = project_in_batches(tmp_path / "batches", deliveries), shop(tmp_path / "once")
    run_at_once(rebuilt, deliveries)
    found = differences(built, rebuilt)
    if found:
        wrong = cells_of(found, built, rebuilt)
        shown = [delivery for delivery in deliveries if wrong and cell_of(delivery.record) == wrong[0]]
        pytest.fail(f"seed {seed}: cells {wrong}\n" + "\n".join(map(str, found)) + f"\nAll of {wrong[:1]}:\n{told(shown)}")
    log = read_log(built)
    assert (log.data_now.weekday() == 0 and log.data_now.hour == 0) == on_mondays
    compared = compare(built, log, most=None, seed=seed)
    kept = [check_futures(rebuilt, deliveries, tmp_path / f"future{number}", seed * 100 + number) for number in range(3)]
    clock = "on Mondays" if on_mondays else "between Mondays"
    record_property("claim", f"Features and labels = brute force; increment = rebuild; no future in them; {WEEKS} weeks, clock {clock}")
    record_property("n", f"{compared} rows in {batches} batches; {sum(kept)} rows before other futures")
    record_property("seed", seed)
    record_property("interval", "exact")
