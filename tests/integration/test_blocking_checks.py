"""What a failed blocking check stops, in real runs: training and publishing; the last good snapshot stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.conftest import Ran, run_project
from waymark.core.warehouse import connect

CUSTOMERS, WEEKS = 520, 6
MAPPING = """
source: shop
format: csv
columns: {event_id: id, occurred_at: at, event_type: what, anonymous_id: visitor, value: {column: value, optional: true}}
currency: USD
events: {bought: order_completed}
"""


def _file(directory: Path, name: str, rows: list[str]) -> None:
    (directory / "data").mkdir(parents=True, exist_ok=True)
    (directory / "data" / name).write_text("\n".join(["id,at,what,visitor,value", *rows]) + "\n")


def _project(directory: Path) -> Path:
    """A shop whose visitors come back every week: enough points for the rules that compare weeks."""
    _file(directory, "first.csv", [f"e{v}_{w},{_day(w)}T10:00:00Z,page_viewed,v{v}," for v in range(CUSTOMERS) for w in range(WEEKS)])
    (directory / "shop.yml").write_text(MAPPING)
    _settings(directory)
    return directory


def _day(week: int, weekday: int = 1) -> str:
    day = 1 + 7 * week + weekday  # 2 February 2026 is a Monday
    return f"2026-02-{day:02d}" if day <= 28 else f"2026-03-{day - 28:02d}"


def _settings(directory: Path, quality: str = "") -> None:
    sources = "sources: {shop: {mapping: shop.yml, files: ['data/*']}}"
    (directory / "waymark.yml").write_text(f"name: small\n{sources}\nengine: {{memory_limit: 1GB}}\nquality: {{{quality}}}\n")


def _stages(ran: Ran) -> set[str]:
    """The stages that the run told of."""
    return set(re.findall(r"^  (checks: \w+|propensity|scores|publish)\b", ran.output + ran.errors, re.MULTILINE))


@pytest.mark.prove
def test_a_failed_blocking_check_stops_training_and_publishing_and_the_last_snapshot_stands(tmp_path: Path) -> None:
    directory = _project(tmp_path / "project")
    good = run_project(directory)
    assert good.code == 0, good.errors
    assert {"checks: raw", "checks: features", "propensity", "publish"} <= _stages(good)
    published, trained = good.home.published.read_bytes(), (good.home.mlflow / "last_training.json").read_bytes()
    assert good.value("select count(*) from marts.fct_events") == CUSTOMERS * WEEKS

    # A raw event worth more than is let.
    views = (f"f{v},{_day(WEEKS)}T10:00:00Z,page_viewed,v{v}," for v in range(CUSTOMERS))
    _file(directory, "second.csv", [f"b1,{_day(WEEKS)}T11:00:00Z,bought,v1,19.90", *views])
    _settings(directory, "max_value: 10")
    raw = run_project(directory)
    assert raw.code == 1 and "values_are_plausible (1 rows: " in raw.errors and "the last good snapshot stands" in raw.errors, raw.errors
    assert "19.9" not in raw.output + raw.errors and "Traceback" not in raw.errors
    assert _stages(raw) == {"checks: raw"}

    # Features of the latest point that differ from the weeks before it, however little.
    _settings(directory, "max_null_rate_shift: 0.000000001")
    features = run_project(directory)
    assert features.code == 1 and "null_rates_are_steady" in features.errors, features.errors
    assert "checks: features" in _stages(features) and not {"propensity", "scores", "publish"} & _stages(features)

    for name, before in ((good.home.published, published), (good.home.mlflow / "last_training.json", trained)):
        assert name.read_bytes() == before, name
    with connect(good.home.warehouse, read_only=True) as connection:  # nothing is lost: the next run that passes takes it in
        assert connection.execute("select count(*) from raw.shop_pending").fetchone() == (CUSTOMERS + 1,)
        broken = "select rule, failing_count from quality.check_results where status = 'failed' and is_blocking order by checked_at"
        kept = connection.execute(broken).fetchall()
    assert kept[0] == ("values_are_plausible", 1) and "null_rates_are_steady" in {rule for rule, _ in kept}
