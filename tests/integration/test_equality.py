"""Incremental equals full refresh, row for row, in every pure table: random logs, however they are cut, ordered, doubled, contradicted and killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY
from tests.integration.equality_logs import Delivery, give, log, run_at_once, run_in_batches, shop, told
from tests.integration.stepwise import STEPS, Stepwise, assert_equal, cells_of, differences, own_mapping

CELLS = 120
# No shrinking: each try takes seconds. A failure names the cells that differ instead, which are small and stand alone.
COMMON = {"deadline": None, "phases": [Phase.generate], "suppress_health_check": list(HealthCheck), "database": None}


def check(seed: int, *, cells: int, batches: int) -> None:
    """Batches against all at once; fails with the tables, the first rows and one whole cell."""
    deliveries = log(seed, cells=cells, batches=batches)
    with TemporaryDirectory() as folder:
        once, cut = shop(Path(folder) / "once"), shop(Path(folder) / "cut")
        run_at_once(once, deliveries)
        run_in_batches(cut, deliveries)
        found = differences(cut, once)
        if found:
            wrong = cells_of(found, cut, once)
            shown = [d for d in deliveries if wrong and f'"{wrong[0]}.' in told([d])]
            pytest.fail(f"seed {seed}: cells {wrong}\n" + "\n".join(map(str, found)) + f"\nAll of {wrong[:1]}:\n{told(shown)}")


@pytest.mark.prove
@settings(max_examples=1, derandomize=True, **COMMON)  # type: ignore[arg-type]
@given(seed=st.integers(0, 2**32), batches=st.integers(2, 3))
def test_random_batches_give_what_one_rebuild_gives(seed: int, batches: int) -> None:
    check(seed, cells=CELLS, batches=batches)


@pytest.mark.prove
def test_more_random_batches_give_what_one_rebuild_gives(record_property: Callable[[str, object], None]) -> None:
    seen: list[int] = []

    @settings(max_examples=15, **COMMON)  # type: ignore[arg-type]
    @given(seed=st.integers(0, 2**32), batches=st.integers(2, 6))
    def more(seed: int, batches: int) -> None:
        check(seed, cells=CELLS, batches=batches)
        seen.append(seed)

    more()
    record_property("claim", "Incremental = full refresh in every pure table, random logs")
    record_property("n", f"{len(seen)} projects of {CELLS} logs")


@pytest.mark.prove
def test_runs_killed_between_steps_twice_over_and_without_data_change_nothing(tmp_path: Path) -> None:
    """Batch by batch, each run ends before another step; then one goes through, then one of the same, one of a
    file in which every row has come before, and one that rebuilds everything."""
    killed = STEPS[1:]
    deliveries = log(7, cells=CELLS, batches=len(killed) + 1)
    cut, once = shop(tmp_path / "cut"), shop(tmp_path / "once")
    give(cut, [delivery for delivery in deliveries if delivery.batch == 0], "b0")
    cut.run(checks=False)
    for batch, step in enumerate(killed, start=1):
        give(cut, [delivery for delivery in deliveries if delivery.batch == batch], f"b{batch}", shuffle=batch)
        cut.run(stop_before=step, checks=False)
    cut.run(checks=False)
    run_at_once(once, deliveries)
    assert_equal(cut, once)
    before = cut.digests()
    cut.run(checks=False)
    give(cut, [delivery for delivery in deliveries if delivery.batch == 1], "again", shuffle=5)
    cut.run()
    assert cut.digests() == before
    cut.run(stop_before="publish", full_refresh=True, checks=False)
    assert cut.digests() == before


@pytest.mark.prove
def test_two_sources_in_turn_give_what_one_rebuild_gives(tmp_path: Path) -> None:
    """Each batch is one source's; the desk, whose logins join the web's visitors, comes last, first and in between."""
    deliveries = log(11, cells=CELLS, batches=4)
    turns = {("desk", 0): 0, ("web", 0): 1, ("web", 1): 1, ("desk", 1): 2, ("desk", 2): 2, ("web", 2): 3, ("web", 3): 3, ("desk", 3): 4}
    cut, once = shop(tmp_path / "cut"), shop(tmp_path / "once")
    run_in_batches(cut, [Delivery(turns[delivery.source, delivery.batch], delivery.source, delivery.record) for delivery in deliveries])
    run_at_once(once, deliveries)
    assert_equal(cut, once)


def _shop_days(directory: Path, data: Path) -> tuple[Stepwise, list[Path]]:
    """The real shop as a project whose files are still to come."""
    mapping = own_mapping(REPOSITORY / "examples" / "sources" / "shop_events.yml")
    # Ten days come in any order; one lone file must not decide what is too far in the future.
    return Stepwise(directory, {"shop_events": mapping}, {"time": {"max_future_skew_days": 3650}}), sorted((data / "shop_events").glob("*.csv"))


def _run_days(project: Stepwise, groups: list[list[Path]]) -> None:
    for group in groups:
        for path in group:
            shutil.copy(path, project.directory / "in" / "shop_events")
        project.run(stop_before="publish", checks=group is groups[-1])


@pytest.mark.prove
@pytest.mark.parametrize("order", ["0123456789", "9876543210", "3708429516", "5190736284"])
def test_shop_day_by_day_gives_what_one_rebuild_gives(order: str, tmp_path: Path, shared_data: Path, record_property: Callable[[str, object], None]) -> None:
    once, days = _shop_days(tmp_path / "once", shared_data)
    _run_days(once, [days])
    cut, _ = _shop_days(tmp_path / "cut", shared_data)
    _run_days(cut, [[days[int(day)]] for day in order])
    assert_equal(cut, once)
    record_property("claim", f"Incremental = full refresh, the real shop's ten days in order {order}")
    record_property("n", "36,546 rows, 10 runs")


@pytest.mark.prove
def test_shop_in_three_shuffled_parts_gives_what_one_rebuild_gives(tmp_path: Path, shared_data: Path) -> None:
    once, days = _shop_days(tmp_path / "once", shared_data)
    _run_days(once, [days])
    cut, _ = _shop_days(tmp_path / "cut", shared_data)
    _run_days(cut, [[days[day] for day in part] for part in ((7, 2, 5), (9, 0, 3, 4), (8, 1, 6))])
    assert_equal(cut, once)
