"""Real shops' files through ingestion alone: figures counted from the files by other means."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SHARED_DATA
from waymark.core.settings import load_project
from waymark.core.warehouse import Connection, connect, rows
from waymark.ingestion import IngestReport, ingest_source, load_mapping, prepare_raw
from waymark.privacy import Secret


def ingested(folder: Path, source: str, files: list[Path]) -> tuple[Connection, IngestReport]:
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "examples" / "sources" / f"{source}.yml", folder / "m.yml")
    listed = ", ".join(f"'{path}'" for path in files)
    (folder / "waymark.yml").write_text(f"name: t\nsources:\n  {source}: {{mapping: m.yml, files: [{listed}]}}\n")
    project = load_project(folder)
    project.home.ensure()
    connection = connect()
    prepare_raw(connection, {source: load_mapping(folder / "m.yml")}, project.home)
    return connection, ingest_source(project, source, connection, Secret(b"a secret for tests, long enough"))


def data_files(source: str) -> list[Path]:
    files = sorted((SHARED_DATA / source).glob("*.csv"))
    if not files:
        pytest.skip(f"the public data set {source} is not beside the checkout")
    return files


def test_shop_events_are_all_there_with_their_worth(tmp_path: Path) -> None:
    files = data_files("shop_events")
    said: Counter[str] = Counter()
    revenue = Decimal(0)
    for path in files:
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                said[row["event_name"]] += 1
                if row["event_name"] == "checkout_completed":
                    revenue += Decimal(str(json.loads(row["event_data"])["revenue"]))
    connection, report = ingested(tmp_path / "p", "shop_events", files)
    assert report.rows_read == 36_546 == said.total() == report.rows_accepted + report.rows_duplicate + report.rows_quarantined
    assert rows(connection, "select count(*), sum(value) from raw.shop_events_events where event_type = 'order_completed'") == [(213, revenue)]
    assert revenue == Decimal("209178.40") and said["checkout_completed"] == 213
    assert rows(connection, "select count(*) from raw.shop_events_events where anonymous_id is null") == [(1_577,)]
    log = rows(connection, "select columns_renamed, columns_missing from raw.ingestion_log order by file")
    assert log == [(None, None)] * 4 + [("clientId for client_id", None)] * 5 + [("clientId for client_id", "referrer")]
    assert rows(connection, "select count(*) from raw.shop_events_events where contains(properties, 'user_email')") == [(0,)]


def test_rees46_is_accounted_for_and_its_cut_last_line_costs_itself(tmp_path: Path) -> None:
    connection, report = ingested(tmp_path / "p", "rees46", data_files("rees46"))
    assert (report.rows_read, report.rows_accepted, report.rows_duplicate, report.rows_quarantined) == (17_435, 17_429, 5, 1)
    assert rows(connection, "select rule, row_number from raw.quarantine") == [("malformed_row", 17_435)]
    assert rows(connection, "select count(*) from raw.rees46_events where session_key is null or (value is not null and event_type <> 'order_completed')") == [
        (0,)
    ]


@pytest.mark.prove
def test_days_in_any_order_give_the_same_events(tmp_path: Path) -> None:
    files = data_files("shop_events")[:3]
    found = []
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        project_folder = tmp_path / str(number)
        connection, _ = ingested(project_folder, "shop_events", [files[order[0]]])
        for index in order[1:]:
            text = (project_folder / "waymark.yml").read_text()
            (project_folder / "waymark.yml").write_text(text.replace("files: [", f"files: ['{files[index]}', "))
            ingest_source(load_project(project_folder), "shop_events", connection, Secret(b"a secret for tests, long enough"))
        sums = "count(*), sum(md5_number_lower(event_id)::hugeint), sum(md5_number_lower(content_digest)::hugeint)"
        found.append(rows(connection, f"select {sums} from raw.shop_events_events") + rows(connection, "from raw.run_clock"))
    assert found[0] == found[1]
