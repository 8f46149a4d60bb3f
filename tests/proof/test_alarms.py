"""How often the quality checks alarm where nothing is wrong: fifty small worlds without a planted fault, each run whole and checked whole.

Rules of scores are left out: they are exact, and so few conversions train no model.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats

from expectations.rules import STAGES, CheckResult, Suite
from expectations.runner import run_suites
from expectations.suites import raw_events
from ml.simulator import WorldSpec, generate_world
from ml.simulator.spec import DEFAULT_MECHANISMS
from tests.proof.world_project import SOURCE, world_project
from waymark.core.warehouse import rows
from waymark.pipeline.quality import bounds, check
from waymark.pipeline.steps import rebuilding

SEEDS = range(1_001, 1_051)
CUSTOMERS, DAYS = 650, 112
# The rule about days asks for some 200 events a weekday, which takes more persons; it reads raw events alone.
DAY_SEEDS = range(2_001, 2_006)
DAY_CUSTOMERS, DAYS_LOOKED_AT = 4_000, 50
# As expectations/README.md states them.
STATED_ANY = 0.02
STATED_RULE = 0.01


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[list[CheckResult]]:
    """The results of a world each. Every second one is without any dirt; the others have what ordinary sources have (late, twice, crawlers, broken rows)."""
    found = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"clean{seed}")
        found.append(checks_of_world(folder, seed))
        shutil.rmtree(folder)
    return found


def checks_of_world(folder: Path, seed: int) -> list[CheckResult]:
    project = world_project(folder / "project", min_positives=50)
    mechanisms = {} if seed % 2 else DEFAULT_MECHANISMS
    generate_world(project.directory / "in" / SOURCE, folder / "truth", WorldSpec(customers=CUSTOMERS, days=DAYS, seed=seed, mechanisms=mechanisms))
    run = project.run(stop_before="finish", checks=False)
    assert rebuilding(run)
    return [result for stage in STAGES if stage != "scores" for result in check(run, stage)]


def most(tries: int, rate: float) -> int:
    """So many alarms or fewer are seen but for once in ten thousand times, where the rate is what it is said to be."""
    return int(stats.binom.ppf(1 - 1e-4, tries, rate))


@pytest.mark.prove
def test_a_run_of_clean_data_raises_no_more_alarms_than_stated(checked: list[list[CheckResult]], record_property: Callable[[str, object], None]) -> None:
    alarmed = [seed for seed, results in zip(SEEDS, checked, strict=True) if any(result.status == "failed" for result in results)]
    record_property("claim", f"Quality checks: of runs of clean data at most {STATED_ANY:.0%} raise any alarm ({len(alarmed)} did)")
    record_property("n", f"{len(checked)} worlds of {CUSTOMERS} persons, {sum(map(len, checked)):,} rules run")
    record_property("seed", f"{SEEDS[0]}-{SEEDS[-1]}")
    record_property("interval", f"a binomial band at 1e-4: up to {most(len(checked), STATED_ANY)}")
    assert len(alarmed) <= most(len(checked), STATED_ANY), alarmed


@pytest.mark.prove
def test_no_rule_alarms_on_clean_data_more_often_than_stated(checked: list[list[CheckResult]], record_property: Callable[[str, object], None]) -> None:
    tried = Counter((result.table, result.rule) for results in checked for result in results if result.status != "not_applicable")
    alarms = Counter((result.table, result.rule) for results in checked for result in results if result.status == "failed")
    record_property("claim", f"Quality checks: each rule alarms on at most {STATED_RULE:.0%} of runs of clean data")
    record_property("n", f"{len(tried)} rules, {len(checked)} worlds each; {sum(alarms.values())} alarms")
    record_property("seed", f"{SEEDS[0]}-{SEEDS[-1]}")
    record_property("interval", f"a binomial band at 1e-4, a rule: up to {most(len(checked), STATED_RULE)}")
    assert not {rule: count for rule, count in alarms.items() if count > most(tried[rule], STATED_RULE)}


@pytest.mark.prove
def test_the_rules_that_judge_history_had_something_to_say(checked: list[list[CheckResult]]) -> None:
    """A rule that never applies never alarms. The one about days needs more visits a day than these worlds have: see below."""
    silent = Counter(result.rule for results in checked for result in results if result.status == "not_applicable")
    assert set(silent) <= {"daily_volume_is_usual"}, silent


@pytest.mark.prove
def test_the_rule_about_days_alarms_no_more_often_than_stated(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """As if data_now had been each of the last midnights of a world: what came later is not seen, for the rule looks before its clock alone."""
    statuses = [status for seed in DAY_SEEDS for status in daily_statuses(tmp_path / str(seed), seed)]
    asked = [status for status in statuses if status != "not_applicable"]
    alarms = statuses.count("failed")
    record_property("claim", f"Quality checks: daily_volume_is_usual alarms on at most {STATED_RULE:.0%} of clean days ({alarms} did)")
    record_property("n", f"{len(DAY_SEEDS)} worlds of {DAY_CUSTOMERS:,} persons, {len(asked)} days on which it applies")
    record_property("seed", f"{DAY_SEEDS[0]}-{DAY_SEEDS[-1]}")
    record_property("interval", f"a binomial band at 1e-4: up to {most(len(asked), STATED_RULE)}")
    assert len(asked) >= 0.9 * len(DAY_SEEDS) * DAYS_LOOKED_AT, "a rule that never applies never alarms"
    assert alarms <= most(len(asked), STATED_RULE)


def daily_statuses(folder: Path, seed: int) -> list[str]:
    project = world_project(folder / "project", min_positives=50)
    mechanisms = {} if seed % 2 else DEFAULT_MECHANISMS
    generate_world(project.directory / "in" / SOURCE, folder / "truth", WorldSpec(customers=DAY_CUSTOMERS, days=DAYS, seed=seed, mechanisms=mechanisms))
    run = project.run(stop_before="transform_events", checks=False)
    whole = raw_events.suite(SOURCE, bounds(run), pending=False)
    suite = Suite(whole.name, whole.stage, whole.table, tuple(rule for rule in whole.rules if rule.name == "daily_volume_is_usual"))
    found = []
    with run.open_warehouse() as connection:
        midnight = rows(connection, "select date_trunc('day', data_now) from raw.run_clock")[0][0]
        for back in range(DAYS_LOOKED_AT):
            connection.execute("update raw.run_clock set data_now = ?::timestamp - to_days(?::integer)", [midnight, back])
            found += [result.status for result in run_suites(connection, [suite], restated=False)]
    shutil.rmtree(folder)
    return found
