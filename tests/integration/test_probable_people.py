"""Probable links from files to customers: an estimation is an act, the next run links by it, and increments give what one rebuild gives."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest

from tests.integration.stepwise import Stepwise
from tests.unit.identity.linkage.people import PARTS, Form, forms_of
from waymark.pipeline.linkage import estimate_links

PEOPLE = 400
MAPPING = {
    "format": "ndjson",
    "columns": {"event_id": "id", "occurred_at": "at", "event_type": {"const": "signed_up"}, "user_id": "node"},
    "compare": {part.name: {"column": part.name, "kind": part.kind, "household": part.is_shared} for part in PARTS},
}  # fmt: skip


def project_at(folder: Path) -> Stepwise:
    return Stepwise(folder, {"shop": MAPPING})


def give(project: Stepwise, name: str, forms: Sequence[tuple[int, Form]]) -> None:
    records = [{"id": f"f{number}", "at": f"2026-01-01T10:{form.at // 60:02d}:{form.at % 60:02d}Z", "node": form.node, **form.texts} for number, form in forms]
    project.add("shop", name, records)


def joined(project: Stepwise) -> list[tuple[str, str]]:
    """Accounts that are one customer's, pairwise."""
    found: dict[str, list[str]] = {}
    for customer, account in project.rows("select customer_id, user_id from marts.fct_events group by all order by all"):
        found.setdefault(str(customer), []).append(str(account))
    return [pair for accounts in found.values() for pair in combinations(accounts, 2)]


@pytest.mark.prove
def test_an_estimation_links_people_at_the_next_run_and_increments_give_what_a_rebuild_gives(tmp_path: Path) -> None:
    forms, person = forms_of(PEOPLE, seed=21)
    numbered = list(enumerate(forms))
    by_steps = project_at(tmp_path / "steps")
    give(by_steps, "first", [told for told in numbered if told[1].node % 7])
    by_steps.run(checks=False)
    assert joined(by_steps) == []
    estimate_links(by_steps.started())
    assert by_steps.home.unpublished.exists()  # so that the next run does not say that there is nothing new
    by_steps.run(checks=False)
    early = joined(by_steps)
    give(by_steps, "second", [told for told in numbered if not told[1].node % 7])
    by_steps.run()  # the tests of the models look at all that was ever logged
    pairs = joined(by_steps)
    right = [person[int(a.split(":")[-1])] == person[int(b.split(":")[-1])] for a, b in pairs]
    assert 20 < len(early) < len(pairs) and sum(right) > 0.97 * len(pairs)
    assert Counter(str(why) for (why,) in by_steps.rows("select why from marts.fct_identity_restatements"))["probable_link"] > 20
    told = by_steps.rows("select count(*), min(probability), min(estimation_version), count(first_event_id) from intermediate.int_identity_edges")
    assert told[0][0] == told[0][3] and float(str(told[0][1])) >= 0.95 and int(str(told[0][2])) > 0

    at_once = project_at(tmp_path / "at_once")
    shutil.copytree(by_steps.home.root / "linkage", at_once.home.root / "linkage")
    give(at_once, "all", numbered)
    at_once.run(checks=False)
    assert at_once.digests() == by_steps.digests()
