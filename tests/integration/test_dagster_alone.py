"""Each asset made by itself: it is made, or it says what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Ran
from tests.integration.dagster_world import Orchestrated, copied, failures, fresh, parse_once, served
from tests.integration.test_dagster import SNAPSHOT

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
