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
from waymark.core.errors import MappingError, StorageError, WaymarkError
from waymark.core.home import Home
from waymark.core.settings import load_project
from waymark.core.warehouse import connect, rows
from waymark.identity import prepare_identity
from waymark.identity.linkage import EstimateReport, Estimation, Part, current_estimation, keep_estimation, put_in_force
from waymark.identity.linkage.estimation import PartEstimate
from waymark.identity.linkage.links import LINKS, STATE, prepare_links
from waymark.identity.probable import merge_probable
from waymark.ingestion import ingest_source, load_mapping, prepare_raw
from waymark.pipeline import linkage
from waymark.pipeline.erasure import _Erasure
from waymark.pipeline.linkage import compared_parts, estimate_links, links_of, update_links
from waymark.pipeline.progress import Notice, listening
from waymark.pipeline.steps import Run
from waymark.privacy import Secret
from waymark.privacy.audit import AuditLog
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


def even_estimation(parts: list[Part], fingerprint: str, seed: int = 7) -> Estimation:
    even = (0.125,) * 8
    told = tuple(PartEstimate(part, even, even, (), (), 0.01) for part in parts)
    return Estimation(told, 0.001, (), 60, ((-30.0, -30.0), (30.0, 30.0)), fingerprint, 5, seed)


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
    estimation = even_estimation(compared_parts(run.mappings), run.secret.fingerprint)
    keep_estimation(run.project.home, estimation)
    put_in_force(run.project.home, estimation)
    mapping = tmp_path / "shop.yml"
    mapping.write_text(mapping.read_text().replace("  town: {column: town, kind: place}\n", ""))
    other = Run(run.project, {"shop": load_mapping(mapping)}, run.secret, cast(Any, None), run.project.home.warehouse)
    with other.open_warehouse() as connection, pytest.raises(WaymarkError, match="other parts than the estimation"):
        update_links(other, connection)


def test_an_estimation_is_in_force_only_once_it_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    first, second = (EstimateReport(even_estimation([], "0" * 16, seed), 5, 0, 0.0, (), 1, {}, 0.0) for seed in (7, 8))
    linkage._put_in_force(home, first)
    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(AuditLog, "append", refuse)
        linkage._put_in_force(home, second)
    assert current_estimation(home, "0" * 16) == first.estimation
    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(linkage, "put_in_force", refuse)
        linkage._put_in_force(home, second)
    logged = [(entry.action, entry.details["before"], entry.details["after"]) for _, entry in AuditLog(home).lines() if entry]
    versions = first.estimation.version, second.estimation.version
    assert logged == [("links_estimated", None, versions[0]), ("links_estimated", *versions)]
    assert current_estimation(home, "0" * 16) == first.estimation


def refuse(*_: object, **__: object) -> None:
    raise StorageError("the disk is full")


def test_that_mlflow_fails_is_told_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.registry.Recorder", refuse)
    heard: list[object] = []
    with listening(heard.append):
        linkage._record(Home(tmp_path), EstimateReport(even_estimation([], "0" * 16), 5, 0, 0.0, (), 1, {}, 0.0))
    assert [type(told) for told in heard] == [Notice] and "the disk is full" in str(heard)


def test_links_end_where_nothing_is_compared_any_more(tmp_path: Path) -> None:
    """As a full refresh would have it: no table of linkage holds anything, no edge stands, and whoever was linked is looked at again."""
    home = Home(tmp_path)
    run = Run(cast(Any, SimpleNamespace(home=home)), {}, Secret(b"a secret for tests, long enough"), cast(Any, None), home.warehouse)
    with connect() as connection:
        prepare_identity(connection)
        prepare_links(connection, anew=True)
        connection.execute(f"""
            insert into {LINKS} values (1, 2, 0.99, 7, timestamp '2026-01-01', timestamp '2026-01-02'), (1, 2, 0.97, 7, timestamp '2026-01-02', NULL);
            insert into {STATE} values (7);
            insert into identity.edges
            select node_a, node_b, 'probable', valid_from, valid_from, 1, 'e', 'e', probability, 7 from {LINKS} where valid_to is null;
            create temp table seed_nodes as select 9 as node_id
        """)
        merge_probable(connection, links_of(run), threshold=0.95)
        assert rows(connection, "from temp.seed_nodes order by node_id") == [(1,), (2,), (9,)]
        assert [rows(connection, f"from {table}") for table in (LINKS, STATE, "identity.edges")] == [[], [], []]


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
