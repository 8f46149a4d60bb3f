"""What a person does in the pages of `waymark dev`, done by a headless Chromium on a small world: what is asserted is what stands on the screen."""

from __future__ import annotations

import csv
import gzip
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from tests.integration.conftest import demo_project, run_project, sql_json, waymark
from tests.integration.dev_process import DAGSTER, DOCS, MLFLOW, PATIENCE_SECONDS, Dev, dev
from tests.proof.browser import Looking, looking

CUSTOMERS = 600
_RUNS = "query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results { runId status jobName } } } }"


@dataclass(frozen=True)
class Pages:
    """The running pages of a project that ran and trained twice, and a browser to look at them."""

    directory: Path
    dev: Dev
    looking: Looking

    @property
    def dagster(self) -> str:
        return self.dev.pages[DAGSTER]

    def runs(self, **filters: object) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.dev.graphql(_RUNS, filter=filters)["runsOrError"]["results"]
        return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    pictures = folder / "pictures"
    pictures.mkdir()
    with looking(pictures) as browser:  # first: where there is none, nothing else needs to be made
        directory = demo_project(folder / "project")
        _set(directory, "min_positives: 200 ", "min_positives: 20 ")
        _set(directory, "sensor_seconds: 60 ", "sensor_seconds: 5 ")
        assert waymark("world", "--project", directory, "--customers", CUSTOMERS).returncode == 0
        ran = run_project(directory)
        assert ran.code == 0, ran.errors
        _set(directory, "seed: 7 ", "seed: 8 ")
        trained = waymark("train", "--project", directory)
        assert trained.returncode == 0 and "version 2" in trained.stdout, trained.stdout + trained.stderr
        with dev(directory, folder / "said.txt") as started:
            started.until("All up")
            yield Pages(directory, started, browser)
            assert started.stop(signal.SIGINT) == 0, started.said


@pytest.fixture(autouse=True)
def _pictures(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    record_property("pictures", str(pages.looking.folder))


def _set(directory: Path, old: str, new: str) -> None:
    settings = directory / "waymark.yml"
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))


def _drop(directory: Path, name: str, **columns: str) -> int:
    """Puts a file of the world's first orders under new event ids into the landing folder; columns: what differs. Returns its rows."""
    landing = directory / ".waymark" / "landing" / "waymark_world"
    columns_of, rows = _orders(landing, 5)
    with gzip.open(landing / f".{name}", "wt", newline="") as file:
        written = csv.DictWriter(file, columns_of)
        written.writeheader()
        written.writerows({**row, **columns, "event_id": f"{name}-{number}"} for number, row in enumerate(rows))
    (landing / f".{name}").rename(landing / f"{name}.csv.gz")
    return len(rows)


def _orders(landing: Path, count: int) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of the world's files, and its first orders."""
    rows: list[dict[str, str]] = []
    for path in sorted(landing.glob("events_*.csv.gz")):
        with gzip.open(path, "rt", newline="") as file:
            read = csv.DictReader(file)
            rows += [row for row in read if row["event_name"] == "order_placed" and row["value"]]
        if len(rows) >= count:
            return list(read.fieldnames or ()), rows[:count]
    raise AssertionError("the world has too few orders")


