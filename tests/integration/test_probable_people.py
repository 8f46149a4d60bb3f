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
from waymark.pipeline.erasure import ask, go_on
from waymark.pipeline.linkage import estimate_links
from waymark.pipeline.subjects import named_by_others, subjects_of

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

    # A guess is enough to analyse, and not to hand a stranger's data out, or to erase them.
    edges = by_steps.rows("""
        select a.identifier_value, b.identifier_value, probability from identity.edges e
        join identity.nodes a on a.node_id = e.node_a join identity.nodes b on b.node_id = e.node_b join identity.memberships m on m.node_id = e.node_a
        where estimation_version > 0 and m.customer_id in (select customer_id from identity.memberships group by all having count(*) = 2)
    """)
    guesses, sure = ([pair for *pair, probability in edges if (float(str(probability)) >= 0.99) == is_sure] for is_sure in (False, True))
    assert guesses and sure
    with by_steps.project.home.writer_lock():
        for one, other in guesses[:3]:
            for asked, left in ((one, other), (other, one)):
                (alone,) = subjects_of(by_steps.project, [f"user_id:{asked}"])
                assert alone.identifiers == (("user_id", str(asked)),) and alone.left_out == 1 and "not taken for theirs" in alone.line()
                assert not set(alone.customers) & set(subjects_of(by_steps.project, [f"user_id:{left}"])[0].customers)
                held = by_steps.rows(f"select count(*) from marts.fct_events where user_id = '{str(asked).partition(':')[2]}'")[0][0]
                assert sum(alone.events.values()) == held
                assert named_by_others(by_steps.project, [alone]) == (0, 0)
            (whole,) = subjects_of(by_steps.project, [f"user_id:{one}"], probable=True)
            assert {value for _, value in whole.identifiers} == {one, other} and whole.left_out == 0
            assert subjects_of(by_steps.project, [f"user_id:{one}", f"user_id:{other}"])[0].identifiers == whole.identifiers
        for one, other in sure[:3]:
            (both,) = subjects_of(by_steps.project, [f"user_id:{one}"])
            assert {value for _, value in both.identifiers} == {one, other} and both.left_out == 0
        one, other = guesses[0]
        (alone,) = subjects_of(by_steps.project, [f"user_id:{one}"])
        request = go_on(by_steps.project, ask(by_steps.project, [alone], because="request 19"))
    assert request.is_done
    left = {str(user) for (user,) in by_steps.rows("select user_id from marts.fct_events")}
    assert str(one).partition(":")[2] not in left and str(other).partition(":")[2] in left
