"""The golden cases' one warehouse: parsed once, filled and run once per arrangement."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.harness import TinyWarehouse

HERE = Path(__file__).resolve().parent
CASES = sorted(path.parent.name for path in HERE.glob("*/events.csv"))
SETTINGS = {
    "time": {"reporting_timezone": "Europe/Zurich"},
    "identity": {"max_neighbours": 3},
    "counting": {"bot_user_agents": ["shop monitor"]},
    "money": {"rates": "rates.csv"},
    "goals": [{"name": "purchase", "event_types": ["order_completed"]}, {"name": "signup", "event_types": ["account_created", "trial_started"]}],
    "micro_conversions": [{"name": "newsletter", "event_types": ["newsletter_subscribed"]}],
    "channels": [{"channel": "partners", "field": "utm_source", "pattern": "^partner-[a-z]+$"}],
}


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> TinyWarehouse:
    folder = tmp_path_factory.mktemp("golden")
    (folder / "rates.csv").write_text("valid_from,currency,rate\n2025-01-01,EUR,1.05\n2025-03-10,EUR,1.10\n")
    return TinyWarehouse(folder, SETTINGS)


@pytest.fixture(scope="session")
def files() -> list[Path]:
    return [HERE / case / "events.csv" for case in CASES]