def _ended(pages: Pages, before: set[str]) -> dict[str, Any]:
    """The first run that is not among those before, once it has ended."""
    end = monotonic() + PATIENCE_SECONDS
    while True:
        new = [run for run in pages.runs() if run["runId"] not in before]
        if new and new[-1]["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
            return new[-1]
        assert monotonic() < end, new
        sleep(0.5)


def _steps(pages: Pages, run_id: str) -> dict[str, str]:
    """How each step of a run ended."""
    return {step["stepKey"]: step["status"] for step in pages.dev.graphql(_STEPS, run=run_id)["runOrError"]["stepStats"]}


@pytest.mark.prove
def test_the_whole_graph_is_seen_with_its_groups(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    nodes = pages.dev.graphql("{ assetNodes { groupName assetKey { path } } }")["assetNodes"]
    groups = sorted({node["groupName"] for node in nodes})
    with pages.looking.at(f"{pages.dagster}/asset-groups") as page:
        for group in groups:
            page.locator(".group").get_by_text(group, exact=True).wait_for()
        pages.looking.keep(page, "graph")
        assert page.locator(".group").count() == len(groups) == 13
    opened = ",".join(f"global@global:{group}" for group in groups)
    with pages.looking.at(f"{pages.dagster}/asset-groups?expanded={opened}", width=2400, height=5000) as page:  # so high that all of it is in sight
        page.locator(".group").get_by_text("publishing", exact=True).wait_for()
        page.wait_for_timeout(1000)
        seen = [re.sub(r"\s", "", text) for text in page.locator("foreignObject").all_text_contents()]
        names = [str(node["assetKey"]["path"][-1]) for node in nodes]
        # Long names are cut in their middle.
        assert [name for name in names if not any(re.fullmatch(re.escape(text).replace("…", ".*"), name) for text in seen)] == []
        pages.looking.keep(page, "graph_with_every_asset")
    record_property("claim", "In the browser: the whole graph from files to snapshot, every group and every asset of it on the page")
    record_property("n", f"{len(groups)} groups, {len(nodes)} assets")


@pytest.mark.prove
def test_an_asset_shows_its_checks_its_aggregates_and_its_chart(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    [node] = pages.dev.graphql(_CHECKS, keys=[{"path": ["marts", "fct_journeys"]}])["assetNodes"]
    names = sorted(check["name"] for check in node["assetChecksOrError"]["checks"])
    with pages.looking.at(f"{pages.dagster}/assets/marts/fct_journeys?view=overview", height=2600) as page:
        for text in ("One row per journey", "data-engineering", "Channel of the first touchpoint.", "touches, mean"):
            page.get_by_text(text).first.wait_for()
        chart = page.locator("img[alt='rows a day']")
        chart.wait_for()
        assert chart.evaluate("picture => picture.naturalWidth") > 300
        page.locator("table", has_text="touches, mean").get_by_text("converted", exact=True).first.wait_for()
        pages.looking.keep(page, "asset")
        documentation = page.get_by_role("link", name="model.waymark.fct_journeys").first.get_attribute("href")
    assert documentation and documentation.startswith(pages.dev.pages[DOCS])
    with pages.looking.at(documentation) as page:
        page.get_by_role("heading", name="fct_journeys").first.wait_for()
    with pages.looking.at(f"{pages.dagster}/assets/marts/fct_journeys?view=checks") as page:
        page.get_by_text(f"Checks ({len(names)})").wait_for()
        page.get_by_text("is one of converted, open, lapsed").wait_for()
        page.get_by_text("blocking", exact=True).first.wait_for()
        assert page.get_by_text("Succeeded", exact=True).count() >= len(names)
        pages.looking.keep(page, "asset_checks")
    for name in _OTHERS:
        with pages.looking.at(f"{pages.dagster}/assets/{name}?view=overview") as page:
            page.get_by_text("Latest materialization").first.wait_for()
            page.get_by_role("row").nth(2).wait_for()
            for missing in ("Never materialized", "No description found", "No metadata found"):
                assert page.get_by_text(missing).count() == 0, (name, missing)
            pages.looking.keep(page, f"asset_{name.replace('/', '_')}")
    record_property("claim", "In the browser: an asset's description, owner, columns, preview, chart and checks are rendered, and its link leads on")
    record_property("n", f"{1 + len(_OTHERS)} assets, {len(names)} checks")


@pytest.mark.prove
def test_thirty_days_are_stated_anew_from_the_partition_dialog_in_one_run(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    first, last = date(2026, 3, 2), date(2026, 3, 31)
    with pages.looking.at(f"{pages.dagster}/assets/marts/fct_sessions?view=partitions") as page:
        page.get_by_role("button", name="Materialize…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Show all partitions").click()
        days = dialog.locator("input[placeholder^='ex: ']")
        days.fill(f"[{first}...{last}]")
        days.press("Enter")
        dialog.get_by_text("30 partitions").first.wait_for()
        pages.looking.keep(page, "backfill_dialog")
        dialog.get_by_role("button", name="Launch backfill").click()
        made = page.locator("a[href*='/runs/b/']").first
        made.wait_for(state="attached")
        backfill = str(made.get_attribute("href")).split("/runs/b/")[1].split("?")[0]
        page.goto(f"{pages.dagster}/runs/b/{backfill}")
        page.get_by_text("100% completed").wait_for(timeout=PATIENCE_SECONDS * 1000)
        page.get_by_text("Succeeded", exact=True).nth(1).wait_for()  # the first is a column's head
        pages.looking.keep(page, "backfill")
    [run] = pages.runs(tags=[{"key": "dagster/backfill", "value": backfill}])
    assert run["status"] == "SUCCESS"
    record_property("claim", "In the browser: thirty days of a mart, chosen in the partition dialog, are stated anew by one run that succeeds")
    record_property("n", f"{(last - first).days + 1} days")


@pytest.mark.prove
def test_a_failed_blocking_check_is_seen_and_what_follows_it_is_not_run(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    before = {run["runId"] for run in pages.runs()}
    _drop(pages.directory, "too_dear", value="5000000")
    try:
        with pages.looking.at(f"{pages.dagster}/locations/waymark/jobs/refresh") as page:
            page.get_by_role("button", name=re.compile("Materialize all")).click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_role("button", name="Latest").click()
            dialog.get_by_role("button", name="Launch 1 run").click()
            dialog.wait_for(state="hidden")
            run = _ended(pages, before)
        assert run["status"] == "FAILURE"
        steps, whole = _steps(pages, run["runId"]), _steps(pages, pages.runs(statuses=["SUCCESS"])[-1]["runId"])
        followers = {"events", "identity", "journeys", "models__propensity", "published__snapshot"}
        assert steps["raw_checks"] == "FAILURE" and {whole[name] for name in followers} == {"SUCCESS"}
        assert {steps.get(name, "SKIPPED") for name in followers} == {"SKIPPED"}, steps
        with pages.looking.at(f"{pages.dagster}/runs/{run['runId']}") as page:
            page.get_by_text("Failure", exact=True).first.wait_for()
            page.get_by_text("Errored (1)").wait_for()
            page.get_by_text("raw_checks", exact=True).first.wait_for()
            page.get_by_text(re.compile("STEP_SKIPPED|[Nn]ot executing")).first.wait_for()
            pages.looking.keep(page, "failed_run")
        with pages.looking.at(f"{pages.dagster}/assets/raw/waymark_world_events?view=checks&checkDetail=values_are_plausible") as page:
            page.get_by_text("Failed", exact=True).first.wait_for()
            page.get_by_text("blocking", exact=True).first.wait_for()
            pages.looking.keep(page, "failed_check")
    finally:
        _set(pages.directory, "max_value: 1000000 ", "max_value: 10000000 ")
    record_property("claim", "In the browser: a value too large fails a blocking check, and every step after it is not run")
    record_property("n", f"1 value, {len(followers)} steps")


@pytest.mark.prove
def test_the_sensor_switched_on_takes_in_a_file_that_is_dropped(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    before = {run["runId"] for run in pages.runs()}
    with pages.looking.at(f"{pages.dagster}/locations/waymark/sensors/landing_files") as page:
        switch = page.get_by_role("row", name="Running").first.locator("svg").first
        switch.click()
        page.get_by_role("row", name="Running").first.get_by_role("checkbox", checked=True).wait_for(state="attached")
        count = _drop(pages.directory, "dropped")
        page.get_by_text("1 run requested").first.wait_for()
        pages.looking.keep(page, "sensor")
        run = _ended(pages, before)
        assert run["status"] == "SUCCESS" and run["jobName"] == "refresh"
        switch.click()
        page.get_by_role("row", name="Running").first.get_by_role("checkbox", checked=False).wait_for(state="attached")
    with pages.looking.at(f"{pages.dagster}/runs/{run['runId']}") as page:
        page.get_by_text("Success", exact=True).first.wait_for()
        page.get_by_text(re.compile(r"^Succeeded \([1-9]")).first.wait_for()
        pages.looking.keep(page, "sensed_run")
    taken = sql_json(pages.directory, "select rows_accepted from raw.ingestion_log where file like '%dropped%'")
    assert taken == [{"rows_accepted": count}]
    record_property("claim", "In the browser: the sensor of the landing files is switched on; a file dropped after that is taken in by a run that succeeds")
    record_property("n", f"1 file, {count} rows")


@pytest.mark.prove
def test_mlflow_compares_two_trainings_and_shows_plots_and_card(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    root = pages.dev.pages[MLFLOW]
    with pages.looking.at(f"{root}/#/experiments/1/runs?workflowType=machine_learning") as page:
        champion = page.get_by_role("link", name=re.compile("^v1 promoted"))
        run_id = str(champion.get_attribute("href")).rsplit("/", 1)[1]
        page.get_by_role("checkbox", name="Select all runs").check()
        page.get_by_role("button", name="Compare").first.click()
        page.wait_for_url("**/compare-runs**")
        chart = page.locator(".js-plotly-plot .main-svg").first
        chart.wait_for()
        pages.looking.keep(page, "mlflow_compare")
    artifacts = f"{root}/#/experiments/1/runs/{run_id}/artifacts"
    with pages.looking.at(f"{artifacts}/plots/reliability.png?workflowType=machine_learning") as page:
        page.wait_for_function("() => [...document.images].some(picture => picture.naturalWidth > 500)")
        pages.looking.keep(page, "mlflow_plot")
    with pages.looking.at(f"{artifacts}/card.md?workflowType=machine_learning") as page:
        page.get_by_role("heading", name="Propensity to convert").wait_for()
        pages.looking.keep(page, "mlflow_card")
    record_property("claim", "In the browser: MLflow compares two trainings by charts, and shows a training's plots and the model's card")


@pytest.mark.prove
def test_dbt_shows_the_lineage_of_the_journeys(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    with pages.looking.at(f"{pages.dev.pages[DOCS]}/#!/model/model.waymark.fct_journeys") as page:
        page.get_by_role("heading", name="fct_journeys").first.wait_for()
        page.locator("[title='View Lineage Graph']:visible, [data-original-title='View Lineage Graph']:visible").first.click()
        page.wait_for_function(_DRAWN)
        pages.looking.keep(page, "dbt_lineage")
    record_property("claim", "In the browser: dbt's documentation draws the lineage of fct_journeys")


@pytest.mark.prove
def test_no_page_asks_anything_of_another_machine(pages: Pages, record_property: Callable[[str, object], None]) -> None:
    seen = [pages.dagster, f"{pages.dagster}/asset-groups", f"{pages.dev.pages[MLFLOW]}/#/experiments", pages.dev.pages[DOCS]]
    for address in seen:
        with pages.looking.at(address) as page:
            page.wait_for_timeout(2000)
    assert pages.looking.foreign == set()
    record_property("claim", "In the browser: none of the pages that were looked at asks anything of another machine")


_STEPS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { stepStats { stepKey status } } } }"
# Whether anything is drawn on a canvas of the page.
_DRAWN = """() => [...document.querySelectorAll('canvas')].some(
    one => one.width && one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some(value => value))"""
_OTHERS = ("raw/waymark_world_events", "identity/memberships", "models/propensity", "quality/check_results", "published/snapshot")
_CHECKS = "query($keys: [AssetKeyInput!]) { assetNodes(assetKeys: $keys) { assetChecksOrError { ... on AssetChecks { checks { name blocking } } } } }"
