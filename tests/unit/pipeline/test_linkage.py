"""Probable links in a project: from files through the door to `identity.probable_links`, estimated when asked for."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.identity.linkage.people import forms_of
from waymark.core.errors import MappingError, WaymarkError
from waymark.core.settings import load_project
from waymark.core.warehouse import connect, rows
from waymark.identity.linkage import Estimation, keep_estimation
from waymark.identity.linkage.estimation import PartEstimate
from waymark.ingestion import ingest_source, load_mapping, prepare_raw
from waymark.pipeline.erasure import _Erasure
from waymark.pipeline.linkage import compared_parts, estimate_links, update_links
from waymark.pipeline.steps import Run
from waymark.privacy import Secret
from waymark.privacy.requests import Working, new_request

MAPPING = """
source: {source}
format: csv
columns: {{event_id: id, occurred_at: at, event_type: {{const: signed_up}}, user_id: node}}
compare:
  given: {{column: given, kind: name}}
  family: {{column: family, kind: {kind}, household: true}}
  street: {{column: street, kind: street}}
  town: {{column: town, kind: place}}
  birth: {{column: birth, kind: date}}
"""
COLUMNS = ("given", "family", "street", "town", "birth")


def make_run(folder: Path, count: int) -> tuple[Run, dict[str, int]]:
    """A project whose events were taken in and typed; the account of each person's identifiers."""
    folder.mkdir(exist_ok=True)
    (folder / "shop.yml").write_text(MAPPING.format(source="shop", kind="name"))
    (folder / "waymark.yml").write_text("name: tiny\nsources: {shop: {mapping: shop.yml, files: ['people.csv']}}\n")
    forms, person = forms_of(count, seed=21)
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "at", "node", *COLUMNS])
        for place, form in enumerate(forms):
            writer.writerow([place, f"2026-01-01 10:{form.at // 60:02d}:{form.at % 60:02d}", form.node, *[form.texts.get(part, "") for part in COLUMNS]])
    project = load_project(folder)
    project.home.ensure()
    mapping, secret = load_mapping(folder / "shop.yml"), Secret(b"a secret for tests, long enough")
    with connect(project.home.warehouse) as connection:
        prepare_raw(connection, {"shop": mapping}, project.home)
        ingest_source(project, "shop", connection, secret)
        connection.execute("""
            create schema if not exists intermediate;
            create table intermediate.int_events as
            select event_id, occurred_at, identifiers, true as is_counted,
                list_transform(identifiers, lambda i: (md5_number_lower(i.type || '|' || i.value) >> 1)::bigint) as node_ids
            from raw.shop_events;
            create schema staging; create view staging.stg_pending_events as from raw.shop_pending
        """)
    return Run(project, {"shop": mapping}, secret, cast(Any, None), project.home.warehouse), {str(node): who for node, who in person.items()}


@pytest.mark.prove
def test_files_become_links_when_somebody_asks(tmp_path: Path) -> None:
    run, person = make_run(tmp_path, 400)
    with run.open_warehouse() as connection:
        assert update_links(run, connection) is None
    report = estimate_links(run)
    assert report.records == len(person)
    line = json.loads((run.project.home.root / "linkage" / "estimations.jsonl").read_text())
    assert (line["version"], line["number"]) == (report.estimation.version, report.estimation.number)
    with run.open_warehouse() as connection:
        found = update_links(run, connection)
        again = update_links(run, connection, pending_only=True)
        assert found is not None and again is not None and (found.links, found.records) == (again.links, again.records) and found.links > 80
        pairs = rows(connection, """
            select split_part(a.value, ':', 2), split_part(b.value, ':', 2) from identity.probable_links
            join (select unnest(node_ids) as node, unnest(identifiers).value as value from intermediate.int_events) a on a.node = node_a
            join (select unnest(node_ids) as node, unnest(identifiers).value as value from intermediate.int_events) b on b.node = node_b
            where probability >= 0.95 order by 1, 2
        """)  # fmt: skip
    right = [person[str(a)] == person[str(b)] for a, b in pairs]
    assert sum(right) / len(right) > 0.97 and sum(right) > 80


def test_mappings_that_compare_other_parts_than_the_estimation_are_refused(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, 5)
    even = (0.125,) * 8
    parts = tuple(PartEstimate(part, even, even, (), (), 0.01) for part in compared_parts(run.mappings))
    keep_estimation(run.project.home, Estimation(parts, 0.001, (), 60, ((-30.0, -30.0), (30.0, 30.0)), run.secret.fingerprint, 5, 7))
    mapping = tmp_path / "shop.yml"
    mapping.write_text(mapping.read_text().replace("  town: {column: town, kind: place}\n", ""))
    other = Run(run.project, {"shop": load_mapping(mapping)}, run.secret, cast(Any, None), run.project.home.warehouse)
    with other.open_warehouse() as connection, pytest.raises(WaymarkError, match="other parts than the estimation"):
        update_links(other, connection)


@pytest.mark.parametrize(("compares", "why"), [(True, "an estimation needs 200"), (False, "no mapping compares anything")])
def test_an_erasure_after_which_nothing_can_be_estimated_removes_every_estimation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compares: bool, why: str
) -> None:
    run, _ = make_run(tmp_path, 5)
    even = (0.125,) * 8
    parts = tuple(PartEstimate(part, even, even, (), (), 0.01) for part in compared_parts(run.mappings))
    for records in (5, 6):
        keep_estimation(run.project.home, Estimation(parts, 0.001, (), 60, ((-30.0, -30.0), (30.0, 30.0)), run.secret.fingerprint, records, 7))
    if not compares:
        mapping = tmp_path / "shop.yml"
        mapping.write_text(mapping.read_text().partition("compare:")[0])
        run = Run(run.project, {"shop": load_mapping(mapping)}, run.secret, cast(Any, None), run.project.home.warehouse)
    forgotten: list[tuple[object, ...]] = []
    monkeypatch.setitem(sys.modules, "ml.registry", SimpleNamespace(forget_trainings=lambda *told: forgotten.append(told)))
    erasure = _Erasure(run, new_request(1, "asked"), Working(compared=True, since="2026-01-01"))
    erasure._estimate()
    assert why in str(erasure.found["estimation_removed"]) and len(forgotten) == 1
    assert [path.name for path in (run.project.home.root / "linkage").iterdir()] == []
    with run.open_warehouse() as connection:
        assert update_links(run, connection) is None, "and the rebuild goes on"
    erasure._estimate()


def test_two_sources_that_say_different_things_of_a_part_are_refused(tmp_path: Path) -> None:
    for source, kind in (("one", "name"), ("two", "place")):
        (tmp_path / f"{source}.yml").write_text(MAPPING.format(source=source, kind=kind))
    mappings = {source: load_mapping(tmp_path / f"{source}.yml") for source in ("one", "two")}
    assert len(compared_parts({"one": mappings["one"]})) == 5
    with pytest.raises(MappingError, match=r"compare.family: 'two' and 'one' say different things"):
        compared_parts(mappings)


def test_nobody_is_known_before_a_run(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, 5)
    with run.open_warehouse() as connection:
        connection.execute("drop table intermediate.int_events")
    with pytest.raises(WaymarkError, match="no run has been finished"):
        estimate_links(run)
