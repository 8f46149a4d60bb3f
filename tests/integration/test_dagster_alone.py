"""Each asset made by itself: it is made, or it says what it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from expectations.suites import features, scores
from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, failures, fresh, parse_once, served
from tests.integration.test_dagster import SNAPSHOT
from tests.integration.test_dagster_days import busiest
from waymark.core.digest import file_digest

MADE = [name for name, kind in SNAPSHOT["assets"].items() if kind != "external"]
WITHOUT_DAYS = {name for name in MADE if SNAPSHOT["assets"][name] == "whole"}
# Always tested; the others are proofs.
SOME = ["raw/run_clock", "published/snapshot"]
# In an empty home these need nothing but the files.
FREE = {
    "raw/waymark_world_events", "raw/run_clock", "raw/event_conflicts", "raw/ingestion_log", "staging/stg_events", "staging/stg_pending_events",
    "privacy/erasures",
}  # fmt: skip


def _made(world: Orchestrated, asset: str, day: str) -> list[str]:
    result = world.run(asset, first="" if asset in WITHOUT_DAYS else day, last="" if asset in WITHOUT_DAYS else day)
    said = failures(result)
    assert result.success is not bool(said)
    return said


@pytest.mark.parametrize("asset", [*SOME, *(pytest.param(asset, marks=pytest.mark.prove) for asset in MADE if asset not in SOME)])
def test_an_asset_in_an_empty_home_is_made_or_says_what_it_needs(asset: str, demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)
    from_files = served(demo, monkeypatch)
    from dagster_project.lib.policies import today

    said = _made(fresh(demo, tmp_path, from_files), asset, today())
    if asset in FREE:
        assert said == []
    elif said:
        assert len(said) == 1 and "Materialize them first" in said[0] and "Traceback" not in said[0], said


@pytest.mark.prove
def test_every_asset_of_a_finished_home_is_made_alone(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)
    world = copied(demo, tmp_path, served(demo, monkeypatch))
    from dagster_project.lib.policies import today

    sound = world.digests()
    assert {asset: said for asset in MADE if (said := _made(world, asset, today()))} == {}
    assert world.digests() == sound


@pytest.mark.prove
def test_what_makes_nothing_leaves_nothing_to_publish(demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)
    world = copied(demo, tmp_path, served(demo, monkeypatch))
    for made in (world.run(job="full_audit"), world.run("raw/run_clock"), world.run("privacy/erasures")):
        assert failures(made) == [] and not world.project.home.unpublished.exists()
    assert failures(world.run(job="retrain")) == [] and not world.project.home.unpublished.exists()


@pytest.mark.prove
@pytest.mark.parametrize(
    ("module", "refusals"),
    [
        (features, {
            "retrain": "checks to pass: features; blocking rules failed: feature_keys_are_whole",
            "publish": "do not hold what is pending yet: marts.fct_propensity_scores",
        }),
        (scores, {"publish": "checks to pass: scores; blocking rules failed: scores_are_probabilities"}),
    ],
)  # fmt: skip
def test_what_failed_a_blocking_check_is_published_by_no_job_and_teaches_no_model(
    module: Any, refusals: dict[str, str], demo: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_once(monkeypatch)
    world = copied(demo, tmp_path, served(demo, monkeypatch))
    home, day, suites = world.project.home, str(busiest(world)), module.suites
    trained, published = (home.mlflow / "last_training.json").read_bytes(), file_digest(home.published)

    def broken(*arguments: Any) -> Any:
        first, *others = suites(*arguments)
        rule, *rules = first.rules
        return [replace(first, rules=(replace(rule, failing="select 'planted' from {batch} t where {scope}"), *rules)), *others]

    with monkeypatch.context() as patched:
        patched.setattr(module, "suites", broken)
        said = failures(world.run(job="refresh", first=day, last=day))
        assert len(said) == 1 and "1 blocking checks failed" in said[0], said
    for job, refusal in refusals.items():
        said = failures(world.run(job=job))
        assert len(said) == 1 and refusal in said[0], said
    assert (home.mlflow / "last_training.json").read_bytes() == trained and file_digest(home.published) == published
    assert failures(world.run(job="refresh", first=day, last=day)) == [] and failures(world.run(job="publish")) == []
    assert file_digest(home.published) != published
