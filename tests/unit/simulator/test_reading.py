"""The demo project reads the world: its mapping fits the files, its rules name every event, and ingestion counts what the truth counts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from ml.simulator import DEFAULT_MECHANISMS, WorldSpec
from ml.simulator import catalogue as cat
from tests.conftest import REPOSITORY
from tests.unit.simulator.conftest import FORM, NAMES, World, make_world, parsed
from waymark.core.settings import Project, load_project
from waymark.core.warehouse import connect
from waymark.ingestion import ingest_source, load_mapping, prepare_raw
from waymark.privacy import load_secret

SOURCE = "waymark_world"
RULES = {
    "bad_occurred_at": {"broken_time"}, "bad_value": {"broken_value"}, "invalid_encoding": {"broken_encoding"},
    "malformed_row": {"broken_fields", "broken_quotes"}, "missing_event_type": {"broken_type"}, "too_far_in_future": {"skewed"},
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("reading")
    shutil.copytree(REPOSITORY / "examples" / "sources", root / "sources")
    shutil.copytree(REPOSITORY / "examples" / "demo", root / "demo", ignore=shutil.ignore_patterns(".waymark"))
    return load_project(root / "demo")


def test_every_event_has_one_stage_and_every_name_that_the_settings_use_occurs(project: Project) -> None:
    ours = {name for name, _ in cat.EVENTS if name != "none"}
    staged = [event for rule in project.settings.stages for event in rule.event_types]
    assert sorted(staged) == sorted(ours)
    used = {event for part in (project.settings.goals, project.settings.micro_conversions) for item in part for event in item.event_types}
    assert used <= ours


def test_the_mapping_renames_the_exports_own_names_and_reads_columns_that_exist(project: Project) -> None:
    mapping = load_mapping(project.mapping_path(SOURCE))
    assert mapping.events == {export: name for name, export in cat.EVENTS if export != name and export}
    assert {name for rule in (*mapping.columns.values(), *mapping.identifiers.values()) for name in rule.names} <= set(NAMES)


def test_rates_cover_the_window_for_every_currency_but_the_reporting_one(project: Project, world: World) -> None:
    _, *lines = project.rates_text.split()
    first = min(line.split(",")[0] for line in lines if line.split(",")[1] == "EUR")
    assert first < world.spec.start.isoformat()


def test_each_setting_says_whether_it_needs_a_full_refresh() -> None:
    text = (REPOSITORY / "examples" / "demo" / "waymark.yml").read_text()
    for section, settings in yaml.safe_load(text).items():
        if isinstance(settings, dict) and section not in {"sources", "engine"}:
            for name in settings:
                line = next(line for line in text.splitlines() if line.strip().startswith(f"{name}:"))
                assert "full refresh" in line, name


@pytest.mark.prove
def test_ingestion_counts_each_file_as_the_truth_does_and_knows_why_it_refused(project: Project, world: World) -> None:
    landing: Path = project.home.landing / SOURCE
    project.home.ensure()
    shutil.copytree(world.report.paths[0].parent, landing)
    with connect(project.home.warehouse) as connection:
        report = ingest_source(project, SOURCE, connection, load_secret(project))
        prepare_raw(connection, {SOURCE: load_mapping(project.mapping_path(SOURCE))}, project.home)
        rules = dict(connection.execute("select rule, count(*) from raw.quarantine group by rule order by rule").fetchall())
    found = {
        Path(file.file).name: {"accepted": file.rows_accepted, "duplicate": file.rows_duplicate, "quarantined": file.rows_quarantined} for file in report.files
    }
    true = {path.name: dict.fromkeys(("accepted", "duplicate", "quarantined"), 0) for path in world.report.paths}
    for cell in world.truth("dirt"):
        true[str(cell["file"])][str(cell["outcome"])] += int(str(cell["row_count"]))
    assert found == true
    assert rules == {rule: sum(world.report.rows_by_kind.get(kind, 0) for kind in kinds) for rule, kinds in RULES.items()}


PEOPLE = dict.fromkeys(("names", "households", "shared_devices", "placeholder_emails", "reused_order_ids", "second_accounts", "consents"), 0.7)


@pytest.mark.prove
def test_what_was_typed_into_forms_stops_at_the_door_but_where_a_mapping_lets_it_pass(project: Project, tmp_path: Path) -> None:
    """No column of the lake has a name, a street or a date of birth but the one that this mapping fills with family names; the shipped one has no such."""
    made = make_world(tmp_path, WorldSpec(customers=120, days=35, file_days=35, mechanisms={**DEFAULT_MECHANISMS, **PEOPLE}))
    rows = [row for lines in made.lines().values() for line in lines if (row := parsed(line, made.names))]
    words = sorted({row[name] for row in rows for name in FORM if name not in {"address_city", "postcode"} and len(row[name]) > 3})
    assert len(words) > 100
    for part in ("sources", "demo"):
        shutil.copytree(project.directory.parent / part, tmp_path / part, ignore=shutil.ignore_patterns(".waymark"))
    path = tmp_path / "sources" / f"{SOURCE}.yml"
    mapping = yaml.safe_load(path.read_text())
    mapping["columns"]["language"] = "family_name"
    path.write_text(yaml.safe_dump(mapping))
    own = load_project(tmp_path / "demo")
    own.home.ensure()
    shutil.copytree(made.report.paths[0].parent, own.home.landing / SOURCE)
    seen = set()
    with connect(own.home.warehouse) as connection:
        ingest_source(own, SOURCE, connection, load_secret(own))
        prepare_raw(connection, {SOURCE: load_mapping(path)}, own.home)
        relation = f"raw.{SOURCE}_events"
        described = connection.execute(f"select column_name from (describe {relation}) where column_type like '%VARCHAR%'").fetchall()
        for (column,) in described:
            cells = connection.execute(f"select distinct cast({column} as varchar) from {relation} where {column} is not null").fetchall()
            text = "\n".join(cell for (cell,) in cells)
            if any(word in text and re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", text) for word in words):
                seen.add(column)
    assert seen == {"language"} and len(described) > 30
